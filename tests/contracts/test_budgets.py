"""Owns the contract of BudgetStore and of leases, proven for every store of the shelf."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores import LATEST_MS
from proxy.terms import Cost, Limit, Reservation, State, Totals
from tests.contracts.conftest import Shelf
from tests.stores.samples import (
    AT_MS,
    DAY,
    LATER_MS,
    LEASE_MS,
    MONTH,
    attempt,
    exchange,
    limit,
    reservation,
    sent,
    settlement,
)


async def totals(shelf: Shelf) -> tuple[Totals, Totals]:
    """Read both counters after everything queued is written."""
    await shelf.drain()
    day, month = await shelf.store.totals([DAY, MONTH])
    return day, month


# --- reserve and settle ---------------------------------------------------------------------------------------------


async def test_a_hold_counts_at_once_under_every_limit(shelf: Shelf) -> None:
    """A reservation is held under each of its limits before reserve() returns."""
    await shelf.store.reserve(reservation("ex_1", 60, limit(DAY), limit(MONTH)), AT_MS)

    assert [Totals(reserved_nanousd=60)] * 2 == await shelf.store.totals([DAY, MONTH])


async def test_settling_turns_the_hold_into_what_was_used(shelf: Shelf) -> None:
    """A settlement gives back the whole hold and adds its own amount, its tokens and one call to its counters."""
    await shelf.store.reserve(reservation("ex_1", 60, limit(DAY)), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.settle(settlement("ex_1", 45, (DAY, MONTH)), AT_MS)

    assert (Totals(nanousd=45, tokens=7, calls=1),) * 2 == await totals(shelf)


async def test_the_cap_itself_may_be_reached(shelf: Shelf) -> None:
    """Settled and held money together may equal the cap, and not one nano-dollar more."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.reserve(reservation("ex_2", 40, limit()), AT_MS)

    with pytest.raises(BudgetExceeded):
        await shelf.store.reserve(reservation("ex_3", 1, limit()), AT_MS)


@pytest.mark.parametrize(
    ("limits", "rule", "message"),
    [
        pytest.param(
            [limit(DAY, rule="p/first@1"), limit(MONTH, rule="p/second@1")],
            "p/first@1",
            "The spend limit p/first@1 has no room for this call.",
            id="both are full: the first",
        ),
        pytest.param(
            [limit(MONTH, 1000, "p/wide@1"), limit(DAY, rule="p/tight@1", message="Spent for today.")],
            "p/tight@1",
            "Spent for today.",
            id="one is full: that one, in its own words",
        ),
    ],
)
async def test_a_refusal_names_the_limit(shelf: Shelf, limits: list[Limit], rule: str, message: str) -> None:
    """BudgetExceeded says which rule had no room, with the rule's own message where it has one."""
    await shelf.store.reserve(reservation("ex_1", 100, limit(DAY), limit(MONTH)), AT_MS)

    with pytest.raises(BudgetExceeded) as refused:
        await shelf.store.reserve(reservation("ex_2", 1, *limits), AT_MS)

    assert (rule, message) == (refused.value.rule, str(refused.value))


async def test_a_refused_reservation_holds_nothing(shelf: Shelf) -> None:
    """All limits or none: a later limit without room leaves the earlier ones untouched."""
    with pytest.raises(BudgetExceeded):
        await shelf.store.reserve(reservation("ex_1", 50, limit(MONTH), limit(DAY, cap=49)), AT_MS)

    assert (Totals(), Totals()) == await totals(shelf)


async def test_two_limits_on_one_counter_hold_once(shelf: Shelf) -> None:
    """Rules that share a counter are each compared with it, but the money is held there once."""
    await shelf.store.reserve(reservation("ex_1", 50, limit(DAY, 60), limit(DAY, 90)), AT_MS)

    assert Totals(reserved_nanousd=50) == (await totals(shelf))[0]


async def test_a_settlement_counts_once_per_counter(shelf: Shelf) -> None:
    """A counter that is named twice in one settlement is added to once."""
    shelf.store.settle(settlement("ex_1", 5, (DAY, DAY)), AT_MS)

    assert Totals(nanousd=5, tokens=7, calls=1) == (await totals(shelf))[0]


async def test_a_second_settlement_changes_nothing(shelf: Shelf) -> None:
    """Exactly once: whatever comes after an attempt's first settlement is ignored."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.settle(settlement("ex_1", 45), AT_MS)
    before = await totals(shelf)
    shelf.store.settle(settlement("ex_1", 99), AT_MS)

    assert before == await totals(shelf)


@pytest.mark.parametrize("dispatched", [True, False], ids=["dispatched", "never seen"])
async def test_a_call_without_limits_counts(shelf: Shelf, dispatched: bool) -> None:
    """Counters that no limit watches grow as well, once per attempt."""
    if dispatched:
        await shelf.store.dispatch(sent("ex_1"))
    shelf.store.settle(settlement("ex_1", 45), AT_MS)
    shelf.store.settle(settlement("ex_1", 45), AT_MS)

    assert Totals(nanousd=45, tokens=7, calls=1) == (await totals(shelf))[0]


async def test_settling_zero_before_dispatch_only_releases(shelf: Shelf) -> None:
    """An attempt that was never sent gives its hold back and counts as no call."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    shelf.store.settle(settlement("ex_1", 0, tokens=0), AT_MS)

    assert Totals() == (await totals(shelf))[0]


