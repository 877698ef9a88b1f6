"""Owns the thread that moves the log into the file, so that the event loop never waits for a disk.

Where what is written has to survive a power cut, two things more hold. Invariant: the file is on disk before the log
starts over. Invariant: the head of a log that starts over is on disk before its next page, else what an old head says
of new pages and old ones would be undone after a power cut. SQLite keeps both where it may sync at all
(`synchronous=NORMAL`); this thread starts the log over itself, so that the loop does not meet the second.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from contextlib import closing

from proxy.stores.sqlite.ballast import Ballast
from proxy.stores.sqlite.file import Settings, is_busy

_LONG_LOG_FRAMES = 8_000
"""About 32 MB of log."""
_FULL_LOG_FRAMES = 4_000
"""After so many it is moved at once: what comes meanwhile finds room in what is laid out."""
_HEAD_BYTES = 32
_FRAME_BYTES = 4096 + 24
_ROUNDS = 3
"""Each copies what was written during the one before, so that little is left to wait for."""
_PIECE = 1 << 20
_PATIENCE_MS = 5_000


class Checkpointer:
    """The thread, for one file."""

    def __init__(self, settings: Settings, ballast: Ballast | None = None) -> None:
        self.error = ""
        self._settings = settings
        self._ballast = ballast
        self._stop = threading.Event()
        self._due_s = 0.0
        self._thread = threading.Thread(target=self._run, name="store-checkpoint", daemon=True)

    def start(self) -> None:
        """Start checkpointing."""
        self._thread.start()

    def stop(self) -> None:
        """Checkpoint once more and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._settings.checkpoint_s):
            if self._due():
                self._checkpoint()
            if self._ballast:
                self._ballast.hold()
        self._checkpoint()

    def _due(self) -> bool:
        settings, now_s = self._settings, time.monotonic()
        with contextlib.suppress(OSError):  # What is wrong with the file is told by moving the log into it.
            if settings.lasting and now_s < self._due_s and not is_long(settings.path, _FULL_LOG_FRAMES):
                return False
        self._due_s = now_s + settings.lasting_checkpoint_s
        return True

    def _checkpoint(self) -> None:
        try:
            with closing(sqlite3.connect(self._settings.path, timeout=0.01, isolation_level=None)) as connection:
                copy_log(connection, lasting=self._settings.lasting)
            self.error = ""
        except sqlite3.Error as error:
            self.error = str(error)


def is_long(path: str, frames: int) -> bool:
    """Say whether the log has so many pages since it started over: each bears the salts that its head got then."""
    with open(f"{path}-wal", "rb", buffering=0) as log:
        head = log.read(_HEAD_BYTES)
        log.seek(_HEAD_BYTES + (frames - 1) * _FRAME_BYTES)
        frame = log.read(_HEAD_BYTES)
    return len(frame) == _HEAD_BYTES and frame[8:16] == head[16:24]


def copy_log(connection: sqlite3.Connection, *, lasting: bool) -> None:
    """Copy without blocking writers; a log grown long starts over, for which writers wait while its end is copied.

    That end is short and, unless it has to last, is not synced until the next time, so that nobody waits for the disk.
    The log is overwritten in place, not truncated: pages that it already has are cheaper to write than new ones.
    """
    connection.execute("PRAGMA synchronous=NORMAL")
    for _ in range(_ROUNDS):
        _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if frames > _LONG_LOG_FRAMES:
        connection.execute(f"PRAGMA synchronous={'NORMAL' if lasting else 'OFF'}")
        _, frames, copied = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    if lasting and copied == frames > 1:
        _start_over(connection)


def _start_over(connection: sqlite3.Connection) -> None:
    """Write the first page of a log that is all copied, and sync its head, before somebody on the loop has to."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA user_version={version}")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise


def lay_out(connection: sqlite3.Connection, path: str) -> None:
    """Get all on disk that is in the file and its log, and give the log the length that it grows to, where there is
    room: syncing pages that a file already has spares the disk its book-keeping. SQLite takes what stands behind a
    log's last page for nothing, and zeros all the more."""
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    _start_over(connection)
    connection.execute("BEGIN IMMEDIATE")  # Nobody else appends meanwhile.
    try:
        _lengthen(f"{path}-wal")
    finally:
        connection.execute("ROLLBACK")
        connection.execute("PRAGMA busy_timeout=0")


def _lengthen(path: str) -> None:
    with open(path, "r+b", buffering=0) as log:
        size = log.seek(0, os.SEEK_END)
        try:
            for _ in range(size, _LONG_LOG_FRAMES * _FRAME_BYTES, _PIECE):
                log.write(bytes(_PIECE))
        except OSError:
            log.truncate(size)
