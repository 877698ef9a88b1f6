"""Owns what was last known of totals, for facts that rules read while the ledger cannot be asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from proxy.stores import Pair
from proxy.terms import Settlement, Totals

KEPT = 4096
"""Counters that are remembered."""


class Seen:
    """Remember the totals of the counters that were asked for last, and what this replica added to them since."""

    def __init__(self) -> None:
        self._totals: OrderedDict[Pair, Totals] = OrderedDict()

    def note(self, totals: Mapping[Pair, Totals]) -> None:
        """Take what the ledger says."""
        for counter, total in totals.items():
            self._totals[counter] = total
            self._totals.move_to_end(counter)
        while len(self._totals) > KEPT:
            self._totals.popitem(last=False)

    def add(self, settlement: Settlement) -> None:
        """Add what one attempt used."""
        for counter in dict.fromkeys(settlement.counters):
            if known := self._totals.get(counter):
                self._totals[counter] = Totals(
                    nanousd=known.nanousd + settlement.nanousd,
                    reserved_nanousd=known.reserved_nanousd,
                    tokens=known.tokens + settlement.tokens,
                    calls=known.calls + 1,
                )

    def known(self, counters: Iterable[Pair]) -> dict[Pair, Totals]:
        """Return those that are remembered."""
        return {counter: self._totals[counter] for counter in counters if counter in self._totals}
