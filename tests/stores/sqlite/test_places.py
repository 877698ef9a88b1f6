"""Owns the proof of proxy/stores/sqlite/places.py beyond the contracts: several processes, and indexes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.stores import sqlite as shelf
from proxy.stores.sqlite import places
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from tests.stores.samples import AT_MS, stand

WORKERS = 4


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


def test_a_conversation_goes_on_in_one_process(path: str) -> None:
    """Of several that ask at one instant where many stand alike, no two get the same."""
    with closing(connect(path)) as connection:
        books, rows = Books(connection), places.Places(connection)
        books.commit([partial(rows.stand, stand(f"s_{n}", "hello"), AT_MS) for n in range(4 * WORKERS + 1)])

    async def found() -> list[str]:
        async with shelf.open(shelf.Settings(path=path)) as opened:
            standing = [await opened.standing("hello") for _ in range(4)]
            return [place.session_id for place in standing if place]

    with ThreadPoolExecutor(WORKERS) as pool:
        names = [name for some in pool.map(lambda _: asyncio.run(found()), range(WORKERS)) for name in some]

    assert (4 * WORKERS, 4 * WORKERS) == (len(names), len(set(names)))


@pytest.mark.parametrize("query", [places.STANDING, places.PASSED])
def test_a_call_searches_by_an_index(path: str, query: str) -> None:
    """However many conversations began alike, a call reads a few rows, and sorts none."""
    with closing(connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", ("x",) * query.count("?")).fetchall()

    assert ["SEARCH"] == [step[3].split()[0] for step in plan]


def test_house_keeping_looks_at_the_oldest_only(path: str) -> None:
    """A round without anything old to delete ends after one slice."""
    with closing(connect(path)) as connection:
        books, rows = Books(connection), places.Places(connection)
        books.commit([partial(rows.stand, stand(f"s_{n}", f"e_{n}", f"m_{n}"), AT_MS + n) for n in range(250)])
        purged = [count for _ in range(4) for count in books.commit([partial(rows.purge, AT_MS + 120)])]

    assert [200, 40, 0, 0] == purged
