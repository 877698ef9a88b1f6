"""Owns the contract of RecordSink, proven for every store of the shelf."""

from __future__ import annotations

from proxy.stores import LONGEST_WINDOW_MS
from proxy.terms import Kept, State, Totals
from tests.contracts.conftest import Shelf
from tests.stores.samples import AT_MS, DAY, MONTH, attempt, exchange, limit, reservation, sent, settlement


async def test_a_dispatched_exchange_is_on_record(shelf: Shelf) -> None:
    """The record exists, whole, before dispatch() returns."""
    await shelf.store.dispatch(sent("ex_1"))

    assert {"ex_1": sent("ex_1")} == await shelf.records()


async def test_the_newest_attempt_is_on_record(shelf: Shelf) -> None:
    """Each dispatch of an exchange writes over the one before: an exchange is one record."""
    second = sent("ex_1", attempt("ex_1", 1, State.FAULT, 5))
    await shelf.store.dispatch(sent("ex_1"))
    await shelf.store.dispatch(second)

    assert {"ex_1": second} == await shelf.records()


async def test_a_finished_exchange_replaces_the_dispatched_one(shelf: Shelf) -> None:
    """One call leaves one record, which says how it ended."""
    done = exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45))
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.finish(done)

    assert {"ex_1": done} == await shelf.records()


async def test_a_denied_call_is_on_record(shelf: Shelf) -> None:
    """A call that never went out is recorded as well."""
    denied = exchange("ex_1", State.DENIED)
    shelf.store.finish(denied)

    assert {"ex_1": denied} == await shelf.records()


async def test_a_finished_exchange_is_never_recovered(shelf: Shelf) -> None:
    """Recovery leaves what has ended as it ended."""
    await shelf.store.dispatch(sent("ex_1"))
    shelf.store.finish(exchange("ex_1"))

    assert [] == await shelf.store.recover(AT_MS * 2)


async def test_purging_deletes_the_old_and_finished(shelf: Shelf) -> None:
    """A purge takes finished calls that started before the time, and nothing that is in flight or newer."""
    for n in range(250):
        shelf.store.finish(exchange(f"ex_old{n}", started_ms=AT_MS - 1))
    await shelf.store.dispatch(sent("ex_flying"))
    shelf.store.finish(exchange("ex_new"))

    assert 250 == await shelf.store.purge(AT_MS)
    assert {"ex_flying", "ex_new"} == set(await shelf.records())


async def test_purging_keeps_counters_that_are_needed(shelf: Shelf) -> None:
    """A counter goes when it was not touched for longer than any window lasts, unless money is held under it."""
    held = ("agent:a", "held")
    shelf.store.settle(settlement("ex_1", 5, (MONTH,)), AT_MS)
    shelf.store.settle(settlement("ex_2", 5, (DAY,)), AT_MS + 1)
    await shelf.store.reserve(reservation("ex_3", 60, limit(held)), AT_MS)
    await shelf.store.purge(AT_MS + LONGEST_WINDOW_MS + 1)

    assert [Totals(nanousd=5, tokens=7, calls=1), Totals(), Totals(reserved_nanousd=60)] == await shelf.store.totals(
        [DAY, MONTH, held]
    )


async def test_what_was_kept_can_be_read(shelf: Shelf) -> None:
    """What policy knew along a call is written beside its record; kept again, it is written over."""
    shelf.store.keep(Kept(exchange_id="ex_1", at_ms=AT_MS, policy_digest="old"))
    shelf.store.keep(kept := Kept(exchange_id="ex_1", at_ms=AT_MS, policy_digest="new", headers=("x-tier",)))

    assert {"ex_1": kept} == await shelf.kept()


async def test_what_was_kept_is_forgotten_in_time(shelf: Shelf) -> None:
    """Forgetting deletes what was kept of older calls, of however many; their records stay, and so do newer calls."""
    for number in range(150):
        shelf.store.keep(Kept(exchange_id=f"ex_old{number}", at_ms=AT_MS - 1, policy_digest=""))
    shelf.store.keep(Kept(exchange_id="ex_new", at_ms=AT_MS, policy_digest=""))
    shelf.store.finish(exchange("ex_old1", started_ms=AT_MS - 1))

    assert 150 == await shelf.store.forget(AT_MS)
    assert (["ex_new"], ["ex_old1"]) == (list(await shelf.kept()), list(await shelf.records()))
