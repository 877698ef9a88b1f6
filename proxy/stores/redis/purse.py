"""Owns what one replica has of the shared ledger, in memory: its holds, its slices, and what it has yet to tell.

A slice is money that the ledger has set aside for this replica under one counter, to be spent while the ledger cannot
be asked. The ledger counts it as gone already, so spending it never exceeds a limit.

Invariant: a slice here is never more than what the ledger has set aside. So a call's amount is taken out of its slices
before the ledger is asked, and put back with the answer: without one either the ledger took up to that much of a
slice, or the call is paid with what was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from proxy.stores import Hold, Pair, pairs
from proxy.terms import Reservation, Settlement


class Untold(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger does not know yet."""

    counters: frozenset[Pair]
    """Those that changed in this replica's books."""
    given: Mapping[Pair, int]
    """What is given back of slices."""
    ended: frozenset[str]
    """Holds that are over."""


class Purse:
    """Keep account of holds and slices; nothing here waits, so no two changes are ever half done."""

    def __init__(self, holds: Mapping[str, Hold]) -> None:
        self.ahead = False
        """Whether holds were taken that the ledger does not know of."""
        self._holds = dict(holds)
        self._slices: dict[Pair, int] = {}
        self._used_s: dict[Pair, float] = {}
        self._funded: set[str] = set()
        """Holds paid from slices, of which the ledger does not know."""
        self._counters: set[Pair] = set()
        self._given: dict[Pair, int] = {}
        self._ended: set[str] = set()

    # --- holds ------------------------------------------------------------------------------------------------------

    def hold(self, reservation: Reservation) -> None:
        """Note a hold and take its amount out of its slices, before the ledger is asked for it."""
        counters, amount = pairs(reservation.limits), reservation.amount_nanousd
        self._holds[reservation.id] = Hold(amount_nanousd=amount, counters=counters, expires_ms=reservation.expires_ms)
        self._add(dict.fromkeys(counters, -amount))

    def answered(self, reservation: Reservation, changes: Mapping[Pair, int], now_s: float) -> None:
        """Put back what was taken out, and take over how the ledger changed the slices."""
        self._add(dict.fromkeys(pairs(reservation.limits), reservation.amount_nanousd))
        self._add(changes)
        self._used_s.update(dict.fromkeys(changes, now_s))

    def fund(self, reservation: Reservation) -> bool:
        """Have a hold be paid with what was taken out of its slices, or say that they had not enough."""
        if any(self._slices.get(counter, 0) < 0 for counter in pairs(reservation.limits)):
            return False
        self._funded.add(reservation.id)
        self.ahead = True
        return True

    def end(self, hold_id: str, settlement: Settlement | None = None) -> None:
        """Note that a hold is over: settled, or never taken.

        What was used of it less than was held returns to the slices that paid it; what was used more comes out of them.
        """
        spent = settlement.nanousd if settlement else 0
        counters = settlement.counters if settlement else ()
        hold = self._holds.pop(hold_id, None)
        held = dict.fromkeys(hold.counters, hold.amount_nanousd) if hold else {}
        self._counters.update(counters, held)
        if hold:
            self._ended.add(hold_id)
        if hold_id in self._funded:
            self._funded.discard(hold_id)
            self._add({counter: amount - spent * (counter in counters) for counter, amount in held.items()})
            held = dict.fromkeys(held, spent)
        for counter in counters:
            self._give(counter, spent - held.get(counter, 0))

    def refused(self, hold_id: str) -> None:
        """Forget a hold that the ledger did not take: its name may be asked for again, for less or later, and must not
        be told as ended then."""
        self._holds.pop(hold_id, None)

    def extend(self, hold_ids: Iterable[str], until_ms: int) -> None:
        """Extend leases."""
        for hold_id in hold_ids:
            if hold := self._holds.get(hold_id):
                self._holds[hold_id] = replace(hold, expires_ms=max(hold.expires_ms, until_ms))

    def lapse(self, at_ms: int) -> bool:
        """End the holds whose lease has ended, as this replica's books do; say whether there were any."""
        lapsed = [hold_id for hold_id, hold in self._holds.items() if hold.expires_ms < at_ms]
        for hold_id in lapsed:
            # The books know what was spent, under whichever counters.
            self._funded.discard(hold_id)
            self.end(hold_id)
        return bool(lapsed)

    # --- slices -----------------------------------------------------------------------------------------------------

    def give_unused(self, before_s: float) -> None:
        """Give back the slices of counters under which nobody asked since a time."""
        for counter in [counter for counter, used_s in self._used_s.items() if used_s < before_s]:
            del self._used_s[counter]
            self._give(counter, self._slices.get(counter, 0))

    def give_all(self) -> None:
        """Give back all slices."""
        self.give_unused(float("inf"))

    def _give(self, counter: Pair, amount: int) -> None:
        given = min(amount, self._slices.get(counter, 0))
        if given > 0:
            self._add({counter: -given})
            self._given[counter] = self._given.get(counter, 0) + given
            self._counters.add(counter)

    def _add(self, changes: Mapping[Pair, int]) -> None:
        for counter, change in changes.items():
            amount = self._slices.pop(counter, 0) + change
            if amount:
                self._slices[counter] = amount

    # --- telling the ledger -----------------------------------------------------------------------------------------

    def changed(self, counters: Iterable[Pair]) -> None:
        """Note that counters may have changed in this replica's books, by whatever amount."""
        self._counters.update(counters)

    def stated(self) -> tuple[dict[str, Hold], dict[Pair, int]]:
        """Return all holds and slices, for a ledger that has only these from now on."""
        self.ahead = False
        self._funded.clear()
        self._given.clear()
        self._slices = {counter: amount for counter, amount in self._slices.items() if amount > 0}
        return dict(self._holds), dict(self._slices)

    @property
    def untold(self) -> bool:
        """Say whether there is something to tell."""
        return bool(self._counters or self._ended)

    def told(self) -> Untold:
        """Return what to tell, as if it was told from now on."""
        untold = Untold(counters=frozenset(self._counters), given=self._given, ended=frozenset(self._ended))
        self._counters, self._given, self._ended = set(), {}, set()
        return untold

    def retell(self, untold: Untold) -> None:
        """Take back what could not be told. What was given back stays so: all slices will be stated anew."""
        self._counters |= untold.counters
        self._ended |= untold.ended
