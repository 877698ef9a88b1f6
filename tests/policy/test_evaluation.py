"""Owns the proof of evaluation: an error is never "no match", and work has its bounds."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.policy import PolicySet
from proxy.policy.tally import ERROR_TEXT
from proxy.terms import GuardResult, Phase, Verdict
from tests.policy.written import (
    ALLOW,
    ANNOTATE,
    BROKEN,
    DEAR,
    FUNCTIONS,
    OFFERED,
    ROUTE,
    STRIP,
    compiled,
    decided,
    facts,
    policy,
    request,
    rule,
    source,
)


@pytest.mark.parametrize(
    ("entry", "expected", "reason", "on_record"),
    [
        pytest.param({"when": BROKEN}, Verdict.DENY, "policy_error", Verdict.DENY, id="a rule that denies"),
        pytest.param({"require": BROKEN}, Verdict.DENY, "policy_error", Verdict.DENY, id="a requirement"),
        pytest.param({**ANNOTATE, "when": BROKEN}, Verdict.DENY, "policy_error", Verdict.DENY, id="one that annotates"),
        pytest.param({**ALLOW, "when": BROKEN}, Verdict.DENY, "policy_error", Verdict.DENY, id="one that allows"),
        pytest.param({"when": BROKEN, "onError": "allow"}, Verdict.ALLOW, "", Verdict.ALLOW, id="onError: allow"),
        pytest.param({"when": "dyn(1)"}, Verdict.DENY, "policy_error", Verdict.DENY, id="neither true nor false"),
        pytest.param(
            {"when": DEAR},
            Verdict.DENY,
            "policy_error",
            Verdict.DENY,
            id="over its budget",
        ),
    ],
)
def test_an_error_follows_on_error(entry: dict[str, Any], expected: Verdict, reason: str, on_record: Verdict) -> None:
    """A rule that fails denies unless `onError: allow` was written; either way it is on record as failed."""
    decision = decided(policy(entry), facts(request=request(*["x"] * 60)))

    assert (expected, reason) == (decision.verdict, decision.reason)
    assert [(on_record, True, "")] == [(hit.action, bool(hit.error), hit.message) for hit in decision.rules]


def test_a_policy_error_has_its_own_text() -> None:
    """The customer of a failed rule is not told that rule's text, which may be wrong."""
    decision = decided(rule(when=BROKEN, message="you may not"), facts())

    assert (ERROR_TEXT, "p/r@1.0.0") == (decision.message, decision.rule)


@pytest.mark.parametrize("order", [pytest.param((0, 1), id="error first"), pytest.param((1, 0), id="rule first")])
def test_a_rule_that_says_no_speaks_before_one_that_failed(order: tuple[int, int]) -> None:
    """Where one rule denies and another fails, the text is that of the rule, and both are reported."""
    entries = ({"when": BROKEN}, {"when": "true", "message": "no"})

    decision = decided(policy(*(entries[n] for n in order)), facts())

    assert ("rule", "no", 2) == (decision.reason, decision.message, len(decision.rules))


def test_later_rules_still_run_after_an_error() -> None:
    """An error stops nothing."""
    decision = decided(policy({"when": BROKEN, "onError": "allow"}, ROUTE), facts())

    assert (Verdict.ROUTE, "p/r1@1.0.0") == (decision.verdict, decision.rule)


def test_an_allowed_error_transforms_nothing() -> None:
    """A route, strip or annotation whose condition failed is not carried out."""
    entries = [{**entry, "when": BROKEN, "onError": "allow"} for entry in (ROUTE, STRIP, ANNOTATE)]

    decision = decided(policy(*entries), facts(request=OFFERED))

    assert (None, (), {}) == (decision.way, decision.strip, decision.annotations)


def test_a_guard_that_failed_is_an_error() -> None:
    """A detector that timed out denies what depends on it, by default."""
    timed_out = {"topics": GuardResult(name="topics", version="1", error="timeout")}

    decision = decided(rule(when="guards.topics.label == 'x'"), facts(guards=timed_out))

    assert (Verdict.DENY, "policy_error", "the guard topics failed: timeout") == (
        decision.verdict,
        decision.reason,
        decision.rules[0].error,
    )


