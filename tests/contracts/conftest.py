"""Owns the stores that every contract is run against, and a way to see what each of them has written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from proxy.stores import Budgets, Store, memory, redis, sqlite
from proxy.stores.memory import MemoryStore
from proxy.terms import Exchange, Kept
from tests.redis_servers import shared_server


class Shelf:
    """One store of the shelf under test."""

    def __init__(self, store: Store, path: Path, shared: Path | None = None) -> None:
        self.store = store
        self._shared = shared
        self._memory = store if isinstance(store, MemoryStore) else None
        self._path = path

    async def drain(self) -> None:
        """Wait until everything queued before is written."""
        await self.store.recover(0)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Store]:
        """Open what another process would: a connection of its own to the same file, or the store that forgets."""
        if self._memory:
            yield self._memory
            return
        path = self._path.with_name("beside.db") if self._shared else self._path
        async with sqlite.open(sqlite.Settings(path=str(path), checkpoint_s=0.05)) as other:
            if self._shared is None:
                yield other
                return
            async with open_shared(self._shared, "b", other) as shared:
                yield cast(Store, Conversing(shared, other))

    async def kept(self) -> dict[str, Kept]:
        """Return what was kept of calls, by exchange id, oldest first."""
        await self.drain()
        if self._memory:
            return self._memory.kept()
        with sqlite.Reader(str(self._path)) as reader:
            return {kept.exchange_id: kept for kept in reader.kept(0)}

    async def records(self) -> dict[str, Exchange]:
        """Return the newest version of every record, finished or not, by id."""
        await self.drain()
        if self._memory:
            return self._memory.exchanges
        with sqlite.Reader(str(self._path)) as reader:
            return {exchange.id: exchange for exchange in [*reader.in_flight(), *dict(reader.after(0)).values()]}


class Together:
    """Budgets of one store, and all else of another: what `app` puts together."""

    def __init__(self, budgets: Budgets, rest: Store) -> None:
        self._rest = rest
        self.reserve, self.settle, self.totals = budgets.reserve, budgets.settle, budgets.totals
        self.heartbeat, self.recover = budgets.heartbeat, budgets.recover

    def __getattr__(self, name: str) -> object:
        return getattr(self._rest, name)


class Conversing:
    """Conversations that replicas share, and all else of one replica: what `app` puts together."""

    def __init__(self, shared: redis.SharedConversations, own: Store) -> None:
        self._shared = shared
        self._own = own

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Do what the upkeep does."""
        await self._shared.expire(at_ms)
        return await self._own.recover(at_ms)

    def __getattr__(self, name: str) -> object:
        return getattr(self._shared if hasattr(self._shared, name) else self._own, name)


@asynccontextmanager
async def open_shared(folder: Path, replica: str, own: sqlite.SqliteStore) -> AsyncIterator[redis.SharedConversations]:
    """Open what replicas share whose folders are one test's."""
    settings = redis.ConversationSettings(url=shared_server().url, name=str(folder), replica=replica, timeout_ms=5000)
    async with redis.open_conversations(settings, own) as shared:
        yield shared


@asynccontextmanager
async def shelf_of(name: str, folder: Path) -> AsyncIterator[Shelf]:
    """Open a store by its name."""
    path = folder / "handrail.db"
    if name == "memory":
        async with memory.open(memory.Settings()) as forgetful:
            yield Shelf(forgetful, path)
        return
    async with sqlite.open(sqlite.Settings(path=str(path), checkpoint_s=0.05)) as store:
        if name == "sqlite":
            yield Shelf(store, path)
            return
        if name == "conversations":
            async with open_shared(folder, "a", store) as shared:
                yield Shelf(cast(Store, Conversing(shared, store)), path, folder)
            return
        settings = redis.Settings(
            url=shared_server().url,
            ledger=folder.name,
            replica_path=str(folder / "replica.id"),
            timeout_ms=5000,
            quiet_ms=0,
        )
        async with redis.open(settings, store) as budgets:
            yield Shelf(cast(Store, Together(budgets, store)), path)


STORES = ("memory", "sqlite")
ALSO = {"test_budgets": "redis", "test_sessions": "conversations", "test_desk": "conversations"}
"""What replicas share in Redis: limits, and conversations with what waits for a human in them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a contract against every store that keeps it."""
    if "shelf" in metafunc.fixturenames:
        also = ALSO.get(metafunc.module.__name__.rpartition(".")[2], "")
        purges = "purged" in metafunc.function.__name__ and also == "conversations"
        # There each key goes by itself, `keep_ms` after it was written last.
        metafunc.parametrize("shelf", (*STORES, *([also] if also and not purges else [])), indirect=True)


@pytest.fixture
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    """Give each store in turn, empty."""
    async with shelf_of(request.param, tmp_path) as opened:
        yield opened
