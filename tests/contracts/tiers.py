"""Owns the tiers that their contract is run against, and how records come into each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from proxy.ports import Shelf, Tier
from proxy.sealing import PLAIN, Seal
from proxy.stores import postgres, sqlite
from proxy.terms import Exchange, Handoff, Held, Kept, Row, Secret, Selection, Session, Table
from tests.postgres_servers import PASSWORD, shared_server
from tests.stores.objects.buckets import SERVICES, opened

Noun = Exchange | Kept | Session | Held | Handoff

ALL = frozenset(f"talk-{number}" for number in range(10))
"""The conversations that tests are about."""


class Filled(Protocol):
    """A tier under test."""

    tier: Tier

    async def put(self, *nouns: Noun) -> None:
        """Have the tier keep these records."""


class _Local:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.tier: Tier = sqlite.LocalTier(str(path))

    async def put(self, *nouns: Noun) -> None:
        await write(self._path, nouns)


class _Shipped:
    def __init__(self, shelf: Shelf, spool: Path) -> None:
        self.tier: Tier = shelf
        self._shelf = shelf
        self._spool = spool

    async def put(self, *nouns: Noun) -> None:
        await write(self._spool, nouns)
        await self._shelf.write(await rows_of(sqlite.LocalTier(str(self._spool))))


async def write(path: Path, nouns: Sequence[Noun], seal: Seal = PLAIN) -> None:
    """Write records as whoever serves does."""
    async with sqlite.open(sqlite.Settings(path=str(path), seal=seal)) as store:
        for noun in nouns:
            match noun:
                case Exchange():
                    store.finish(noun)
                case Kept():
                    store.keep(noun)
                case Session():
                    store.save(noun, AT_SAVED_MS)
                case Held():
                    await store.hold(noun)
                case Handoff():
                    await store.hand_over(noun)


AT_SAVED_MS = 1_767_225_600_000
"""When sessions are saved."""


async def rows_of(tier: Tier, which: Selection = Selection(sessions=ALL)) -> list[Row]:  # noqa: B008 - frozen
    """Return the rows of a tier."""
    return [row async for row in tier.rows(which)]


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[Filled]:
    """Open the file that everything is written to first."""
    path = folder / "handrail.db"
    await write(path, ())
    yield _Local(path)


@asynccontextmanager
async def warm(folder: Path) -> AsyncIterator[Shelf]:
    """Open the tables of a real server, empty."""
    server = await asyncio.to_thread(shared_server)
    async with postgres.open(postgres.Settings(url=server.url, password=Secret(PASSWORD))) as shelf:
        await shelf.write([])
        yield shelf
    await server.run(f"TRUNCATE {', '.join(f'handrail.{table}' for table in Table)}")


TIERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Filled]]] = {"local": local}
"""Every tier; those that rows are shipped to are in SHELVES as well."""

SHELVES: dict[str, Callable[[Path], AbstractAsyncContextManager[Shelf]]] = {
    "postgres": warm,
    **{name: partial(opened, name) for name in SERVICES},
}


def shipped(
    open_shelf: Callable[[Path], AbstractAsyncContextManager[Shelf]],
) -> Callable[[Path], AbstractAsyncContextManager[Filled]]:
    """Return how a shelf is opened as a tier: what it has came through a local file."""

    @asynccontextmanager
    async def filled(folder: Path) -> AsyncIterator[Filled]:
        async with open_shelf(folder) as shelf:
            yield _Shipped(shelf, folder / "spool.db")

    return filled


TIERS |= {name: shipped(open_shelf) for name, open_shelf in SHELVES.items()}
