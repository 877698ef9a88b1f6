"""Owns the file as a tier: what is in it of some conversations, what is too old, and how either leaves it for good.

Every operation opens the file anew, on a thread, beside whoever serves from it. `search` reads its bytes as well: it is
for processes that do not serve, since closing a file drops every lock that a process has on it.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from proxy.errors import Overloaded
from proxy.stores import OPEN
from proxy.stores.sqlite.counters import scopes
from proxy.stores.sqlite.file import overloaded, reopen
from proxy.stores.sqlite.needles import Needles
from proxy.stores.sqlite.tables import COUNT, PURGE, SHAPES, delete, row, select
from proxy.terms import Row, Selection, Table

T = TypeVar("T")

_PAGE = 500
_SLICE = 1000
"""Rows deleted in one transaction: those who serve wait for it."""
_PIECE = 1 << 22
_PATIENCE_MS = 30_000
"""How long an operation waits for others: purging for those who write, erasing for those who read as well."""

_CUSTOMERS = "SELECT session_id FROM links WHERE customer IN (SELECT value FROM json_each(?))"
_ROWS = {
    table: select(
        table,
        f"""{shape.among} AND ({shape.at_ms}, {shape.id}) > (?2, ?3)
            ORDER BY {shape.at_ms}, {shape.id} LIMIT {_PAGE}""",
    )
    for table, shape in SHAPES.items()
}
_ERASE = {table: delete(table, shape.among) for table, shape in SHAPES.items()}
# Whoever remembers the highest number of a record would miss one that gets it again: the newest that is left takes it.
_RENUMBER = "UPDATE exchanges SET seq = ?1 WHERE seq = (SELECT max(seq) FROM exchanges) AND seq < ?1"
_UNSHIPPED = {
    table: f"""DELETE FROM outbox WHERE kind = '{table}'
        AND id IN (SELECT {shape.id} FROM {table} r WHERE {shape.among})"""
    for table, shape in SHAPES.items()
}
_FORGET = "DELETE FROM counters WHERE scope = ? AND reserved_nanousd = 0"
_NAMES = "(SELECT value FROM json_each(?1))"
_CLOSED = ", ".join(f"'{entry}'" for entry in OPEN)
_ATTEMPTS = f"""DELETE FROM attempts WHERE entry NOT IN ({_CLOSED})
    AND (substr(reservation_id, 1, instr(reservation_id, ':') - 1) IN
        (SELECT id FROM exchanges WHERE session_id IN {_NAMES})
    OR EXISTS (SELECT 1 FROM json_each(held_under)
        WHERE json_extract(value, '$[0]') IN (SELECT 'conversation:' || value FROM json_each(?1))))"""
_TRACES = (
    f"DELETE FROM stands WHERE session_id IN {_NAMES}",
    f"DELETE FROM marks WHERE session_id IN {_NAMES}",
    f"DELETE FROM dispatched WHERE json_extract(body, '$.session.id') IN {_NAMES}",
)
"""What else names a conversation. Money that is held for a call under way stays until that is settled."""


class LocalTier:
    """The tier that every record is written to first."""

    name = "local"

    def __init__(self, path: str, patience_ms: int = _PATIENCE_MS) -> None:
        self._path = path
        self._patience_ms = patience_ms

    async def rows(self, which: Selection) -> AsyncIterator[Row]:
        """Yield the rows that are selected, table by table, oldest first."""
        sessions = await self._do(partial(_sessions, which))
        for table in SHAPES:
            last: tuple[int, str] = (-1, "")
            while page := await self._do(partial(_page, table, sessions, last)):
                for found in page:
                    yield found
                last = page[-1].at_ms, page[-1].id

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        """Delete the rows of what was over earlier, or with `dry_run` none; return how many they are: of records, when
        what was kept of their calls has gone before, as it does.

        What still waits, for a human or for a shelf, is not over.
        """
        if dry_run:
            return await self._do(partial(_count, table, before_ms))
        total = 0
        while deleted := await self._do(partial(_purge, table, before_ms)):
            total += deleted
        return total

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        """Delete the rows that are selected and whatever else names their conversations, in the file and in its log;
        return how many rows there were of each table. Raise Overloaded when that cannot be done now."""
        return await self._do(partial(_erase, which))

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        """Return in how many rows and places of its files each needle still occurs."""
        looked_for = Needles(needles)
        in_rows = await self._do(partial(_in_rows, looked_for))
        in_files = await asyncio.to_thread(_in_files, self._path, looked_for)
        return {needle: in_rows[needle] + in_files[needle] for needle in needles}

    async def _do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with closing(reopen(self._path, "rw")) as connection:
                connection.execute(f"PRAGMA busy_timeout={self._patience_ms}")
                # What moves the log into the file syncs both: nothing erased comes back with the power.
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA secure_delete=ON")
                return operation(connection)

        try:
            return await asyncio.to_thread(run)
        except sqlite3.Error as error:
            raise overloaded(error) from error


def _sessions(which: Selection, connection: sqlite3.Connection) -> str:
    """Return the conversations that are selected, as a JSON array."""
    of_customers = connection.execute(_CUSTOMERS, (json.dumps([*which.customers]),))
    return json.dumps(sorted(which.sessions.union(name for (name,) in of_customers)))


def _page(table: Table, sessions: str, last: tuple[int, str], connection: sqlite3.Connection) -> list[Row]:
    return [row(table, columns) for columns in connection.execute(_ROWS[table], (sessions, *last))]


def _count(table: Table, before_ms: int, connection: sqlite3.Connection) -> int:
    count: int = connection.execute(COUNT[table], (before_ms,)).fetchone()[0]
    return count


def _purge(table: Table, before_ms: int, connection: sqlite3.Connection) -> int:
    return connection.execute(PURGE[table], (before_ms, _SLICE)).rowcount


def _erase(which: Selection, connection: sqlite3.Connection) -> Mapping[Table, int]:
    sessions = _sessions(which, connection)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_ATTEMPTS, (sessions,))
        connection.executemany(_FORGET, [(scope,) for scope in scopes(connection, which, sessions)])
        highest = connection.execute("SELECT max(seq) FROM exchanges").fetchone()
        counts = {table: _erase_rows(table, sessions, connection) for table in SHAPES}
        connection.execute(_RENUMBER, highest)
        for statement in _TRACES:
            connection.execute(statement, (sessions,))
    # Where rows were moved between pages, copies of them stay in the gaps: only a new file has none.
    connection.execute("VACUUM")
    _empty_log(connection)
    return counts


def _erase_rows(table: Table, sessions: str, connection: sqlite3.Connection) -> int:
    connection.execute(_UNSHIPPED[table], (sessions,))
    return connection.execute(_ERASE[table], (sessions,)).rowcount


def _empty_log(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise Overloaded(
            "The rows are deleted, but the file is being read: copies of them are still in its log. Try again.",
            code="store_busy",
        )


def _in_rows(needles: Needles, connection: sqlite3.Connection) -> Counter[str]:
    """Return in how many rows each needle is."""
    found = needles.nowhere()
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for columns in connection.execute(f"SELECT * FROM {table}"):
            text = "\n".join(column for column in columns if isinstance(column, str))
            found.update(needles.found(text.encode()).keys())
    return found


def _in_files(path: str, needles: Needles) -> Counter[str]:
    found = needles.nowhere()
    for file in (Path(path), Path(f"{path}-wal")):
        found.update(needles.in_pieces(_pieces(file) if file.exists() else ()))
    return found


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            yield piece
