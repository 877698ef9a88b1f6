"""Owns budgets that several hosts share: limits are held in the ledger, books are kept in the replica's own file.

The ledger knows each replica's counters as the replica's books have them, and adds them up. So everything that books
are good at (settling once, recovering after a crash, taking the truth for an estimate) happens in one place, and the
ledger can be told again at any time: being told twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from proxy.errors import HandrailError, Overloaded
from proxy.stores import OwnBooks, Pair, exceeded, pairs
from proxy.stores.redis.keeper import Keeper, OnOutage
from proxy.stores.redis.link import Away
from proxy.stores.redis.purse import Purse
from proxy.stores.redis.seen import Seen
from proxy.terms import Exchange, Limit, Reservation, Settlement, Totals

_SHARE: Mapping[OnOutage, int] = {"closed": 0, "slice": 16, "open": 0}
"""For how many calls like the last one money is set aside, if there is room for twice as many."""
_NO_CAP = 1 << 62


class SharedBudgets:
    """Budgets of all replicas that share one ledger; made by `open`."""

    def __init__(self, on_outage: OnOutage, books: OwnBooks, purse: Purse, keeper: Keeper) -> None:
        self._on_outage = on_outage
        self._books = books
        self._purse = purse
        self._keeper = keeper
        self._seen = Seen()
        self._loop = asyncio.get_running_loop()
        self.unheld = 0
        """Calls that went on without being held against their limits."""

    @property
    def trouble(self) -> str:
        """Return why the ledger cannot be asked at the moment, empty when it can."""
        return self._keeper.trouble

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none; raise BudgetExceeded, or Overloaded when nobody can tell."""
        self._purse.hold(reservation)
        try:
            if full := await self._full(reservation):
                self._purse.refused(reservation.id)
                raise exceeded(full)
            uncapped = tuple(replace(limit, cap_nanousd=_NO_CAP) for limit in reservation.limits)
            await self._books.reserve(replace(reservation, limits=uncapped), at_ms)
        except BaseException:
            self._end(reservation.id)
            raise
        if reservation.booked:
            # The books count it as used from now on.
            counters, used = pairs(reservation.limits), reservation.amount_nanousd
            self._used(Settlement(reservation_id=reservation.id, nanousd=used, tokens=0, counters=counters))

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once per reservation id; queued, never awaited."""
        self._books.settle(settlement, at_ms)
        self._used(settlement)

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of (scope, window) pairs over all replicas; during an outage, what is known of them."""
        if ledger := self._keeper.ledger:
            try:
                totals = await ledger.totals(counters)
            except Away:
                pass
            else:
                self._seen.note(dict(zip(counters, totals, strict=True)))
                return totals
        if self._on_outage == "closed":
            raise _away("")
        own = dict(zip(counters, await self._books.totals(counters), strict=True))
        known = own | self._seen.known(counters)
        return [known[counter] for counter in counters]

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on; queued, never awaited."""
        self._books.heartbeat(reservation_ids, until_ms)
        self._purse.extend(reservation_ids, until_ms)

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what this replica left open past its lease and return those exchanges, RECOVERED.

        What other replicas left is theirs to close, or the ledger takes it as spent.
        """
        closed = await self._books.recover(at_ms)
        if self._purse.lapse(at_ms) or closed:
            self._purse.give_all()
            self._purse.changed(await self._books.touched(at_ms))
        try:
            await self._keeper.push()
        except (Away, HandrailError):
            self._keeper.wake()
        return closed

    def _used(self, settlement: Settlement) -> None:
        self._end(settlement.reservation_id, settlement)
        self._seen.add(settlement)

    def _end(self, hold_id: str, settlement: Settlement | None = None) -> None:
        self._purse.end(hold_id, settlement)
        self._keeper.wake()

    # --- admission --------------------------------------------------------------------------------------------------

    async def _full(self, reservation: Reservation) -> Limit | None:
        """Return the first limit that has no room; raise Overloaded where that cannot be told, and must be."""
        if ledger := self._keeper.ledger:
            try:
                full, changes = await ledger.reserve(
                    reservation.id, reservation.amount_nanousd, reservation.limits, _SHARE[self._on_outage]
                )
            except Away:
                pass
            else:
                self._purse.answered(reservation, changes, self._loop.time())
                return full
        self._alone(reservation, asked=ledger is not None)
        return None

    def _alone(self, reservation: Reservation, *, asked: bool) -> None:
        """Decide without the ledger."""
        if self._on_outage == "slice" and self._purse.fund(reservation):
            return
        if not asked:
            self._purse.answered(reservation, {}, 0)
        if self._on_outage == "open":
            self.unheld += 1
            self._purse.ahead = True
            return
        raise _away(" and what is set aside for such calls is spent" if self._on_outage == "slice" else "")


def _away(why: str) -> Overloaded:
    return Overloaded(
        f"The ledger of spend limits cannot be asked{why}.", code="ledger_away", headers={"retry-after": "1"}
    )
