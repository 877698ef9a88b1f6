"""Owns the proof of proxy/stores/sqlite/commits.py: group commit, and what happens when the file will not have it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded, HandrailError, Overloaded
from proxy.stores.sqlite import Reader
from proxy.stores.sqlite.ballast import Ballast
from proxy.terms import HeldState, State, Totals
from tests.stores.samples import AT_MS, DAY, attempt, exchange, handoff, held, limit, reservation, sent, settlement
from tests.stores.sqlite.disks import SlowDisk
from tests.stores.sqlite.opened import another_process, serving, written


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


def full(connection: sqlite3.Connection) -> None:
    """Leave no room for another page."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")


def room(connection: sqlite3.Connection) -> None:
    """Give the room back."""
    connection.execute("PRAGMA max_page_count=100000")


def read_only(connection: sqlite3.Connection) -> None:
    """Refuse every write."""
    connection.execute("PRAGMA query_only=ON")


def writable(connection: sqlite3.Connection) -> None:
    """Take writes again."""
    connection.execute("PRAGMA query_only=OFF")


TROUBLES = [
    pytest.param(full, room, "store_full", id="disk full"),
    pytest.param(read_only, writable, "store_unavailable", id="read-only"),
]


# --- group commit ---------------------------------------------------------------------------------------------------


async def test_one_instant_is_one_transaction(path: str) -> None:
    """Whatever calls ask in one tick of the loop is committed together."""
    statements: list[str] = []
    async with serving(path) as (store, connection):
        connection.set_trace_callback(statements.append)
        holds = [store.reserve(reservation(f"ex_{n}", 1, limit()), AT_MS) for n in range(50)]
        await asyncio.gather(*holds)

    assert 1 == statements.count("COMMIT")


async def test_a_transaction_is_bounded(path: str) -> None:
    """However much is queued, the loop is held for one batch at a time."""
    statements: list[str] = []
    async with serving(path) as (store, connection):
        connection.set_trace_callback(statements.append)
        for n in range(300):
            store.settle(settlement(f"ex_{n}", 1), AT_MS)
        await store.recover(0)

        assert 3 < statements.count("COMMIT")


async def test_an_answer_means_written(path: str) -> None:
    """When dispatch() returns, another connection to the file sees the record."""
    async with serving(path) as (store, _):
        await store.dispatch(sent("ex_1"))

        with Reader(path) as reader:
            assert ["ex_1"] == [found.id for found in reader.in_flight()]


# --- callers that leave ---------------------------------------------------------------------------------------------


# --- power cuts -----------------------------------------------------------------------------------------------------


async def test_a_call_waits_for_the_disk(path: str) -> None:
    """Where power cuts count, dispatch() returns after a sync that began when its record was written; a hold alone, a
    read and a refusal do not wait, for nothing leaves upon them."""
    async with SlowDisk.syncing() as (disk, syncer), serving(path, syncer) as (store, _):
        await store.reserve(reservation("ex_1", 60, limit()), AT_MS)
        await store.balances([DAY])
        with pytest.raises(BudgetExceeded):
            await store.reserve(replace(reservation("ex_2", 60, limit()), booked=True), AT_MS)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(store.dispatch(sent("ex_1")))
            await disk.begun(1)
            with Reader(path) as reader:
                before = (call.done(), [found.id for found in reader.in_flight()])
            disk.end()

        assert ((False, ["ex_1"]), 1) == (before, disk.syncs)


async def test_what_a_human_or_a_total_counts_on_is_on_disk(path: str) -> None:
    """What is answered as done beside dispatches waits for the disk as well."""
    async with SlowDisk.syncing(fast=True) as (disk, syncer), serving(path, syncer) as (store, _):
        await store.reserve(replace(reservation("ex_1", 60, limit()), booked=True), AT_MS)
        await store.hold(held("ap_1"))
        await store.decide("ap_1", HeldState.APPROVED, "lead", "", AT_MS)
        await store.use("k", AT_MS)
        await store.hand_over(handoff("ho_1"))
        await store.close_handoff("ho_1", "lead", AT_MS)

        assert 6 == disk.syncs


