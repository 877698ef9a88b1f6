"""Owns the shelf's cold tier: Parquet objects on local disk, in S3, Google Cloud Storage or Azure Blob Storage.

`bucket` is the way to them, `layout` their names, `parquet` their inside, `erasing` the note of an erasure, and `shelf`
the port's implementation on all of these.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.stores.objects.bucket import Settings, opened
from proxy.stores.objects.erasing import Note
from proxy.stores.objects.shelf import THREADS, ObjectShelf

__all__ = ["ObjectShelf", "Settings", "open"]


@asynccontextmanager
async def open(  # noqa: A001 - the name that a store plug-in exports
    settings: Settings, base: Path, wall_ms: Callable[[], int]
) -> AsyncIterator[ObjectShelf]:
    """Yield the shelf; leaving waits for what has begun. A path is relative to `base`. Raise ConfigError for a place
    that cannot be; one that cannot be reached is noticed when it is used."""
    bucket = await asyncio.to_thread(opened, settings, base)
    pool = ThreadPoolExecutor(THREADS, "cold-tier")
    try:
        yield ObjectShelf(bucket, Note(bucket, secrets.token_hex(8), wall_ms), pool)
    finally:
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)
