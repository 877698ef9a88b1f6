"""Owns the proof of the functions that policies have beyond CEL's own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy import cel
from proxy.errors import TooLarge
from proxy.policy.functions import table
from proxy.terms import Finding
from tests.policy.written import FUNCTIONS


def evaluated(expression: str, budget: int = 10_000) -> object:
    """Evaluate an expression with our functions."""
    return cel.compile(expression, functions=table(FUNCTIONS)).evaluate({}, cel.Budget(budget))


def test_tokens_counts_with_what_config_gave() -> None:
    """tokens() is the tokenizer that was handed in."""
    assert 3 == evaluated("tokens('one two three')")


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        pytest.param(
            "pii('🙂 a@b.c sk-1')",
            [{"kind": "email", "text": "a@b.c", "start": 2, "end": 7, "score": 1.0}],
            id="pii",
        ),
        pytest.param(
            "secrets('a@b.c sk-1')",
            [{"kind": "api_key", "text": "sk-1", "start": 6, "end": 10, "score": 1.0}],
            id="secrets",
        ),
        pytest.param("pii('nothing')", [], id="nothing"),
        pytest.param("pii('a@b.c').exists(f, f.kind == 'email' && f.score > 0.5)", True, id="in a condition"),
    ],
)
def test_pii_and_secrets_tell_what_their_guards_find(expression: str, found: object) -> None:
    """Each function gives the findings of its own guard, with the text that they are about."""
    assert found == evaluated(expression)


def test_a_search_that_fails_is_an_error() -> None:
    """What a guard raises is one CelError, and never "nothing found"."""

    def broken(text: str) -> list[Finding]:
        raise KeyError(text)

    functions = table(replace(FUNCTIONS, find=broken))

    with pytest.raises(cel.CelError, match="cannot be searched: KeyError"):
        cel.compile("pii('x')", functions=functions).evaluate({}, cel.Budget(10_000))


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        pytest.param(
            "claims('it is $5')",
            [{"kind": "money", "text": "$5", "start": 6, "end": 8, "score": 0.9}],
            id="claims",
        ),
        pytest.param(
            "ungrounded('$5 or $6', ['$5', ''])",
            [{"kind": "money", "text": "$6", "start": 6, "end": 8, "score": 0.9}],
            id="ungrounded",
        ),
        pytest.param("ungrounded('$5', ['it is $5'])", [], id="grounded"),
        pytest.param("ungrounded('$5', []).map(c, c.kind)", ["money"], id="no evidence"),
    ],
)
def test_claims_and_what_supports_them_can_be_asked_for(expression: str, found: object) -> None:
    """A policy chooses its own evidence: a claim that none of it supports is listed."""
    assert found == evaluated(expression)


def test_what_is_too_long_to_judge_is_an_error() -> None:
    """A guard that refuses a text says why."""

    def refusing(text: str) -> list[Finding]:
        raise TooLarge("no", code="too_long")

    functions = table(replace(FUNCTIONS, claims=refusing))

    with pytest.raises(cel.CelError, match="cannot be searched: too_long"):
        cel.compile("claims('x')", functions=functions).evaluate({}, cel.Budget(10_000))


@pytest.mark.parametrize("call", ["pii(t)", "secrets(t)", "claims(t)", "ungrounded(t, [])", "ungrounded('', [t])"])
def test_a_search_costs_what_it_takes_at_most(call: str) -> None:
    """Four units for each microsecond that the guard says beforehand; without them nothing is searched."""
    program, text = cel.compile(call, variables={"t"}, functions=table(FUNCTIONS)), "x" * 100
    enough, short = cel.Budget(410), cel.Budget(399)

    program.evaluate({"t": text}, enough)

    assert 0 <= enough.left <= 10
    with pytest.raises(cel.CelError, match="budget"):
        program.evaluate({"t": text}, short)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("pii(dyn(5))", "no_such_overload", id="pii of no text"),
        pytest.param("ungrounded('x', dyn('x'))", "no_such_overload", id="evidence is no list"),
        pytest.param("ungrounded('x', [dyn(5)])", "no_such_overload", id="evidence is no text"),
        pytest.param("tokens(dyn(5))", "no_such_overload", id="not a text"),
        pytest.param(f"tokens('{'x' * 3000}')", "budget", id="too long for the budget"),
    ],
)
def test_functions_take_texts_and_are_paid_for(expression: str, kind: str) -> None:
    """A text costs budget by its length; anything else is an error."""
    with pytest.raises(cel.CelError) as raised:
        evaluated(expression, budget=200)

    assert kind == raised.value.kind


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sentences('One. Two!')", ["One. ", "Two!"]),
        ("firstSentences('One. Two!', 1)", "One."),
        ("size(sentences('')) == 0", True),
    ],
)
def test_sentences_are_told_apart(expression: str, expected: object) -> None:
    """They are counted and cut where a reader would end them."""
    assert expected == evaluated(expression)


@pytest.mark.parametrize(
    "expression", ["firstSentences(1, 1)", "firstSentences('a', '1')", "firstSentences('a', true)"]
)
def test_sentences_are_of_a_text(expression: str) -> None:
    """Anything else is an error."""
    with pytest.raises(cel.CelError, match="takes a text and a whole number"):
        evaluated(expression)


def test_schema_ok_takes_a_schema_as_a_map() -> None:
    """The schema is written in the expression."""
    assert True is evaluated("schemaOk({'a': 1}, {'required': ['a']}) && !schemaOk({}, {'required': ['a']})")
