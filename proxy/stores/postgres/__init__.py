"""Owns the shelf's warm tier: records in PostgreSQL, in tables that people query.

`address` is where it is, `schema` what stands there and how it
came to, `shelf` what is written, read and deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from proxy.stores.postgres.address import arguments
from proxy.stores.postgres.shelf import PostgresShelf
from proxy.terms import Secret

__all__ = ["PostgresShelf", "Settings", "open"]

_POOL = 2
"""Connections at most: one ships, one is for who looks."""
_CLOSING_S = 2.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the database is, and how long it may take."""

    url: str
    password: Secret = Secret("")
    connect_s: float = 5.0
    statement_s: float = 30.0


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[PostgresShelf]:  # noqa: A001 - the name that a store plug-in exports
    """Yield the shelf; nothing is asked of the database before the first row comes, so it may be away."""
    pool = asyncpg.create_pool(
        **await asyncio.to_thread(arguments, settings.url),
        password=settings.password.reveal(),
        min_size=0,
        max_size=_POOL,
        timeout=settings.connect_s,
        command_timeout=settings.statement_s,
        # A pooler between may hand each statement to another connection.
        statement_cache_size=0,
        server_settings={"application_name": "handrail"},
    )
    await pool
    try:
        yield PostgresShelf(pool)
    finally:
        with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.wait_for(pool.close(), _CLOSING_S)
        pool.terminate()