def test_budgets_are_per_rule_and_for_all_of_them() -> None:
    """One rule cannot use up what another needs, and many rules together cannot take for ever."""
    loop = "request.messages.all(m, request.messages.all(n, m.index + n.index >= 0))"
    dear = [{"when": f"!({loop})"} for _ in range(40)]

    affordable = decided(policy(*dear[:2]), facts(request=request(*["x"] * 60)))
    too_many = decided(policy(*dear), facts(request=request(*["x"] * 60)))

    assert Verdict.ALLOW == affordable.verdict
    assert "policy_error" == too_many.reason
    assert 0 < len(too_many.rules) < 40


def test_variables_are_read_through_each_other() -> None:
    """A variable may use those before it, and each policy has its own."""
    twice = [{"name": "a", "expression": "2"}, {"name": "b", "expression": "vars.a * 2"}]
    once = [{"name": "a", "expression": "7"}]
    policies = compiled(
        source(policy({"when": "vars.b == 4"}, variables=twice), name="a"),
        source(policy({"when": "vars.a == 7"}, variables=once), name="b", path="b.yaml"),
    )

    assert ["a/r0@1.0.0", "b/r0@1.0.0"] == [hit.id for hit in decided(policies, facts()).rules]


def test_texts_are_paid_from_the_same_budget() -> None:
    """Computed texts are work like any and come after all conditions: they cannot make one fail, and where nothing is
    left for one, the fixed text is said."""
    loop = "request.messages.all(m, request.messages.all(n, m.index + n.index >= 0))"
    texts = [{"when": "true", "messageExpression": f"{loop} ? 'a' : 'b'"} for _ in range(40)]

    decision = decided(policy(*texts, {"when": f"!({loop})"}), facts(request=request(*["x"] * 60)))

    assert (40, []) == (len(decision.rules), [hit.id for hit in decision.rules if hit.error])
    assert ("a", "a", "") == (decision.message, decision.rules[0].message, decision.rules[-1].message)


def masks() -> PolicySet:
    """Compile two rules that look for the same, of which one lets errors be."""
    entry = {"action": "mask", "kinds": ["email"], "when": "true"}
    return compiled(policy({"id": "one", **entry}, {"id": "two", "onError": "allow", **entry}))


@pytest.mark.parametrize(
    ("said", "paid", "expected"),
    [
        pytest.param(("a@b.c " * 5_000, "a@b.c"), True, (Verdict.REDACT, "rule", 5_001), id="paid once for all rules"),
        pytest.param(
            ("a@b.c " * 5_000, "d@e.f " * 5_000), True, (Verdict.DENY, "policy_error", 0), id="too little left"
        ),
        pytest.param(("a@b.c " * 5_000, "d@e.f " * 5_000), False, (Verdict.REDACT, "rule", 10_000), id="not paid"),
    ],
)
def test_searches_that_others_wait_for_are_paid_from_the_same_budget(
    said: tuple[str, str], paid: bool, expected: tuple[Verdict, str, int]
) -> None:
    """What is looked for in a text is paid once for all rules; a text for which too little is left fails them all."""
    decision = masks().decide(Phase.REQUEST, facts(request=request(*said)), "d", paid=paid)

    assert expected == (decision.verdict, decision.reason, len(decision.spans))
    assert [not decision.spans] * 2 == [bool(hit.error) for hit in decision.rules]


def test_a_variable_that_fails_fails_each_rule_that_reads_it() -> None:
    """An error is remembered like a value: the rules that need the variable fail, the others do not."""
    spec = policy(
        {"when": "vars.a == 1"},
        {"when": "vars.a == 2"},
        {"when": "false && vars.a == 3"},
        variables=[{"name": "a", "expression": "request.metadata.x"}],
    )

    failed = [hit.id for hit in decided(spec, facts()).rules if hit.error]

    assert ["p/r0@1.0.0", "p/r1@1.0.0"] == failed


def counted(texts: list[str], text: str) -> int:
    """Note a text and take it for one token."""
    texts.append(text)
    return 1


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("tokens(request.user_text) == 1", id="a value"),
        pytest.param("tokens(request.user_text) == 1 && request.metadata.x == 'y'", id="an error"),
    ],
)
def test_a_variable_is_evaluated_once_for_all_rules(expression: str) -> None:
    """Three rules that read a variable cost what one does, whether it has a value or fails."""
    counts = []
    for rules in (1, 3):
        texts: list[str] = []
        functions = replace(FUNCTIONS, tokens=partial(counted, texts))
        spec = policy(*[{"when": "vars.a"}] * rules, variables=[{"name": "a", "expression": expression}])
        decided(compiled(spec, functions=functions), facts())
        counts.append(len(texts))

    assert counts[0] == counts[1] > 0
