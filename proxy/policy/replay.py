"""Owns deciding again what was decided before: what other policies say of the facts that a call was decided by.

In: a PolicySet, what was kept of a call. Out: both decisions of each check, and what cannot be told. Never: another way
to decide than `PolicySet.decide`; a guard that did not run, taken for one that found nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.policy.decide import PolicySet
from proxy.policy.pattern import PATTERN
from proxy.terms import Checked, Decision, Kept


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a call: what was decided, and what is decided now."""

    exchange_id: str
    check: Checked
    now: Decision
    unknown: tuple[str, ...] = ()
    """Why `now` proves nothing: what these policies would have to know, and was not kept."""

    @property
    def differs(self) -> bool:
        """Say whether it is decided differently now; not where that cannot be told."""
        return not self.unknown and differ(self.check.decision, self.now)


def differ(before: Decision, after: Decision) -> bool:
    """Say whether two decisions are told apart: another verdict, or another rule that gave it, of whatever version."""
    return (before.verdict, _unversioned(before.rule)) != (after.verdict, _unversioned(after.rule))


def _unversioned(rule: str) -> str:
    return rule.rpartition("@")[0]


def replay(policies: PolicySet, kept: Kept) -> Iterator[Replayed]:
    """Decide every check of a call again."""
    by_pattern = any(span.kind == PATTERN for check in kept.checks for span in check.decision.spans)
    for check in kept.checks:
        facts, before = check.facts, check.decision
        now = policies.decide(before.phase, facts, before.id)
        unknown = [*_unknown(policies, kept, check, now)]
        if by_pattern and differ(before, now):
            unknown.append("a pattern took something out of its texts, which is not kept")
        yield Replayed(exchange_id=kept.exchange_id, check=check, now=now, unknown=tuple(unknown))


def _unknown(policies: PolicySet, kept: Kept, check: Checked, now: Decision) -> Iterator[str]:
    facts, phase = check.facts, check.decision.phase
    asked = policies.narrow(facts.caller.agent, facts.request.model, facts.caller.tenant)
    # Where no rule has failed, none has missed a guard: what did not run is an error, unless it was not asked.
    if any(hit.error for hit in now.rules):
        yield from (f"the guard {name} did not run" for name in asked.guards_needed(phase) if name not in facts.guards)
    if asked.reads(phase, ("conversation", "totals")):
        names = asked.told_totals(facts.session.id).keys() - facts.totals.keys()
        yield from (f"the total {name} is not kept" for name in sorted(names))
    for name in sorted(asked.visible_headers.difference(kept.headers)):
        if asked.reads(phase, ("request", "headers", name)):
            yield f"the header {name} is not kept"
