"""Owns the proof of proxy/policy/question.py."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.policy.evaluation import MOST_SPANS
from proxy.policy.pattern import Pattern
from proxy.policy.search import Searched, Sought
from proxy.terms import Facts, Finding, Phase, Result, Verdict
from tests.policy.written import called, compiled, facts, policy, replied, request

EMAIL: dict[str, Any] = {"action": "mask", "kinds": ["email"]}
SAID = facts(request=request("one", "two"))
FIND = Finding(guard="pii", label="email", start=0, end=3)


@pytest.mark.parametrize(
    ("entries", "phase", "known", "expected"),
    [
        pytest.param([EMAIL, EMAIL], Phase.REQUEST, SAID, [Sought("one"), Sought("two")], id="each text once"),
        pytest.param(
            [{"action": "mask", "pattern": "x"}, {"action": "mask", "pattern": "x"}],
            Phase.REQUEST,
            SAID,
            [Sought("one", Pattern("x")), Sought("two", Pattern("x"))],
            id="by a pattern",
        ),
        pytest.param([{**EMAIL, "when": "request.stream"}], Phase.REQUEST, SAID, [], id="no condition holds"),
        pytest.param([{**EMAIL, "when": "1 / 0 == 1"}], Phase.REQUEST, SAID, [], id="a condition fails"),
        pytest.param([{"when": "true"}], Phase.REQUEST, SAID, [], id="no rule searches"),
        pytest.param(
            [{"phase": "tool_result", **EMAIL}],
            Phase.TOOL_RESULT,
            facts(result=Result(tool="t", call_id="c", text="told")),
            [Sought("told")],
            id="a tool result",
        ),
        pytest.param(
            [{"phase": "tool_call", **EMAIL}],
            Phase.TOOL_CALL,
            called("t", '{"a": ["b"]}'),
            [Sought("b")],
            id="arguments",
        ),
        pytest.param([{"phase": "tool_call", **EMAIL}], Phase.TOOL_CALL, called("t", "{"), [], id="broken arguments"),
        pytest.param(
            [
                {"phase": "response", **EMAIL},
                {"phase": "response", "action": "rewrite", "when": "true", "rewrite": {"text": "'new'"}},
            ],
            Phase.RESPONSE,
            replied("old"),
            [Sought("new"), Sought("")],
            id="what is said in the place of what was",
        ),
    ],
)
def test_a_question_says_what_has_to_be_searched(
    entries: list[dict[str, Any]], phase: Phase, known: Facts, expected: list[Sought]
) -> None:
    """The texts of the phase, where some rule whose condition holds looks for something in them."""
    question = compiled(policy(*entries)).ask(phase, known, "d")

    assert expected == [*question.sought]


@pytest.mark.parametrize(
    ("found", "verdict", "error"),
    [
        pytest.param({}, Verdict.ALLOW, "", id="nothing found"),
        pytest.param({Sought("two"): Searched(findings=(FIND,))}, Verdict.REDACT, "", id="found"),
        pytest.param(
            {Sought("two"): Searched(error="too_many")},
            Verdict.DENY,
            "the text cannot be searched: too_many",
            id="the search has failed",
        ),
    ],
)
def test_it_is_decided_by_what_was_found(found: dict[Sought, Searched], verdict: Verdict, error: str) -> None:
    """What the search comes to is the condition's other half; a failure follows onError."""
    question = compiled(policy(EMAIL)).ask(Phase.REQUEST, SAID, "d")

    steps = [*question.weigh({**dict.fromkeys(question.sought, Searched()), **found})]
    decision = question.decision()

    assert (verdict, "d") == (decision.verdict, decision.id)
    assert len(question.sought) - bool(error) == len(steps)
    assert [error] * bool(decision.rules) == [hit.error for hit in decision.rules]


@pytest.mark.parametrize(
    ("on_error", "verdict"),
    [pytest.param("deny", Verdict.DENY, id="deny"), pytest.param("allow", Verdict.ALLOW, id="allow")],
)
def test_a_text_that_was_not_searched_is_an_error(on_error: str, verdict: Verdict) -> None:
    """Never is it taken for one in which nothing was found."""
    question = compiled(policy({**EMAIL, "onError": on_error})).ask(Phase.REQUEST, SAID, "d")

    list(question.weigh({Sought("one"): Searched()}))
    decision = question.decision()

    assert verdict is decision.verdict
    assert ["the text cannot be searched: not_searched"] == [hit.error for hit in decision.rules]


def test_an_exception_is_asked_once_for_what_comes_again() -> None:
    """A history repeats its names and addresses: what `allow` says of one is true of all that are spelt like it."""
    dear = "request.messages.all(m, request.messages.all(n, m.index + n.index >= 0)) && finding.text == 'a@b.c'"
    known = facts(request=request(*["a@b.c"] * 60))

    decision = compiled(policy({**EMAIL, "allow": dear})).decide(Phase.REQUEST, known, "d")

    assert (Verdict.ALLOW, ()) == (decision.verdict, decision.rules)


def test_conditions_are_asked_one_by_one() -> None:
    """Each in a step of its own, wherever it goes on."""
    when = "request.messages.all(m, m.index >= 0)"
    rule = {"phase": "request", "when": when, "action": "annotate", "annotations": {"a": "b"}}
    question = compiled(policy(*[rule] * 3)).ask(Phase.REQUEST, SAID, "d")
    left = [question.run.left]

    asked = question.asked()
    left += [question.run.left for _, _ in zip(range(2), asked, strict=False)]
    assert 1 == len(list(question.asked()))
    list(question.weigh({}))

    assert left[0] > left[1] > left[2] > question.run.left
    assert 3 == len(question.decision().rules)


def test_what_is_to_be_taken_out_has_a_bound() -> None:
    """Beyond it the rule fails, in however many texts it is found; that follows onError."""
    finds = Searched(findings=(FIND,) * (MOST_SPANS // 2 + 1))
    question = compiled(policy({**EMAIL, "onError": "deny"})).ask(Phase.REQUEST, SAID, "d")

    list(question.weigh(dict.fromkeys(question.sought, finds)))
    decision = question.decision()

    assert (Verdict.DENY, "policy_error", ()) == (decision.verdict, decision.reason, decision.spans)


def test_nothing_is_decided_before_it_is_weighed() -> None:
    """What was not looked at is not let pass."""
    question = compiled(policy(EMAIL)).ask(Phase.REQUEST, SAID, "d")

    with pytest.raises(ValueError, match="weighed"):
        question.decision()
