"""Owns what waits in the file for a shelf: which shelves there are, whose turn it is to ship, and what each has got.

Every operation runs on a thread, on a connection of its own. A row is loaded as it is now, not as it was when its name
was put into the outbox, so one that was written ten times meanwhile is shipped once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO, TypeVar

from proxy.errors import ConfigError, Overloaded
from proxy.stores.sqlite.file import overloaded, reopen
from proxy.stores.sqlite.tables import SHAPES, row, select
from proxy.terms import Row, Table, Waiting

T = TypeVar("T")

_LARGE = 1 << 23
"""Bytes of bodies after which a batch is large enough."""

_LISTED = "SELECT 1 FROM shelves WHERE name = ?"
_NAMES = """SELECT seq, kind, id FROM outbox WHERE seq > (SELECT shipped FROM shelves WHERE name = ?)
    ORDER BY seq LIMIT ?"""
_ROW = {table: select(table, shape.named) for table, shape in SHAPES.items()}
_COUNT = "SELECT count(*) FROM outbox WHERE seq > (SELECT shipped FROM shelves WHERE name = ?)"
_SHIPPED = "UPDATE shelves SET shipped = max(shipped, ?2) WHERE name = ?1"
_EVERYBODY_HAS = "DELETE FROM outbox WHERE seq <= coalesce((SELECT min(shipped) FROM shelves), 1 << 62)"
_UNKNOWN = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT name FROM shelves)"
_FILL = {
    table: f"INSERT OR IGNORE INTO outbox (kind, id) SELECT '{table}', {shape.id} FROM {table} r ORDER BY {shape.at_ms}"
    for table, shape in SHAPES.items()
}


def enlist(path: str, shelves: Collection[str]) -> None:
    """Have rows wait for these shelves and no others. One that is new gets all that there is, from the oldest on."""
    with closing(reopen(path, "rw")) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        known = {name for (name,) in connection.execute("SELECT name FROM shelves").fetchall()}
        for name in known.difference(shelves):
            connection.execute("DELETE FROM shelves WHERE name = ?", (name,))
        connection.execute(_EVERYBODY_HAS)
        fresh = sorted(set(shelves).difference(known))
        for statement in _FILL.values() if fresh else ():
            connection.execute(statement)
        connection.executemany("INSERT INTO shelves VALUES (?, 0)", ((name,) for name in fresh))


@contextmanager
def turn(path: str, shelf: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold, as one process at a time, the turn to write to a shelf what is in this file, or to erase it there.

    Without `wait` say whether it could be had. Whoever erases holds it for file and shelf together: a row that is on
    its way would come after. Raise Overloaded where its file cannot be opened now.
    """
    with _opened(Path(f"{path}.{shelf}.lock")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _opened(lock: Path) -> TextIO:
    try:
        # Whoever can open it can hold it, so it is its owner's alone.
        return open(lock, "a", encoding="ascii", opener=partial(os.open, mode=0o600))
    except OSError as error:
        raise Overloaded(f"{lock} cannot be opened: {error.strerror}.", code="store_unavailable") from error


class Spool:
    """What waits for one shelf."""

    def __init__(self, path: str, shelf: str) -> None:
        self._path = path
        self._shelf = shelf

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Say whether it is this process's turn to ship, until the body ends."""
        held = turn(self._path, self._shelf, wait=False)
        mine = await asyncio.to_thread(held.__enter__)
        try:
            yield mine
        finally:
            await asyncio.to_thread(held.__exit__, None, None, None)

    async def waiting(self, limit: int) -> Waiting:
        """Return at most so many rows, as they are now; what was erased meanwhile is passed over. Raise Overloaded
        where nothing waits for this shelf, since another process was told of no such."""
        return await self._do(partial(_waiting, self._shelf, limit))

    async def shipped(self, upto: int) -> None:
        """Note what the shelf has, and forget what every shelf has."""
        await self._do(partial(_note, self._shelf, upto))

    async def pending(self) -> tuple[int, int]:
        """Return how many rows wait, and of when the oldest is."""
        return await self._do(partial(_pending, self._shelf))

    async def _do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with closing(reopen(self._path, "rw")) as connection:
                connection.execute("PRAGMA synchronous=OFF")
                return operation(connection)

        try:
            return await asyncio.to_thread(run)
        except sqlite3.Error as error:
            raise overloaded(error) from error
        except ConfigError as error:
            # Whoever ships goes on: a file that cannot be opened now, as where too many are open, may be again.
            raise Overloaded(str(error), code="store_unavailable") from error


def _waiting(shelf: str, limit: int, connection: sqlite3.Connection) -> Waiting:
    if not connection.execute(_LISTED, (shelf,)).fetchone():
        raise Overloaded(
            f"Another Handrail on this file was started without the tier {shelf}, so nothing waits for it any more: "
            "give all of them the same `tiers`, and restart them.",
            code="tier_unlisted",
        )
    rows: list[Row] = []
    upto = size = seen = 0
    for number, kind, name in connection.execute(_NAMES, (shelf, limit)):
        if size > _LARGE:
            break
        upto, seen = number, seen + 1
        if found := _load(Table(kind), name, connection):
            rows.append(found)
            size += len(found.body)
    return Waiting(rows=tuple(rows), upto=upto, more=size > _LARGE or seen == limit)


def _load(table: Table, name: str, connection: sqlite3.Connection) -> Row | None:
    columns = connection.execute(_ROW[table], (name,)).fetchone()
    return row(table, columns) if columns else None


def _note(shelf: str, upto: int, connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SHIPPED, (shelf, upto))
        connection.execute(_EVERYBODY_HAS)


def _pending(shelf: str, connection: sqlite3.Connection) -> tuple[int, int]:
    first = _waiting(shelf, 1, connection).rows
    count: int = connection.execute(_COUNT, (shelf,)).fetchone()[0]
    return count, first[0].at_ms if first else 0
