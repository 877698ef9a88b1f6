"""Owns the proof of proxy/stores/sqlite/reader.py: reading beside a store that serves."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.stores import sqlite
from proxy.stores.sqlite.file import MIGRATIONS
from proxy.terms import Selection, Totals
from tests.stores.samples import AT_MS, DAY, MONTH, exchange, limit, reservation, sent, settlement, stand

NEWER = f"schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)}"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


@pytest.fixture
async def store(path: str) -> AsyncIterator[sqlite.SqliteStore]:
    """Serve."""
    async with sqlite.open(sqlite.Settings(path=path)) as opened:
        yield opened


async def finish(store: sqlite.SqliteStore, *names: str) -> None:
    """Write finished records, one second apart."""
    for n, name in enumerate(names):
        store.finish(exchange(name, started_ms=AT_MS + 1000 * n))
    await store.recover(0)


async def test_the_tail_is_the_newest_in_order(store: sqlite.SqliteStore, path: str) -> None:
    """The newest records come with their numbers, the newest last."""
    await finish(store, "ex_1", "ex_2", "ex_3")

    with sqlite.Reader(path) as reader:
        assert [(2, "ex_2"), (3, "ex_3")] == [(seq, found.id) for seq, found in reader.tail(2)]


async def test_a_follower_sees_each_record_once(store: sqlite.SqliteStore, path: str) -> None:
    """Asking for what came after the last number seen gives exactly what is new, a correction included."""
    await finish(store, "ex_1", "ex_2")

    with sqlite.Reader(path) as reader:
        first = reader.after(0, limit=1)
        await finish(store, "ex_3", "ex_1")

        assert [(1, "ex_1")] == [(seq, found.id) for seq, found in first]
        assert [(2, "ex_2"), (3, "ex_3"), (4, "ex_1")] == [(seq, found.id) for seq, found in reader.after(1)]


async def test_a_time_range_is_half_open_and_paged(store: sqlite.SqliteStore, path: str) -> None:
    """Records come in the order of their start, from the first instant up to but without the last, page after page."""
    names = [f"ex_{n}" for n in range(1100)]
    await finish(store, *names)

    with sqlite.Reader(path) as reader:
        found = [record.id for record in reader.between(AT_MS + 1000, AT_MS + 1_099_000)]

    assert names[1:-1] == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("ex_1", "ex_1", id="an exchange"),
        pytest.param("ex_1-request", "ex_1", id="a decision"),
        pytest.param("ex_2-request", "ex_2", id="a decision of a call in flight"),
        pytest.param("ex_1-tool0", None, id="a decision that was not made"),
        pytest.param("ex_9", None, id="unknown"),
        pytest.param("", None, id="nothing"),
    ],
)
async def test_a_record_is_found_by_either_id(
    store: sqlite.SqliteStore, path: str, name: str, found: str | None
) -> None:
    """The id in a response header leads to the record, whether the call has ended or not."""
    await finish(store, "ex_1")
    await store.dispatch(sent("ex_2"))

    with sqlite.Reader(path) as reader:
        record = reader.find(name)

    assert found == (record.id if record else None)


async def test_calls_in_flight_are_listed(store: sqlite.SqliteStore, path: str) -> None:
    """What is dispatched and not finished is listed apart from what has ended."""
    await finish(store, "ex_1")
    await store.dispatch(sent("ex_2"))

    with sqlite.Reader(path) as reader:
        assert (["ex_2"], ["ex_1"]) == ([r.id for r in reader.in_flight()], [r.id for _, r in reader.tail(9)])


async def test_every_counter_is_listed(store: sqlite.SqliteStore, path: str) -> None:
    """Totals come by scope and window, held money beside what is spent."""
    await store.reserve(reservation("ex_1", 60, limit(MONTH)), AT_MS)
    store.settle(settlement("ex_2", 5), AT_MS)
    await store.recover(0)

    with sqlite.Reader(path) as reader:
        assert [(*DAY, Totals(nanousd=5, tokens=7, calls=1)), (*MONTH, Totals(reserved_nanousd=60))] == reader.totals()


async def test_reading_works_when_nobody_serves(path: str) -> None:
    """The file of a store that has ended is read like any other."""
    async with sqlite.open(sqlite.Settings(path=path)) as store:
        store.finish(exchange("ex_1"))

    with sqlite.Reader(path) as reader:
        assert ["ex_1"] == [found.id for _, found in reader.tail(9)]


async def test_what_is_beside_a_conversation_is_told(store: sqlite.SqliteStore, path: str) -> None:
    """Where it stands, what it has left, and its counters, for who may ask what there is of it."""
    store.stand(stand("s", "end", "mark", user="u"), AT_MS)
    store.stand(stand("other", "end2", "mark2"), AT_MS)
    store.settle(settlement("ex_1", 5, (("conversation:s", "all"), ("user:u", "day"))), AT_MS)
    await store.recover(0)

    with sqlite.Reader(path) as reader:
        one, whole = (
            reader.beside(Selection(sessions=frozenset({"s"}), customers=frozenset(customers)))
            for customers in ((), ("cu_1",))
        )

    assert [("s", "end")] == [(row["session_id"], row["end"]) for row in one["stands"]]
    assert ["mark"] == [row["mark"] for row in one["marks"]]
    assert (["conversation:s"], ["conversation:s", "user:u"]) == tuple(
        sorted(str(row["scope"]) for row in found["counters"]) for found in (one, whole)
    )


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def garbage(path: Path) -> None:
    path.write_bytes(b"these are not the records you are looking for" * 100)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(missing, "cannot be read: unable to open database file", id="missing"),
        pytest.param(empty, "holds no records of this version of Handrail; start it once on this file", id="empty"),
        pytest.param(garbage, "cannot be read: file is not a database", id="not a database"),
        pytest.param(newer, f"written by a newer Handrail ({NEWER}); upgrade Handrail", id="newer"),
    ],
)
def test_an_unreadable_file_is_a_config_error(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    """The error names the file and says what to do; no file is made by asking for one."""
    path = tmp_path / "handrail.db"
    make(path)

    with pytest.raises(ConfigError) as refused:
        sqlite.Reader(str(path))

    assert ([f"{path}: {says}"], make is not missing) == (refused.value.problems, path.exists())
