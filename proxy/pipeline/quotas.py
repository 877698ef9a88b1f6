"""Owns what tool calls of one walk add to totals: taken before a call leaves, given back where it did not happen.

What a call adds is booked in one step with the look whether there is room, so that no two calls can both take the
last of it, and it counts from then on even if this process dies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from proxy import recording
from proxy.errors import BudgetExceeded
from proxy.pipeline.house import House
from proxy.policy import PolicySet, in_units, refused
from proxy.terms import (
    Booked,
    Charge,
    Decision,
    Facts,
    Issued,
    Mode,
    Phase,
    Reservation,
    Result,
    Settlement,
    ToolCall,
    Verdict,
)

RETURN_MS = 24 * 3600 * 1000
"""So long at least a result can give back what its call added."""
ANY = 2**62


class Quotas:
    """The totals, as one walk sees them."""

    def __init__(self, house: House, draft: recording.Draft) -> None:
        self._house = house
        self._draft = draft
        self._taken: list[tuple[ToolCall, Charge, Booked]] = []
        self._count = 0
        self._left = False
        self.totals: Mapping[str, int] = {}
        """Of the totals that rules read, what this conversation has added to them."""

    async def read(self, policies: PolicySet) -> None:
        """Read the totals that rules read."""
        told = policies.told_totals(self._draft.session.id)
        found = await self._house.budgets.totals(list(told.values())) if told else []
        self.totals = {name: one.nanousd for name, one in zip(told, found, strict=True)}

    # --- a call that is to be let through -----------------------------------------------------------------------------

    async def take(self, decision: Decision, call: ToolCall, approved: bool) -> Decision:
        """Add the call to all its totals or to none; where one has no room, return what becomes of the call then.

        What a human has approved goes beyond a total that asks for approval, and is added to it.
        """
        before = len(self._taken)
        for charge in decision.charges:
            if await self._book(call, charge, charge.limit.cap_nanousd):
                continue
            beyond = approved and charge.action is Verdict.REQUIRE_APPROVAL
            decision = decision if beyond else refused(decision, charge)
            if not beyond and charge.mode is Mode.ENFORCE:
                self._give_back(before)
                break
            await self._book(call, charge, ANY)
        if decision.charges:
            self._draft.decisions[-1] = decision
        return decision

    async def _book(self, call: ToolCall, charge: Charge, cap: int) -> bool:
        now = self._house.clock.wall_ms()
        self._count += 1
        bounded = replace(charge.limit, cap_nanousd=cap)
        told = replace(bounded, scope=charge.told[0], window=charge.told[1], cap_nanousd=ANY)
        limits = (bounded, told)
        booked = Booked(
            id=f"{self._draft.id}:call{self._count}",
            total=charge.total,
            amount_nano=charge.amount_nano,
            counters=tuple(dict.fromkeys((limit.scope, limit.window) for limit in limits)),
        )
        reservation = Reservation(
            id=booked.id, amount_nanousd=charge.amount_nano, limits=limits, expires_ms=now + RETURN_MS, booked=True
        )
        try:
            await self._house.budgets.reserve(reservation, now)
        except BudgetExceeded:
            return False
        self._taken.append((call, charge, booked))
        self._add(charge.total, charge.amount_nano)
        return True

    def _add(self, total: str, amount_nano: int) -> None:
        if total in self.totals:
            self.totals = {**self.totals, total: self.totals[total] + amount_nano}

    def _give_back(self, first: int) -> None:
        for _, charge, booked in self._taken[first:]:
            self._settle(booked, happened=False)
            self._add(charge.total, -charge.amount_nano)
        del self._taken[first:]

    def _settle(self, booked: Booked, *, happened: bool) -> None:
        counters = () if happened else booked.counters
        settlement = Settlement(reservation_id=booked.id, nanousd=0, tokens=0, counters=counters)
        self._house.budgets.settle(settlement, self._house.clock.wall_ms())

    # --- what becomes of it -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Note that the calls leave for the agent: what they added stays."""
        self._left = True

    def booked(self, call: ToolCall) -> tuple[Booked, ...]:
        """Return what the result of a call may give back."""
        at = call.choice, call.index
        mine = (booked for one, charge, booked in self._taken if charge.returns and (one.choice, one.index) == at)
        return tuple(mine) if self._left else ()

    def close(self) -> None:
        """Queue the end of all that no result can change: it stays, or is given back if no call has left."""
        if not self._left:
            self._give_back(0)
        for _, charge, booked in self._taken:
            if not charge.returns:
                self._settle(booked, happened=True)

    def hear(self, policies: PolicySet, facts: Facts) -> tuple[Issued, ...]:
        """Settle what verified results tell of their calls, once each; return the calls as they stand then."""
        results = {(result.call_id, result.tool): result for result in facts.results if result.verified}
        if not results:
            return facts.session.issued
        return tuple(
            self._heard(policies, facts, call, results.get((call.id, call.tool))) for call in facts.session.issued
        )

    def _heard(self, policies: PolicySet, facts: Facts, call: Issued, result: Result | None) -> Issued:
        if result is None or not call.booked:
            return call
        facts = replace(facts, result=result)
        failed = [booked for booked in call.booked if policies.failed(booked.total, facts)]
        for booked in call.booked:
            self._settle(booked, happened=booked not in failed)
        if failed:
            self._returned(call, failed)
        return replace(call, booked=())

    def _returned(self, call: Issued, booked: Sequence[Booked]) -> None:
        """Put on record what a failed call gave back."""
        decision = Decision(
            id=f"{self._draft.id}-returned-{len(self._draft.decisions)}",
            phase=Phase.TOOL_RESULT,
            verdict=Verdict.ANNOTATE,
            reason="call_failed",
            annotations={f"returned.{one.total}": in_units(one.amount_nano) for one in booked},
            subject=call.id,
        )
        self._draft.decisions.append(decision)
