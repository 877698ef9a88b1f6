"""Owns the proof of proxy/stores/sqlite/desk.py beyond the contracts: several processes, crashes, and indexes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.stores import sqlite as shelf
from proxy.stores.sqlite import SqliteStore, desk, store
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from proxy.terms import HeldState, Session
from tests.stores.samples import AT_MS, handoff, held

WORKERS = 4


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


def at_once(path: str, act: Callable[[SqliteStore, int], Awaitable[list[str]]]) -> list[list[str]]:
    """Do something in several event loops at the same time, each with its own connection to the file."""

    async def one(worker: int) -> list[str]:
        async with shelf.open(shelf.Settings(path=path)) as opened:
            return await act(opened, worker)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda worker: asyncio.run(one(worker)), range(WORKERS)))


def test_an_approval_goes_to_one_process(path: str) -> None:
    """Of several that come for it at one instant, exactly one gets it, and only that one may act."""
    with closing(connect(path)) as connection:
        books, rows = Books(connection), desk.Desk(connection)
        for n in range(20):
            books.commit([partial(rows.hold, held(f"ap_{n}", key=f"k_{n}"))])
            books.commit([partial(rows.decide, f"ap_{n}", HeldState.APPROVED, "ann", "", AT_MS)])

    async def use(opened: SqliteStore, _: int) -> list[str]:
        found = [await opened.use(f"k_{n}", AT_MS) for n in range(20)]
        return [each.id for each in found if each and each.state is HeldState.APPROVED]

    assert sorted(f"ap_{n}" for n in range(20)) == sorted(name for names in at_once(path, use) for name in names)


def test_a_conversation_is_handed_over_by_one_process(path: str) -> None:
    """Of several that do it at one instant all get the same packet, and one delivery is due."""

    async def hand_over(opened: SqliteStore, worker: int) -> list[str]:
        given = [await opened.hand_over(handoff(f"ho_{worker}_{n}", session=f"s_{n}")) for n in range(20)]
        return [each.id for each in given]

    given = at_once(path, hand_over)
    with closing(connect(path)) as connection:
        due = connection.execute("SELECT id FROM handoffs WHERE due_ms IS NOT NULL ORDER BY session_id").fetchall()

    assert [given[0]] * WORKERS == given
    assert sorted(given[0]) == sorted(name for (name,) in due)


def test_a_packet_is_never_without_its_delivery(path: str) -> None:
    """What a batch that failed had written of a hand-over is gone, both parts of it; trying again writes both."""

    def fails() -> None:
        raise ZeroDivisionError

    with closing(connect(path)) as connection:
        books, rows = Books(connection), desk.Desk(connection)
        with pytest.raises(ZeroDivisionError):
            books.commit([partial(rows.hand_over, handoff("ho_1")), fails])
        lost = connection.execute("SELECT count(*) FROM handoffs").fetchone()
        books.commit([partial(rows.hand_over, handoff("ho_1"))])

        assert ((0,), [("ho_1", AT_MS)]) == (lost, connection.execute("SELECT id, due_ms FROM handoffs").fetchall())


def test_deliveries_outlive_their_process(path: str) -> None:
    """What had been handed over when a process died is due in the next one, with the tries that were made."""

    async def handed_over_and_killed() -> None:
        opened = shelf.open(shelf.Settings(path=path))
        killed = await opened.__aenter__()
        await killed.hand_over(handoff("ho_1"))
        await killed.postpone("ho_1", AT_MS + 1, "timeout")
        killed._connection.close()

    async def due() -> list[tuple[str, int]]:
        async with shelf.open(shelf.Settings(path=path)) as opened:
            return [(found.handoff.id, found.tries) for found in await opened.due(AT_MS + 1, 9)]

    asyncio.run(handed_over_and_killed())

    assert [("ho_1", 1)] == asyncio.run(due())


def test_a_state_of_another_version_is_read(path: str) -> None:
    """A field that this version does not know is passed over: processes of two versions share the file."""

    async def load() -> Session | None:
        async with shelf.open(shelf.Settings(path=path)) as opened:
            return await opened.load("s_1")

    with closing(connect(path)) as connection:
        connection.execute('INSERT INTO sessions VALUES (\'s_1\', 0, \'{"id":"s_1","turn":3,"newer":[]}\')')

    assert Session(id="s_1", turn=4, link="header") == asyncio.run(load())


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(query, id=f"{module.__name__.rpartition('.')[2]}{name}")
        for module, names in (
            (desk, "_NEWEST _HELD _LATE _OPEN _HANDOFF _CLOSE _DELIVERED _POSTPONE _CHANGE"),
            (store, "_BY_ID _HELD_SO _HANDOFFS_OPEN _DUE"),
        )
        for name in names.split()
        for query in [getattr(module, name)]
    ]
    + [pytest.param(query, id=f"purge{n}") for n, query in enumerate(desk._PURGES)],
)
def test_no_statement_reads_a_table_whole(path: str, query: str) -> None:
    """Every row that is looked for is found by an index, however many there are."""
    with closing(connect(path)) as connection:
        values = [None] * (1 + ("?2" in query) if "?1" in query else query.count("?"))
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]

        assert plan
        assert [] == [step for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]


def test_house_keeping_comes_in_slices(path: str) -> None:
    """However much there is to expire or to purge, one batch touches a hundred rows of a table."""
    with closing(connect(path)) as connection:
        books, rows = Books(connection), desk.Desk(connection)
        books.commit([partial(rows.hold, held(f"ap_{n}", key=f"k_{n}")) for n in range(150)])
        expired = [books.commit([partial(rows.expire, AT_MS * 2)]) for _ in range(3)]
        purged = [books.commit([partial(rows.purge, AT_MS * 2)]) for _ in range(3)]

    assert [[100], [50], [0]] == expired == purged
