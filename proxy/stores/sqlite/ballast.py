"""Owns the room that is kept for what is under way when a disk gets full: a file that is given up then.

While it is given up no new call is taken, so that settlements and records alone use the room. It is taken back by
itself once there is room for it twice over, for less would be full again at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

SIZE = 1 << 20
"""A record takes some kilobytes."""


def _free(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


class Ballast:
    """The file beside the records of one store."""

    def __init__(self, path: str, free: Callable[[Path], int] = _free) -> None:
        """Keep room beside a file; `free` says how many bytes its disk has left."""
        self._free = free
        self._path = Path(f"{path}-ballast")
        self.held = self._path.exists() and self._path.stat().st_size == SIZE
        """Whether the room is kept: while it is not, the disk is full."""

    def hold(self) -> None:
        """Take the room, if there is enough of it."""
        if self.held:
            return
        with contextlib.suppress(OSError):
            if self._free(self._path.parent) >= 2 * SIZE:
                self._path.touch(mode=0o600)
                self.held = self._path.write_bytes(bytes(SIZE)) == SIZE

    def give(self) -> None:
        """Give the room up."""
        self.held = False
        with contextlib.suppress(OSError):
            os.truncate(self._path, 0)
