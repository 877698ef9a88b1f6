"""Owns the proof of proxy/stores/redis/seen.py."""

from __future__ import annotations

from proxy.stores.redis.seen import KEPT, Seen
from proxy.terms import Totals
from tests.stores.samples import DAY, MONTH, settlement


def test_totals_grow_with_what_is_settled() -> None:
    """What this replica added since counts, once per counter, where there is something to add it to."""
    seen = Seen()
    seen.note({DAY: Totals(nanousd=5, reserved_nanousd=3, tokens=2, calls=1)})
    seen.add(settlement("ex_1", 45, (DAY, DAY, MONTH)))

    assert {DAY: Totals(nanousd=50, reserved_nanousd=3, tokens=9, calls=2)} == seen.known([DAY, MONTH])


def test_only_the_newest_are_remembered() -> None:
    """Memory is bounded: the counter that was asked for the longest ago is forgotten first."""
    seen = Seen()
    for number in range(KEPT):
        seen.note({("agent:a", str(number)): Totals()})
    seen.note({("agent:a", "0"): Totals(calls=1)})
    seen.note({DAY: Totals()})

    assert [("agent:a", "0"), DAY] == [*seen.known([("agent:a", "0"), ("agent:a", "1"), DAY])]
