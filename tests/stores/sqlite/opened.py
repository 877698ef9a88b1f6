"""Owns stores that are open without their threads, through whose connection a test makes trouble."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Any

from proxy.errors import Overloaded
from proxy.stores.sqlite import Settings, SqliteStore
from proxy.stores.sqlite.ballast import Ballast
from proxy.stores.sqlite.checkpoints import Checkpointer
from proxy.stores.sqlite.file import connect
from proxy.stores.sqlite.syncer import Syncer


@asynccontextmanager
async def serving(
    path: str, syncer: Syncer | None = None, ballast: Ballast | None = None, **settings: Any
) -> AsyncIterator[tuple[SqliteStore, sqlite3.Connection]]:
    """Open a store without its checkpoints, and give its connection, through which a test makes trouble."""
    connection = await asyncio.to_thread(connect, path)
    chosen = Settings(path=path, checkpoint_s=3600, **settings)
    store = SqliteStore(connection, chosen, Checkpointer(chosen), syncer=syncer, ballast=ballast)
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