async def test_usage_beyond_the_hold_is_booked(shelf: Shelf) -> None:
    """A provider that used more than was held is billed in full: the truth is never capped."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.settle(settlement("ex_1", 130), AT_MS)

    assert Totals(nanousd=130, tokens=7, calls=1) == (await totals(shelf))[0]


async def test_calls_of_one_instant_share_one_cap(shelf: Shelf) -> None:
    """Of a hundred simultaneous reservations exactly as many succeed as fit under the cap."""
    calls = [shelf.store.reserve(reservation(f"ex_{n}", 9, limit()), AT_MS) for n in range(100)]

    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert (11, 99) == (outcomes.count(None), (await totals(shelf))[0].reserved_nanousd)


# --- leases ---------------------------------------------------------------------------------------------------------


async def test_an_unsent_hold_is_released_at_lease_end(shelf: Shelf) -> None:
    """A process that dies between reserve and dispatch costs nothing once its lease is over."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)

    assert ([], Totals()) == (await shelf.store.recover(LATER_MS), (await totals(shelf))[0])


async def test_a_sent_call_is_booked_at_its_hold(shelf: Shelf) -> None:
    """A process that dies after dispatch never gets the call for free: what was held is spent, flagged as estimated."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))

    (closed,) = await shelf.store.recover(LATER_MS)

    assert Totals(nanousd=60, calls=1) == (await totals(shelf))[0]
    assert (State.RECOVERED, Cost(nanousd=60, price="held", estimated=True)) == (closed.state, closed.cost)


async def test_an_unknown_cost_stays_unknown(shelf: Shelf) -> None:
    """A dead call without a hold is counted, and its cost is unknown, which is not zero."""
    await shelf.store.dispatch(sent("ex_1"))

    (closed,) = await shelf.store.recover(LATER_MS)

    assert Totals(calls=1) == (await totals(shelf))[0]
    assert (None, None) == (closed.cost.nanousd, closed.attempts[0].cost.nanousd)


async def test_leases_that_run_are_left_alone(shelf: Shelf) -> None:
    """Recovery touches nothing whose lease has not ended."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.reserve(reservation("ex_2", 30, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))

    assert [] == await shelf.store.recover(AT_MS + LEASE_MS)
    assert Totals(reserved_nanousd=90) == (await totals(shelf))[0]


async def test_a_heartbeat_keeps_a_call_alive(shelf: Shelf) -> None:
    """Leases grow with heartbeats, for a call with a hold and for one without; they never shrink."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    await shelf.store.dispatch(sent("ex_2"))
    shelf.store.heartbeat(["ex_1:1", "ex_2:1", "ex_unknown:1"], LATER_MS + 1)
    shelf.store.heartbeat(["ex_1:1", "ex_2:1"], AT_MS)

    assert [] == await shelf.store.recover(LATER_MS)
    assert {"ex_1", "ex_2"} == {closed.id for closed in await shelf.store.recover(LATER_MS + 2)}


async def test_a_heartbeat_before_it_is_sent_counts(shelf: Shelf) -> None:
    """A call that waits between its hold and its dispatch keeps the lease that it was given meanwhile."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    shelf.store.heartbeat(["ex_1:1"], LATER_MS + 1)
    await shelf.store.dispatch(sent("ex_1"))

    assert [] == await shelf.store.recover(LATER_MS)


async def test_recovery_happens_once(shelf: Shelf) -> None:
    """What one recovery closed no other finds, at whatever time it runs."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    await shelf.store.recover(LATER_MS)
    before = await totals(shelf)

    assert ([], before) == (await shelf.store.recover(LATER_MS * 2), await totals(shelf))


async def test_a_lapsed_hold_cannot_be_sent(shelf: Shelf) -> None:
    """A process that slept past its lease may not send: its money has been given away."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.recover(LATER_MS)

    with pytest.raises(Overloaded) as refused:
        await shelf.store.dispatch(sent("ex_1"))

    assert "hold_lapsed" == refused.value.code


async def test_an_attempt_is_sent_once(shelf: Shelf) -> None:
    """A second dispatch of one attempt is refused."""
    await shelf.store.dispatch(sent("ex_1"))

    with pytest.raises(Overloaded):
        await shelf.store.dispatch(sent("ex_1"))


