"""Owns a disk whose syncs end when a test says so, or fail."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.stores.sqlite.syncer import Syncer

WAIT_S = 60.0


class SlowDisk:
    """Counts syncs."""

    def __init__(self, *, fast: bool, fails: bool) -> None:
        self.syncs = 0
        self._fast = fast
        self._fails = fails
        self._may = threading.Semaphore(0)

    @classmethod
    @asynccontextmanager
    async def syncing(cls, *, fast: bool = False, fails: bool = False) -> AsyncIterator[tuple[SlowDisk, Syncer]]:
        """Yield the disk, and a syncer that waits for it; who closes a store closes its syncer."""
        disk = cls(fast=fast or fails, fails=fails)
        log = os.open(os.devnull, os.O_RDONLY)
        yield disk, Syncer(log, disk.sync)

    def sync(self, _: int) -> None:
        """Begin, and end when that is asked for."""
        self.syncs += 1
        if self._fails:
            raise OSError(5, "Input/output error")
        if not self._fast:
            self._may.acquire(timeout=WAIT_S)

    def end(self) -> None:
        """End the sync that is under way, or the next."""
        self._may.release()

    async def begun(self, syncs: int) -> None:
        """Wait until so many syncs have begun."""
        async with asyncio.timeout(WAIT_S):
            while self.syncs < syncs:  # noqa: ASYNC110 - a thread counts
                await asyncio.sleep(0.001)
