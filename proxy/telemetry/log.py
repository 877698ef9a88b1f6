"""Owns diagnostic logging: JSON lines to one stream, written by a thread, so that a slow stream never slows a call.

In: an event and its fields; records of the libraries we use. Out: one JSON object per line.
Never: content. A library's arguments and an exception's message can hold some, so only its template, the exception's
type and the place in the code are written.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final[dict[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

ROOM: Final = 10_000
"""Lines that may wait for the stream."""
CLOSE_S: Final = 1.0
FRAMES: Final = 5


class _Writer:
    """Writes waiting lines to one stream, on a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="handrail-log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Take a line, or drop and count it."""
        if len(self._lines) < ROOM:
            self._lines.append(line)
            self._wake.set()
        else:
            self.dropped += 1

    def close(self) -> None:
        """Wait a moment for the stream, then give up what is still waiting."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        self.dropped += len(self._lines)
        self._lines.clear()

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait()
            self._wake.clear()
            last = self._closing  # read before the lines: what was put before closing is still written
            while self._lines:
                self._write(self._lines.popleft())

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):  # the other end is gone, or the stream is closed: there is nobody left to tell
            self.dropped += 1


class _Log:
    """The process's log; until it is opened, lines go straight to standard error."""

    def __init__(self) -> None:
        self._least = logging.INFO
        self._writer: _Writer | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Return how many lines were given up since the start."""
        return self._dropped + (self._writer.dropped if self._writer else 0)

    def __call__(self, level: Level, event: str, **fields: object) -> None:
        """Write one line; never waits while the log is open, never raises on what the fields hold."""
        if LEVELS[level] < self._least:
            return
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        record = {"at": at, "level": level, "event": event, **fields}
        line = msgspec.json.encode(record, enc_hook=str).decode() + "\n"
        if self._writer is None:
            sys.stderr.write(line)
        else:
            self._writer.put(line)

    @contextmanager
    def opened(self, level: Level, stream: TextIO) -> Iterator[None]:
        """Write to `stream`, from `level` on, until left."""
        writer = _Writer(stream)
        self._least, self._writer = LEVELS[level], writer
        try:
            yield
        finally:
            writer.close()
            self._least, self._writer = logging.INFO, None
            self._dropped += writer.dropped


log: Final = _Log()
"""Write one diagnostic line: `log("info", "reloaded", revision=…)`."""


@contextmanager
def open_log(level: Level, stream: TextIO) -> Iterator[None]:
    """Send our lines and those of every library to `stream`, from `level` on."""
    root, handler = logging.root, _Libraries()
    before = root.level
    with log.opened(level, stream):
        root.addHandler(handler)
        root.setLevel(max(LEVELS[level], logging.WARNING))
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(before)


class _Libraries(logging.Handler):
    """Takes what libraries log through the standard module."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's record without its arguments."""
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        log(level, "library", logger=record.name, message=_template(record), **_failure(record))


def _template(record: logging.LogRecord) -> str:
    """Return the constant part of a message; asyncio appends the repr of objects after a bracket or a line break."""
    return re.split(r"[\n(<{\[]", str(record.msg), maxsplit=1)[0].strip()


def _failure(record: logging.LogRecord) -> dict[str, object]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    frames = [f"{frame.f_globals.get('__name__', '')}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    return {"error": type(error).__name__, "where": frames[-FRAMES:]}