async def test_the_truth_replaces_the_estimate(shelf: Shelf) -> None:
    """A process that was only slow corrects what recovery had to assume, in the books and on record."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    await shelf.store.recover(LATER_MS)
    shelf.store.finish(exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45)))
    shelf.store.settle(settlement("ex_1", 45), LATER_MS)

    assert Totals(nanousd=45, tokens=7, calls=1) == (await totals(shelf))[0]
    assert State.COMPLETE is (await shelf.records())["ex_1"].state


async def test_a_finished_record_says_what_to_book(shelf: Shelf) -> None:
    """A process that dies between finish and settle is billed at what its record says, tokens included."""
    await shelf.store.reserve(reservation("ex_1", 60, limit()), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.finish(exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45)))

    assert ([], Totals(nanousd=45, tokens=7, calls=1)) == (
        await shelf.store.recover(LATER_MS),
        (await totals(shelf))[0],
    )


async def test_a_hold_outlives_its_record(shelf: Shelf) -> None:
    """A dispatched attempt that no record mentions is booked under the limits that held it."""
    await shelf.store.reserve(reservation("ex_1", 60, limit(MONTH)), AT_MS)
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.finish(exchange("ex_1"))
    await shelf.store.recover(LATER_MS)

    assert (Totals(), Totals(nanousd=60, calls=1)) == await totals(shelf)


async def test_a_crash_in_a_second_attempt_keeps_the_first(shelf: Shelf) -> None:
    """What an earlier attempt cost stays; only the attempt that was on its way is estimated."""
    first = attempt("ex_1", 1, State.FAULT, 45)
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.settle(settlement("ex_1", 45), AT_MS)
    await shelf.store.dispatch(sent("ex_1", first))

    (closed,) = await shelf.store.recover(LATER_MS)

    assert [(State.FAULT, 45), (State.RECOVERED, None)] == [(a.state, a.cost.nanousd) for a in closed.attempts]
    assert Totals(nanousd=45, tokens=7, calls=2) == (await totals(shelf))[0]


async def test_a_crash_between_attempts_is_closed(shelf: Shelf) -> None:
    """An exchange that died after its attempt was settled, with no other on its way, is closed all the same."""
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.settle(settlement("ex_1", 45), AT_MS)

    (closed,) = await shelf.store.recover(LATER_MS)

    assert (State.RECOVERED, None) == (closed.state, closed.cost.nanousd)
    assert Totals(nanousd=45, tokens=7, calls=1) == (await totals(shelf))[0]


# --- what is booked at once -------------------------------------------------------------------------------------------


def booked(name: str, amount: int, *limits: Limit) -> Reservation:
    """Make a reservation that counts as used at once."""
    return replace(reservation(name, amount, *limits), booked=True)


async def test_what_is_booked_is_used_at_once(shelf: Shelf) -> None:
    """It counts under every limit, and neither a lease that runs out nor the end of its process gives it back."""
    await shelf.store.reserve(booked("ex_1", 60, limit(DAY), limit(MONTH)), AT_MS)
    await shelf.store.recover(LATER_MS)

    assert (Totals(nanousd=60, calls=1),) * 2 == await totals(shelf)


async def test_what_is_booked_needs_room(shelf: Shelf) -> None:
    """All limits or none, as for a hold."""
    await shelf.store.reserve(booked("ex_1", 60, limit(DAY)), AT_MS)

    with pytest.raises(BudgetExceeded):
        await shelf.store.reserve(booked("ex_2", 41, limit(MONTH), limit(DAY)), AT_MS)
    assert (60, 0) == tuple(total.nanousd for total in await totals(shelf))


async def test_what_was_not_used_is_given_back_once(shelf: Shelf) -> None:
    """A settlement with nothing used takes a booking back; the same from another process changes nothing more."""
    await shelf.store.reserve(booked("ex_1", 60, limit(DAY)), AT_MS)
    await shelf.store.reserve(booked("ex_2", 7, limit(DAY)), AT_MS)
    shelf.store.settle(settlement("ex_1", 0, tokens=0), AT_MS)
    await shelf.drain()
    async with shelf.beside() as other:
        other.settle(settlement("ex_1", 0, tokens=0), AT_MS)
        await other.recover(0)

    assert 7 == (await totals(shelf))[0].nanousd


async def test_what_was_used_stays(shelf: Shelf) -> None:
    """After a settlement that names no counters a booking stays for good, whatever another process says later."""
    await shelf.store.reserve(booked("ex_1", 60, limit(DAY)), AT_MS)
    shelf.store.settle(settlement("ex_1", 0, (), tokens=0), AT_MS)
    await shelf.drain()
    async with shelf.beside() as other:
        other.settle(settlement("ex_1", 0, tokens=0), AT_MS)
        await other.recover(0)

    assert 60 == (await totals(shelf))[0].nanousd


async def test_a_booking_is_forgotten_in_time(shelf: Shelf) -> None:
    """A day after its lease nobody can give it back any more."""
    await shelf.store.reserve(booked("ex_1", 60, limit(DAY)), AT_MS)
    await shelf.store.recover(LATER_MS + LATEST_MS)
    shelf.store.settle(settlement("ex_1", 0, tokens=0), LATER_MS)

    assert 60 == (await totals(shelf))[0].nanousd
