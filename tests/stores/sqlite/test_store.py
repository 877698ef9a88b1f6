"""Owns the proof of proxy/stores/sqlite/store.py: group commit, and what happens when the file will not have it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded, HandrailError, Overloaded
from proxy.stores import sqlite as shelf
from proxy.stores.sqlite import Reader, Settings, SqliteStore
from proxy.stores.sqlite.file import Checkpointer, connect
from proxy.terms import Place, Totals
from tests.stores.samples import AT_MS, DAY, LATER_MS, exchange, limit, reservation, sent, settlement, stand


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


@asynccontextmanager
async def serving(path: str, **settings: Any) -> AsyncIterator[tuple[SqliteStore, sqlite3.Connection]]:
    """Open a store without its checkpoints, and give its connection, through which a test makes trouble."""
    connection = await asyncio.to_thread(connect, path)
    store = SqliteStore(connection, Settings(path=path, **settings), Checkpointer(path, 3600))
    yield store, connection
    with suppress(Overloaded):
        await store.close()


@contextmanager
def another_process(path: str) -> Iterator[sqlite3.Connection]:
    """Hold the file's write lock, as a process in the midst of its commit does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def written(store: SqliteStore) -> None:
    """Wait until nothing is queued, however often it has to be tried."""
    while store.backlog:  # noqa: ASYNC110 - the store has no event for it, and needs none
        await asyncio.sleep(0.001)


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


async def test_two_processes_share_one_cap(path: str) -> None:
    """Reservations through two stores on one file never exceed the cap together."""
    async with shelf.open(Settings(path=path)) as first, shelf.open(Settings(path=path)) as second:
        holds = [
            store.reserve(reservation(f"ex_{name}{n}", 9, limit()), AT_MS)
            for n in range(40)
            for name, store in (("a", first), ("b", second))
        ]
        outcomes = await asyncio.gather(*holds, return_exceptions=True)

        assert (11, 69) == (outcomes.count(None), sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes))
        assert [Totals(reserved_nanousd=99)] == await first.totals([DAY])


async def test_two_processes_recover_a_call_once(path: str) -> None:
    """Of two processes that clean up at one instant, one closes the call, and it is booked once."""
    async with shelf.open(Settings(path=path)) as first, shelf.open(Settings(path=path)) as second:
        await first.reserve(reservation("ex_1", 60, limit()), AT_MS)
        await first.dispatch(sent("ex_1"))
        closed = await asyncio.gather(first.recover(LATER_MS), second.recover(LATER_MS))

        assert ["ex_1"] == [found.id for each in closed for found in each]
        assert [Totals(nanousd=60, calls=1)] == await second.totals([DAY])


async def test_many_dead_calls_are_recovered_in_slices(path: str) -> None:
    """A crash under load leaves hundreds of calls open; all are closed by one recovery."""
    async with shelf.open(Settings(path=path)) as store:
        await asyncio.gather(*(store.dispatch(sent(f"ex_{n}")) for n in range(250)))

        assert 250 == len({closed.id for closed in await store.recover(LATER_MS)})


async def test_a_conversation_goes_on_in_another_process(path: str) -> None:
    """A history that one process recorded is found by another, and after a restart."""
    async with shelf.open(Settings(path=path)) as first:
        first.stand(stand("s_1", "abc", "mark"), AT_MS)

    async with shelf.open(Settings(path=path)) as second:
        assert Place(session_id="s_1", turn=1) == await second.standing("abc")
        assert [Place(session_id="s_1", turn=1)] == await second.passed("mark", "")


# --- callers that leave ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("booked", [False, True], ids=["held", "booked"])
@pytest.mark.parametrize("ticks", range(5), ids="after {} ticks".format)
async def test_a_cancelled_caller_holds_nothing(path: str, ticks: int, booked: bool) -> None:
    """Whenever a call is cancelled while it reserves, its hold is given back, written or not."""
    wanted = replace(reservation("ex_1", 60, limit()), booked=booked)
    async with serving(path) as (store, _):
        call = asyncio.create_task(store.reserve(wanted, AT_MS))  # noqa: TID251 - to cancel it
        for _ in range(ticks):
            await asyncio.sleep(0)
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        await store.recover(0)

        (total,) = await store.totals([DAY])
        held = 0 if isinstance(outcome, asyncio.CancelledError) else 60
        assert held == total.nanousd + total.reserved_nanousd


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


async def test_a_read_in_trouble_is_refused(path: str) -> None:
    """Totals that cannot be read are an error, never zeros: policy fails closed."""
    async with serving(path) as (store, connection):
        connection.execute("DROP TABLE counters")

        with pytest.raises(Overloaded) as refused:
            await store.totals([DAY])

    assert "store_unavailable" == refused.value.code


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
