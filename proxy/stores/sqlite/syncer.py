"""Owns the wait for the disk: one sync of the log for all who wait, on a thread.

What is committed when a sync begins is on disk when it ends, so who comes meanwhile gets the next one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Self, TypeAlias

from proxy.errors import Overloaded

Told: TypeAlias = Callable[[Overloaded | None], object]
"""Takes what is wrong: None when all that was committed before is on disk."""


class Syncer:
    """Sync the log of one file, which a connection of this process keeps open: so it stays the same file."""

    def __init__(self, log: int, sync: Callable[[int], None] = os.fdatasync) -> None:
        self.error = ""
        """Why nothing is synced any more."""
        self._log = log
        self._sync = sync
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Told] = []
        self._syncing = False
        self._asked: SimpleQueue[list[Told] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-sync", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the log of the store at this path and sync it, its name included; raise OSError."""
        return cls(await asyncio.to_thread(_synced_log, Path(path)))

    def sync(self, told: Told) -> None:
        """Tell once all that is committed by now is on disk, or that it cannot be."""
        if self.error:
            told(_failing())
            return
        self._waiting.append(told)
        if not self._syncing:
            self._begin()

    async def close(self) -> None:
        """Wait for the sync that is under way, and end."""
        self._asked.put(None)
        await asyncio.to_thread(self._thread.join)
        os.close(self._log)

    def _begin(self) -> None:
        going, self._waiting, self._syncing = self._waiting, [], True
        self._asked.put(going)

    def _run(self) -> None:
        while (going := self._asked.get()) is not None:
            error = None
            try:
                self._sync(self._log)
            except OSError as failure:
                error = failure
            self._loop.call_soon_threadsafe(self._ended, going, error)

    def _ended(self, told: list[Told], error: OSError | None) -> None:
        self._syncing = False
        if error:
            # What a disk has after a failed sync nobody knows, and a later sync that goes well does not tell.
            self.error = f"the disk has failed ({error}); restart Handrail once it is well"
            told, self._waiting = told + self._waiting, []
        elif self._waiting:
            self._begin()
        for tell in told:
            tell(_failing() if error else None)


def _failing() -> Overloaded:
    return Overloaded("The record store is failing.", code="store_unavailable", headers={"retry-after": "1"})


def _synced_log(path: Path) -> int:
    # SQLite's locks are on its two other files: closing this descriptor gives none of them up.
    log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(log)
        for folder in (path.parent, path.parent.parent):
            _sync_folder(folder)
    except BaseException:
        os.close(log)
        raise
    return log


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
