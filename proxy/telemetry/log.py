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


class _Log:
    """The process's log; until it is opened, lines go straight to standard error."""

    def __init__(self) -> None:
        self.dropped = 0
        self._least = logging.INFO
        self._stream: TextIO | None = None
        self._lines: deque[str] = deque()
        self._wake = threading.Event()

    def __call__(self, level: Level, event: str, **fields: object) -> None:
        """Write one line; never waits while the log is open, never raises on what the fields hold."""
        if LEVELS[level] < self._least:
            return
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        record = {"at": at, "level": level, "event": event, **fields}
        line = msgspec.json.encode(record, enc_hook=str).decode() + "\n"
        if self._stream is None:
            sys.stderr.write(line)
        elif len(self._lines) < ROOM:
            self._lines.append(line)
            self._wake.set()
        else:
            self.dropped += 1

    @contextmanager
    def opened(self, level: Level, stream: TextIO) -> Iterator[None]:
        """Write to `stream` from a thread until left; then wait a moment for it, and give up what is still waiting."""
        self._least, self._stream = LEVELS[level], stream
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stream, stop), name="handrail-log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self._wake.set()
            thread.join(CLOSE_S)
            self._stream = None
            self._least = logging.INFO

    def _run(self, stream: TextIO, stop: threading.Event) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            last = stop.is_set()
            while self._lines:
                self._put(stream, self._lines.popleft())
            if last:
                return

    def _put(self, stream: TextIO, line: str) -> None:
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):  # the other end is gone, or the stream is closed: there is nobody left to tell
            self.dropped += 1


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
