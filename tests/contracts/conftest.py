"""Owns the stores that every contract is run against, and a way to see what each of them has written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from proxy.stores import Store, memory, sqlite
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore
from proxy.terms import Exchange, Kept


class Shelf:
    """One store of the shelf under test."""

    def __init__(self, store: MemoryStore | SqliteStore, path: Path) -> None:
        self.store: Store = store
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
        async with sqlite.open(sqlite.Settings(path=str(self._path), checkpoint_s=0.05)) as other:
            yield other

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


@asynccontextmanager
async def shelf_of(name: str, folder: Path) -> AsyncIterator[Shelf]:
    """Open a store by its name."""
    path = folder / "handrail.db"
    opened: AbstractAsyncContextManager[MemoryStore | SqliteStore]
    if name == "memory":
        opened = memory.open(memory.Settings())
    else:
        opened = sqlite.open(sqlite.Settings(path=str(path), checkpoint_s=0.05))
    async with opened as store:
        yield Shelf(store, path)


@pytest.fixture(params=["memory", "sqlite"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    """Give each store in turn, empty."""
    async with shelf_of(request.param, tmp_path) as opened:
        yield opened
