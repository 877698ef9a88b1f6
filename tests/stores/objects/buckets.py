"""Owns the buckets that tests of the cold tier use: in memory, on disk, by each cloud's protocol, and failing."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace
from obstore.store import MemoryStore, ObjectStore

from proxy.stores import objects
from proxy.stores.objects import ObjectShelf, Settings
from proxy.stores.objects.bucket import Bucket
from proxy.stores.objects.erasing import Note
from proxy.terms import Row, Selection, Table
from tests.object_servers import (
    AZURE_KEYS,
    S3_KEYS,
    azure_server,
    azurite,
    google_server,
    s3_server,
    seaweed,
)

GOOGLE_KEYS = {"GOOGLE_BEARER_TOKEN": "made-up-token"}
DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_767_225_600_000
"""The beginning of 2026."""

_prefixes = itertools.count()


def _s3() -> Settings:
    return Settings(url=f"s3://handrail/{next(_prefixes)}/a b", endpoint=s3_server(), region="us-east-1")


def _google() -> Settings:
    return Settings(url=f"gs://handrail/{next(_prefixes)}", endpoint=google_server().url)


def _azure() -> Settings:
    return Settings(url=f"az://handrail/{next(_prefixes)}", endpoint=azure_server())


SERVICES: Mapping[str, tuple[Callable[[], Settings], Mapping[str, str]]] = {
    "disk": (lambda: Settings(url="cold tier"), {}),
    "google": (_google, GOOGLE_KEYS),
    **({"s3": (_s3, S3_KEYS)} if seaweed() else {}),
    **({"azure": (_azure, AZURE_KEYS)} if azurite() else {}),
}
"""What there is to run against here, each with what its environment has to say."""


@asynccontextmanager
async def opened(service: str, folder: Path) -> AsyncIterator[ObjectShelf]:
    """Open a shelf of its own with a service, as `app` does."""
    settings, environment = SERVICES[service]
    os.environ.update(environment)
    async with objects.open(settings(), folder, lambda: NOW_MS) as shelf:
        yield shelf


@asynccontextmanager
async def in_bucket(bucket: Bucket, by: str = "test", now_ms: int = NOW_MS) -> AsyncIterator[ObjectShelf]:
    """Open a shelf on a bucket that a test looks into."""
    with ThreadPoolExecutor(4) as pool:
        yield ObjectShelf(bucket, Note(bucket, by, lambda: now_ms), pool)


class PowerCut(OSError):
    """What was under way is not done any more."""


class Breaking(Bucket):
    """A bucket that is cut off when it has been changed so often."""

    def __init__(self, store: ObjectStore | None = None) -> None:
        self.store = store or MemoryStore()
        super().__init__(self.store)
        self.left = 10**9

    def create(self, path: str, data: bytes) -> bool:
        """Write an object, or break."""
        self._spend()
        return super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """Write an object, or break."""
        self._spend()
        super().replace(path, data)

    def delete(self, path: str) -> None:
        """Delete an object, or break."""
        self._spend()
        super().delete(path)

    def paths(self) -> list[str]:
        """Return where objects are."""
        return sorted(entry.path for entry in self.entries(""))

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PowerCut("cut off")


def row(number: int, session: str = "talk-1", customer: str = "", **fields: object) -> Row:
    """Make a row of an exchange; a thousand of them happen in a second."""
    made = Row(
        table=Table.EXCHANGES,
        id=f"ex_{number}",
        version=1,
        at_ms=NOW_MS + number,
        session_id=session,
        customer=customer,
        body=b'{"id": "ex_%d", "status": 200}' % number,
    )
    return replace(made, **fields)


def of(*sessions: str) -> Selection:
    """Select conversations."""
    return Selection(sessions=frozenset(sessions))


async def found(shelf: ObjectShelf, which: Selection) -> list[Row]:
    """Return the rows that are selected."""
    return [one async for one in shelf.rows(which)]
