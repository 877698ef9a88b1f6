"""Owns the proof of proxy/policy/replay.py: the same facts decided again, and what cannot be told."""

from __future__ import annotations

import pytest

from proxy.policy import PolicySet, differ, replay
from proxy.terms import Checked, Decision, Facts, How, Kept, Phase, Span, Verdict
from tests.policy.written import compiled, decided, facts, found, policy, replied, rule, source

OLD = rule(when="request.model == 'large'", message="no")


def kept(known: Facts, decision: Decision, headers: tuple[str, ...] = ()) -> Kept:
    """Keep one check."""
    checks = (Checked(facts=known, decision=decision),)
    return Kept(exchange_id="ex_1", at_ms=1, policy_digest="", headers=headers, checks=checks)


def again(new: PolicySet | str, known: Facts, headers: tuple[str, ...] = ()) -> tuple[Verdict, bool, tuple[str, ...]]:
    """Decide by old policies, then again by new ones: the verdict, whether it differs, what is unknown."""
    policies = compiled(new) if isinstance(new, str) else new
    (one,) = replay(policies, kept(known, decided(OLD, known), headers))
    return one.now.verdict, one.differs, one.unknown


@pytest.mark.parametrize("phase", [Phase.REQUEST, Phase.RESPONSE])
def test_the_same_policies_decide_the_same(phase: Phase) -> None:
    """What was kept is all that a decision needs: decided again by the same policies it is the same decision."""
    old, known = compiled(policy({"when": "true", "phase": phase, "message": "no"})), replied("Hi")
    before = decided(old, known, phase)

    (one,) = replay(old, kept(known, before))

    assert (before, False, "ex_1") == (one.now, one.differs, one.exchange_id)


def test_other_policies_may_decide_differently() -> None:
    """A denial that would not be given is a difference."""
    assert (Verdict.ALLOW, True, ()) == again(rule(when="false"), facts())


def test_another_rule_is_a_difference_another_version_is_none() -> None:
    """A person who looks at a decision wants to know which rule it was, not that its file has a new version."""
    old = Decision(id="d", phase=Phase.REQUEST, verdict=Verdict.DENY, rule="p/r@1.0.0")
    newer, other = (
        Decision(id="d", phase=Phase.REQUEST, verdict=Verdict.DENY, rule=r) for r in ("p/r@2.0.0", "p/s@1.0.0")
    )

    assert (False, True) == (differ(old, newer), differ(old, other))


def test_a_guard_that_did_not_run_is_no_finding() -> None:
    """Policies that need a guard whose result is not kept cannot be told: they would deny, and it is said why."""
    new = rule(when="guards.topics.label == 'medical'")

    assert (Verdict.DENY, False, ("the guard topics did not run",)) == again(new, facts())
    assert (Verdict.ALLOW, True, ()) == again(new, facts(guards=found("orders")))


def test_a_guard_that_nobody_asked_is_not_missed() -> None:
    """Where the rest of a condition decides, nothing is missing."""
    new = rule(when="request.model == 'small' && guards.topics.label == 'medical'")

    assert (Verdict.ALLOW, True, ()) == again(new, facts())


def test_a_header_that_was_not_kept_is_missed() -> None:
    """A header is kept where rules could read it then: that it is not there says nothing of others."""
    new = rule(when="has(request.headers.tier) && request.headers.tier == 'gold'")

    assert (Verdict.ALLOW, False, ("the header tier is not kept",)) == again(new, facts())
    assert (Verdict.ALLOW, True, ()) == again(new, facts(), headers=("tier",))


def test_a_header_of_another_phase_is_not_missed() -> None:
    """Only what the phase's own rules read is missed."""
    new = rule(when="request.headers.tier == 'gold'", phase="response")

    assert (Verdict.ALLOW, True, ()) == again(new, facts())


@pytest.mark.parametrize(("kind", "told"), [("email", True), ("pattern", False)])
def test_what_a_pattern_took_out_cannot_be_found_again(kind: str, told: bool) -> None:
    """A mark says of which kind it is, so rules about kinds find it; what a pattern found is gone."""
    before = Decision(
        id="d",
        phase=Phase.REQUEST,
        verdict=Verdict.REDACT,
        rule="p/r@1.0.0",
        spans=(Span(rule="p/r@1.0.0", kind=kind, how=How.MASK, start=0, end=1, place="0"),),
    )

    (one,) = replay(compiled(rule(when="false")), kept(facts(), before))

    assert (told, not told) == (one.differs, bool(one.unknown))


def test_selectors_are_asked_again() -> None:
    """Policies of other agents say nothing of a call."""
    other = source("  selector: {agents: [other]}\n" + rule(when="guards.topics.label == 'medical'"))

    assert (Verdict.ALLOW, True, ()) == again(compiled(other), facts())


def test_a_total_that_was_not_kept_is_missed() -> None:
    """What a conversation had added to a total is kept where rules read it then: that it is not there is no zero."""
    new = """
  actions:
    - {id: pay, tools: [pay], totals: {paid: {value: num(tool.args.usd), limit: 10}}}
  rules:
    - {id: r, phase: request, when: conversation.totals.paid > 5.0, action: deny}
"""

    assert (Verdict.ALLOW, False, ("the total p/paid is not kept",)) == again(new, facts())
    assert (Verdict.ALLOW, True, ()) == again(new, facts(totals={"p/paid": 0}))
