"""Owns the trial of a candidate: what other policies would have decided along a call, on the same facts.

In: the checks of a walk. Out: the decisions that would have been others. Never: an act; a guard's result that the
candidate's own guard would not have given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from proxy.pipeline.scanning import Scanner
from proxy.policy import Shared, differ
from proxy.ports import Context, Guard
from proxy.snapshot import Bundle
from proxy.terms import Checked, Decision, Facts, Phase


class Trial:
    """One candidate, asked along one call."""

    def __init__(self, bundle: Bundle, in_force: Mapping[str, Guard], scanner: Scanner) -> None:
        self.policies = bundle.policies
        self._guards = bundle.guards
        self._in_force = in_force
        self._scanner = scanner
        self._shared_facts = Shared()

    async def others(self, checks: Iterable[Checked]) -> list[Decision]:
        """Return what would have been decided otherwise; others have their turn meanwhile."""
        found: list[Decision] = []
        for check in checks:
            await self._scanner.rest()
            facts = await self._guarded(check.decision.phase, check.facts)
            question = self.policies.ask(check.decision.phase, facts, check.decision.id, self._shared_facts)
            await self._scanner.settle(question)
            found += _other(check, question.decision())
        return found

    def other(self, check: Checked, facts: Facts) -> Sequence[Decision]:
        """Return the decision on one check, if it is another one, in a phase whose rules search nothing."""
        return _other(check, self.policies.decide(check.decision.phase, facts, check.decision.id))

    async def _guarded(self, phase: Phase, facts: Facts) -> Facts:
        names = self.policies.guards_needed(phase)
        if all(self._shared(name, facts, names) for name in names):
            return facts
        return replace(facts, guards=await self._scanner.scan(names, phase, facts))

    def _shared(self, name: str, facts: Facts, names: Sequence[str]) -> bool:
        """Say whether a guard has said already what it would say here. One that weighs the others has only if these are
        the same."""
        guard = self._guards[name]
        alone = guard.context is not Context.SIGNALS or set(names) == set(facts.guards)
        return alone and name in facts.guards and guard is self._in_force.get(name)


def _other(check: Checked, decision: Decision) -> Sequence[Decision]:
    return [decision] if differ(check.decision, decision) else []