async def test_a_disk_that_fails_stops_calls(path: str) -> None:
    """The call that waited and all after it get 503; what is under way is still recorded for the process."""
    async with SlowDisk.syncing(fails=True) as (_, syncer), serving(path, syncer) as (store, _):
        outcomes = [await refused(store.dispatch(sent(name))) for name in ("ex_1", "ex_2")]
        store.finish(exchange("ex_1"))
        await written(store)

        assert (["store_unavailable"] * 2, True) == (outcomes, "restart Handrail" in store.trouble)
        with Reader(path) as reader:
            assert ["ex_1"] == [found.id for _, found in reader.tail(9)]


async def refused(call: Awaitable[object]) -> str:
    """Return the code that a call is refused with."""
    with pytest.raises(Overloaded) as error:
        await call
    return error.value.code


# --- a busy file ----------------------------------------------------------------------------------------------------


async def test_a_call_waits_for_another_process(path: str) -> None:
    """A file that is held is tried again until it is free; the loop runs on meanwhile."""
    async with serving(path) as (store, _):
        with another_process(path) as other:
            async with asyncio.TaskGroup() as group:
                call = group.create_task(store.reserve(reservation("ex_1", 60, limit()), AT_MS))
                await asyncio.sleep(0.05)
                waited = not call.done()
                other.execute("COMMIT")

        assert (True, [Totals(reserved_nanousd=60)]) == (waited, await store.totals([DAY]))


async def test_patience_ends(path: str) -> None:
    """A call that waited too long fails with 503 and is not written afterwards; what must not be lost waits on."""
    async with serving(path, patience_s=0.02) as (store, _):
        with another_process(path):
            store.settle(settlement("ex_1", 5), AT_MS)
            with pytest.raises(Overloaded) as refused:
                await store.reserve(reservation("ex_2", 60, limit()), AT_MS)
        await store.recover(0)

        assert ("store_busy", "") == (refused.value.code, store.trouble)
        assert [Totals(nanousd=5, tokens=7, calls=1)] == await store.totals([DAY])


async def test_a_full_queue_refuses_new_calls(path: str) -> None:
    """Beyond its bound the queue takes no new call, and still every settlement of calls that were admitted."""
    async with serving(path, max_pending=2) as (store, _):
        with another_process(path):
            for n in range(3):
                store.settle(settlement(f"ex_{n}", 5), AT_MS)
            with pytest.raises(Overloaded, match="cannot keep up"):
                await store.dispatch(sent("ex_9"))

            assert 3 == store.backlog


async def test_closing_waits_for_another_process(path: str) -> None:
    """What is queued when a store is closed is written as soon as the file is free."""
    async with serving(path) as (store, _):
        with another_process(path) as other:
            store.finish(exchange("ex_1"))
            async with asyncio.TaskGroup() as group:
                group.create_task(store.close())
                await asyncio.sleep(0.02)
                other.execute("COMMIT")

    with Reader(path) as reader:
        assert ["ex_1"] == [found.id for _, found in reader.tail(9)]


async def test_closing_says_what_was_lost(path: str) -> None:
    """Records that cannot be written in time are counted in an error, never dropped in silence."""
    async with serving(path, closing_s=0.02) as (store, _):
        with another_process(path):
            store.finish(exchange("ex_1"))
            store.finish(exchange("ex_2"))
            with pytest.raises(Overloaded, match=r"2 records could not be written: the file is busy\."):
                await store.close()


