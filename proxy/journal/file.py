"""Owns a file that is only ever appended to: what could not be written whole is not there.

A file may be laid out ahead with zeros that are written over. A sync of pages that the file has already costs what the
disk takes; for a file that grows the file system commits its journal as well, often at many times that.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path


class Appended:
    """One file, its owner's alone; whatever raises OSError leaves it as it was. One thread may sync it while another
    appends: what was appended before is on disk then."""

    def __init__(self, path: Path, ahead: int = 0, sync: Callable[[int], None] = os.fdatasync) -> None:
        """Take how many bytes are laid out at a time; a file that was left so is to be cut before it is written to."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._file).st_size
        self._ahead = ahead
        self._sync = sync
        self._laid = self.size
        """How much the file has, zeros included."""
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
        if self._ahead and self.size + len(data) > self._laid:
            self._lay_out(self.size + len(data) + self._ahead)
        try:
            self._write(data, self.size)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                self.cut(self.size)
            raise
        self.size += len(data)
        self._laid = max(self._laid, self.size)

    def cut(self, size: int) -> None:
        """Give up what stands behind this, or fill it up with zeros."""
        os.ftruncate(self._file, size)
        self._synced = -1
        self.size, self._laid, self._torn = size, size, False

    def _lay_out(self, size: int) -> None:
        """Fill up with zeros. Where there is no room for that the file grows with what is written, as any other."""
        with contextlib.suppress(OSError):
            self._write(bytes(size - self._laid), self._laid)
            self._laid = size

    def _write(self, data: bytes, place: int) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file, rest, place)
            rest, place = rest[written:], place + written

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        self._check()
        size = self.size
        if self._synced == size:
            return
        try:
            self._sync(self._file)
        except OSError:
            self._lost = True
            raise
        self._synced = size

    def _check(self) -> None:
        if self._lost:
            raise OSError(errno.EIO, "the disk has failed, restart Handrail once it is well")

    def close(self) -> None:
        """Close the file, without what was laid out."""
        if self._laid > self.size:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
        os.close(self._file)
