"""Owns a file that is only ever appended to: what could not be written whole is not there."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path


class Appended:
    """One file, its owner's alone; whatever raises OSError leaves it as it was."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._file).st_size
        self._torn = False
        self._synced = -1
        """Size of what is known to be on disk."""
        self._lost = False
        """A sync has failed: what the disk has of this file nobody knows, and no later sync tells."""

    def add(self, data: bytes) -> None:
        """Append, so that a process that is killed from here on has written it."""
        self._check()
        if self._torn:
            self.cut(self.size)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                self.cut(self.size)
            raise
        self.size += len(data)

    def cut(self, size: int) -> None:
        """Give up what stands behind this, or fill it up with zeros."""
        os.ftruncate(self._file, size)
        self._synced = -1
        self.size, self._torn = size, False

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        self._check()
        if self._synced == self.size:
            return
        self._lost = True
        os.fdatasync(self._file)
        self._lost = False
        self._synced = self.size

    def _check(self) -> None:
        if self._lost:
            raise OSError(errno.EIO, "the disk has failed, restart Handrail once it is well")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
