"""Owns the proof of proxy/stores/redis/purse.py: a slice is never more than what the ledger has set aside."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.stores import Hold
from proxy.stores.redis.purse import Purse
from tests.stores.samples import AT_MS, DAY, LATER_MS, LEASE_MS, MONTH, limit, reservation, settlement

CALL = reservation("ex_1", 10, limit(DAY), limit(MONTH))
HOLD = Hold(amount_nanousd=10, counters=(DAY, MONTH), expires_ms=AT_MS + LEASE_MS)


def purse_with(day: int, month: int) -> Purse:
    """Make a purse with these slices."""
    purse = Purse({})
    first = reservation("ex_0", 1, limit(DAY), limit(MONTH))
    purse.hold(first)
    purse.answered(first, {DAY: day, MONTH: month}, 1.0)
    purse.end("ex_0:1")
    purse.told()
    return purse


def slices(purse: Purse) -> tuple[int, int]:
    """Return what a ledger would be told of both slices."""
    told = purse.stated()[1]
    return told.get(DAY, 0), told.get(MONTH, 0)


def test_what_was_asked_for_is_not_there_to_spend() -> None:
    """Until the answer comes the ledger may have taken the amount out of the slice, so others must not spend it."""
    purse = purse_with(15, 15)
    purse.hold(CALL)

    assert (5, 5) == slices(purse)


def test_an_answer_puts_it_back() -> None:
    """With the answer the slices are as the ledger has them: grown, or shrunk by what the call took of them."""
    purse = purse_with(15, 15)
    purse.hold(CALL)
    purse.answered(CALL, {DAY: 5, MONTH: -10}, 1.0)

    assert (20, 5) == slices(purse)


def test_a_slice_pays_a_call() -> None:
    """Without an answer a call is paid by the slices of all its counters; what it did not use returns."""
    purse = purse_with(15, 25)
    purse.hold(CALL)

    assert (True, True) == (purse.fund(CALL), purse.ahead)
    purse.end("ex_1:1", settlement("ex_1", 4, (DAY, MONTH)))
    assert (11, 21) == slices(purse)


def test_what_the_ledger_was_told_of_does_not_return() -> None:
    """Once the ledger counts a hold itself, its end frees it there and not in the slice."""
    purse = purse_with(15, 15)
    purse.hold(CALL)
    purse.fund(CALL)
    told = purse.stated()
    purse.end("ex_1:1", settlement("ex_1", 4, (DAY, MONTH)))

    assert ({"ex_1:1": HOLD}, {DAY: 5, MONTH: 5}) == told
    assert ((5, 5), False) == (slices(purse), purse.ahead)


def test_one_slice_too_small_pays_nothing() -> None:
    """All counters or none."""
    purse = purse_with(15, 9)
    purse.hold(CALL)

    assert (False, False) == (purse.fund(CALL), purse.ahead)


def test_a_call_beyond_its_hold_comes_out_of_the_slice() -> None:
    """What a provider billed beyond what was held is room that others must not count on; the ledger is told."""
    purse = purse_with(15, 3)
    purse.hold(CALL)
    purse.answered(CALL, {}, 1.0)
    purse.end("ex_1:1", settlement("ex_1", 17, (DAY, MONTH)))
    told = purse.told()

    assert ({DAY: 7, MONTH: 3}, ["ex_1:1"]) == (told.given, [*told.ended])
    assert [DAY, MONTH] == sorted(told.counters)
    assert (8, 0) == slices(purse)


@pytest.mark.parametrize(
    ("before_s", "given", "left"),
    [pytest.param(1.0, {}, (15, 15), id="used since"), pytest.param(1.5, {DAY: 15, MONTH: 15}, (0, 0), id="unused")],
)
def test_unused_slices_are_given_back(
    before_s: float, given: dict[tuple[str, str], int], left: tuple[int, int]
) -> None:
    """A counter that nobody asked under for long needs no slice."""
    purse = purse_with(15, 15)
    purse.give_unused(before_s)

    assert (given, left) == (purse.told().given, slices(purse))


def test_a_lease_ends_a_hold() -> None:
    """A hold past its lease is over, unless it was extended; what a slice paid for it stays with the books."""
    purse = Purse({"ex_1:1": HOLD, "ex_2:1": HOLD})
    purse.hold(third := replace(CALL, id="ex_3:1"))
    purse.answered(third, {DAY: 10, MONTH: 10}, 1.0)
    purse.hold(fourth := replace(CALL, id="ex_4:1"))
    purse.fund(fourth)
    purse.extend(["ex_1:1", "ex_9:1"], LATER_MS)
    purse.extend(["ex_1:1"], AT_MS)

    assert (True, False) == (purse.lapse(LATER_MS), purse.lapse(LATER_MS))
    assert {"ex_2:1", "ex_3:1", "ex_4:1"} == purse.told().ended
    assert ({"ex_1:1": replace(HOLD, expires_ms=LATER_MS)}, {}) == purse.stated()


def test_what_could_not_be_told_is_told_later() -> None:
    """Nothing that changed is forgotten, and nothing is told twice."""
    purse = purse_with(0, 0)
    purse.hold(CALL)
    purse.end("ex_1:1")
    untold = purse.told()
    assert not purse.untold
    purse.changed([DAY])
    purse.retell(untold)

    assert (untold, True) == (purse.told(), bool(untold.ended))
    assert not purse.untold