# --- trouble --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trouble", "cure", "code"), TROUBLES)
async def test_what_cannot_be_recorded_is_not_sent(path: str, trouble: Any, cure: Any, code: str) -> None:
    """In trouble dispatch() fails with 503 at once; the record of a call that is under way is written after it."""
    async with serving(path) as (store, connection):
        await store.dispatch(sent("ex_1"))
        trouble(connection)
        store.finish(exchange("ex_1", session="long" * 4000))
        with pytest.raises(Overloaded) as refused:
            await store.dispatch(sent("ex_2"))
        in_trouble = (refused.value.code, bool(store.trouble), store.backlog)
        cure(connection)
        await written(store)

        assert ((code, True, 1), "") == (in_trouble, store.trouble)

    with Reader(path) as reader:
        assert ([], ["ex_1"]) == ([r.id for r in reader.in_flight()], [r.id for _, r in reader.tail(9)])


async def test_a_full_disk_has_room_for_what_is_under_way(path: str) -> None:
    """The ballast is given up for it, and as long as it is, nothing new begins, though it would fit."""
    ballast = await asyncio.to_thread(held_ballast, path)
    async with serving(path, ballast=ballast) as (store, connection):
        await store.dispatch(sent("ex_1"))
        full(connection)
        store.finish(exchange("ex_1", session="long" * 4000))
        while ballast.held:  # noqa: ASYNC110 - the loop gives it up
            await asyncio.sleep(0.001)
        room(connection)  # As it is on a disk whose ballast was given up.
        await written(store)
        codes = [await refused(store.dispatch(sent("ex_2")))]
        trouble = store.trouble
        await asyncio.to_thread(ballast.hold)
        await store.dispatch(sent("ex_2"))

        assert (["store_full"], "the disk is full", "") == (codes, trouble, store.trouble)


def held_ballast(path: str) -> Ballast:
    """Take the room that is kept."""
    ballast = Ballast(path)
    ballast.hold()
    return ballast


async def test_calls_that_were_refused_do_not_fill_the_memory(path: str) -> None:
    """Of what waits without end, they alone are dropped and counted: a call that was sent keeps its record."""
    never = replace(attempt("ex_2"), error="not_sent")
    async with serving(path, max_pending=1) as (store, _):
        with another_process(path):
            for ended in (exchange("ex_1"), exchange("ex_2", State.FAULT, never), exchange("ex_3")):
                store.finish(ended if ended.attempts else replace(ended, attempts=(attempt(ended.id),)))
            waiting = store.backlog

        assert (2, 1) == (waiting, store.unrecorded)


async def test_a_damaged_file_refuses_calls(path: str) -> None:
    """A file whose pages lead nowhere fails calls with 503, not with a crash."""
    async with serving(path, closing_s=0.01) as (store, connection):
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'dispatched'")
        connection.execute("PRAGMA schema_version=999")
        with pytest.raises(HandrailError) as refused:
            await store.dispatch(sent("ex_1"))

    assert (503, "store_unavailable") == (refused.value.status, refused.value.code)


# --- bugs -----------------------------------------------------------------------------------------------------------


async def test_an_impossible_call_fails_alone(path: str) -> None:
    """An amount that fits no column fails its own call; calls of the same instant are written."""
    async with serving(path) as (store, _):
        outcomes = await asyncio.gather(
            store.reserve(reservation("ex_1", 10, limit()), AT_MS),
            store.reserve(reservation("ex_2", 1 << 63, limit(cap=1 << 70)), AT_MS),
            store.reserve(reservation("ex_3", 10, limit()), AT_MS),
            return_exceptions=True,
        )

        assert [None, OverflowError, None] == [outcome and type(outcome) for outcome in outcomes]
        assert [Totals(reserved_nanousd=20)] == await store.totals([DAY])


async def test_an_impossible_settlement_is_reported(path: str) -> None:
    """A queued operation that can never be written reaches the loop's exception handler, and the rest is written."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with serving(path) as (store, _):
        store.settle(settlement("ex_1", 10), AT_MS)
        store.settle(settlement("ex_2", 1 << 63), AT_MS)
        store.settle(settlement("ex_3", 10), AT_MS)
        await store.recover(0)

        assert [Totals(nanousd=20, tokens=14, calls=2)] == await store.totals([DAY])
    assert ["OverflowError"] == [type(context["exception"]).__name__ for context in reported]
