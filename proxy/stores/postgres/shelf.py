"""Owns what is asked of the database, and what its errors mean: that the tier is away, never that a row is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import asyncpg

from proxy.errors import HandrailError, Overloaded
from proxy.stores import spellings
from proxy.stores.postgres.schema import migrate
from proxy.terms import Row, Selection, Table

T = TypeVar("T")
Connection: TypeAlias = asyncpg.Connection

_PAGE = 500
_SLICE = 5000
"""Rows deleted in one transaction."""
_NUL, _NO_NUL = "\0", "\N{REPLACEMENT CHARACTER}"
"""PostgreSQL's text cannot hold the first."""

_WRITE = """INSERT INTO handrail.{0} AS old (id, version, at_ms, session_id, customer, body, raw)
    SELECT id, version, at_ms, session_id, customer, body::jsonb, raw
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[])
        AS new (id, version, at_ms, session_id, customer, body, raw)
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, at_ms = excluded.at_ms,
        session_id = excluded.session_id, customer = excluded.customer, body = excluded.body, raw = excluded.raw
    WHERE old.version < excluded.version"""
_AMONG = "(session_id = ANY($1) OR customer <> '' AND customer = ANY($2))"
_SESSIONS = "SELECT session_id FROM handrail.links WHERE customer = ANY($1)"
_ROWS = f"""SELECT id, version, at_ms, session_id, customer, coalesce(convert_to(body::text, 'UTF8'), raw)
    FROM handrail.{{0}} WHERE {_AMONG} AND (at_ms, id) > ($3, $4) ORDER BY at_ms, id LIMIT {_PAGE}"""
_COUNT = "SELECT count(*) FROM handrail.{0} WHERE at_ms < $1"
_PURGE = f"""DELETE FROM handrail.{{0}} WHERE id IN
    (SELECT id FROM handrail.{{0}} WHERE at_ms < $1 LIMIT {_SLICE})"""
_ERASE = f"DELETE FROM handrail.{{0}} WHERE {_AMONG}"
_SEARCH = """SELECT count(*) FROM handrail.{0} r WHERE EXISTS (SELECT 1 FROM unnest($1::text[]) form
    WHERE strpos(concat_ws(' ', r.id, r.session_id, r.customer, r.body::text), form) > 0
    OR strpos(encode(r.raw, 'escape'), encode(convert_to(form, 'UTF8'), 'escape')) > 0)"""


class PostgresShelf:
    """The warm tier; made by `open`."""

    name = "warm"

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._migrating = asyncio.Lock()
        self._migrated = False

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep rows, of each id the newest, all of them or none."""
        await self._do(partial(_write, rows))

    async def rows(self, which: Selection) -> AsyncIterator[Row]:
        """Yield the rows that are selected, table by table, oldest first."""
        chosen = await self._do(partial(_chosen, which))
        for table in Table:
            last: tuple[int, str] = (-1, "")
            while page := await self._do(partial(_page, table, chosen, last)):
                for row in page:
                    yield row
                last = page[-1].at_ms, page[-1].id

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        """Delete the rows of what happened earlier, or with `dry_run` none; return how many they are."""
        if dry_run:
            return await self._do(partial(_count, table, before_ms))
        total = 0
        while deleted := await self._do(partial(_execute, _PURGE.format(table), before_ms)):
            total += deleted
        return total

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        """Delete the rows that are selected; return how many there were of each table.

        No query finds them again. What the database's own files and backups still have is up to whoever runs it.
        """
        counts = await self._do(partial(_erase, which))
        await self._do(_vacuum)
        return counts

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        """Return in how many rows each needle still occurs."""
        return await self._do(partial(_search, needles))

    async def _do(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            async with self._pool.acquire() as connection:
                await self._prepare(connection)
                return await work(connection)
        except HandrailError:
            raise
        except Exception as error:
            # Who answers oddly makes the client raise anything, and that ends no Handrail: also this tier is away.
            self._migrated = False
            raise _away(error) from error

    async def _prepare(self, connection: Connection) -> None:
        async with self._migrating:
            if not self._migrated:
                await migrate(connection)
                self._migrated = True


async def _write(rows: Sequence[Row], connection: Connection) -> None:
    newest: dict[Table, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: row.version):
        newest.setdefault(row.table, {})[_text(row.id)] = row
    async with connection.transaction():
        # In one order, so that two who write the same rows never wait for each other.
        for table, by_id in sorted(newest.items()):
            columns = zip(*(_columns(row) for _, row in sorted(by_id.items())), strict=True)
            await connection.execute(_WRITE.format(table), *columns)


def _columns(row: Row) -> tuple[str, int, int, str, str, str | None, bytes | None]:
    body, raw = (row.body.decode(), None) if _is_jsonb(row.body) else (None, row.body)
    return _text(row.id), row.version, row.at_ms, _text(row.session_id), _text(row.customer), body, raw


def _is_jsonb(body: bytes) -> bool:
    return body.startswith(b"{") and rb"\u0000" not in body


def _text(name: str) -> str:
    return name.replace(_NUL, _NO_NUL)


_Chosen: TypeAlias = tuple[list[str], list[str]]


async def _chosen(which: Selection, connection: Connection) -> _Chosen:
    """Return the conversations and the customers that are selected; those of a customer are, by the links."""
    customers = [*map(_text, which.customers)]
    linked = await connection.fetch(_SESSIONS, customers)
    return [*map(_text, which.sessions), *(name for (name,) in linked)], customers


async def _page(table: Table, chosen: _Chosen, last: tuple[int, str], connection: Connection) -> list[Row]:
    found = await connection.fetch(_ROWS.format(table), *chosen, *last)
    return [
        Row(table=table, id=name, version=version, at_ms=at_ms, session_id=session, customer=customer, body=body)
        for name, version, at_ms, session, customer, body in found
    ]


async def _count(table: Table, before_ms: int, connection: Connection) -> int:
    count: int = await connection.fetchval(_COUNT.format(table), before_ms)
    return count


async def _execute(statement: str, *values: Any) -> int:
    *arguments, connection = values
    status: str = await connection.execute(statement, *arguments)
    return int(status.rpartition(" ")[2])


async def _erase(which: Selection, connection: Connection) -> Mapping[Table, int]:
    async with connection.transaction():
        chosen = await _chosen(which, connection)
        return {table: await _execute(_ERASE.format(table), *chosen, connection) for table in Table}


async def _vacuum(connection: Connection) -> None:
    for table in Table:
        await connection.execute(f"VACUUM handrail.{table}", timeout=None)


async def _search(needles: Collection[str], connection: Connection) -> Mapping[str, int]:
    return {needle: await _places(_forms(needle), connection) for needle in needles}


async def _places(forms: list[str], connection: Connection) -> int:
    return sum([await connection.fetchval(_SEARCH.format(table), forms) for table in Table])


def _forms(needle: str) -> list[str]:
    forms: Iterable[str] = (form.decode("utf-8", "replace") for form in spellings(needle))
    return sorted(_text(form) for form in forms)


def _away(error: Exception) -> Overloaded:
    """Say what is wrong without the words of the other side: they may quote what was sent."""
    if isinstance(error, asyncpg.PostgresError):
        why = f"{type(error).__name__} {getattr(error, 'sqlstate', '') or ''}".strip()
    elif isinstance(error, OSError) and error.errno:
        why = os.strerror(error.errno)
    else:
        why = "no reply in time" if isinstance(error, TimeoutError) else type(error).__name__
    return Overloaded(f"The warm tier cannot be used: {why}.", code="tier_unavailable")
