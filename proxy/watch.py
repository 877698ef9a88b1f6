"""Owns noticing that files have changed: configuration, policies, keys.

A poll of names, sizes and times, because it is the one way that sees editors' renames, ConfigMap symlink swaps and
network file systems alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

Marks: TypeAlias = dict[str, tuple[int, int, int]]


def marks(paths: Iterable[Path]) -> Marks:
    """Return what tells two versions of the same files apart: inode, size and modification time of each that exists."""
    found: Marks = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        found[str(path)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


async def watch(
    paths: Callable[[], Iterable[Path]], changed: Callable[[], Awaitable[None]], *, seen: Marks, every_s: float = 1.0
) -> None:
    """Call `changed` each time any of the files is another than before, until cancelled.

    `seen` are the marks from before the files were read the first time: what changed since then is a change.
    """
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(lambda: marks(paths()))
        if now != seen:
            seen = now
            await changed()
