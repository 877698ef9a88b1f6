"""Owns the framing of server-sent events, both ways, without any I/O.

In: bytes in any slicing. Out: events, each with its own bytes, which joined together are exactly what came in.
Never: a judgement about what the data means. Follows the WHATWG HTML standard, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re

import msgspec

LIMIT_BYTES = 8 * 1024 * 1024
"""Most bytes of one event: what is longer cannot be judged whole, so it is not read any further."""

BOM = b"\xef\xbb\xbf"
# Two line ends in a row, whatever each is written as. Atomic: CRLF is one line end, never two.
BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r){2}")
LONGEST_BLANK_LINE = 4
CR = 13


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, or a block of comments; `raw` is its bytes with the blank line that ended it."""

    raw: bytes
    data: bytes | None = None
    """Its data lines joined by LF; None when it has none and is nothing to a client (a comment, a ping)."""
    type: str = "message"
    id: str = ""
    """The last event id that the stream has named so far."""


class EventDecoder:
    """Cuts a stream of bytes into events at its blank lines."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._rest = bytearray()
        self._scan_from = 0
        self._begun = False
        self._has_cr = False
        self._id = ""
        self.overflowed = False
        """An event was longer than the limit: nothing after the events returned so far is read."""

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes in any slicing and return the events that they complete."""
        events: list[Event] = []
        if self.overflowed:
            return events
        if b"\r" in data:
            self._has_cr = True
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            buffer = self._rest
        start, end = 0, self._blank_line(buffer, self._scan_from)
        while end >= 0:
            if end - start > self._limit:
                self.overflowed = True
                return events
            events.append(self._event(bytes(buffer[start:end])))
            start, end = end, self._blank_line(buffer, end)
        if start < len(buffer) or self._rest:
            self._keep(buffer, start)
        return events

    def close(self) -> Event | None:
        """Return what is left when no blank line ended it; None when nothing is."""
        return self._event(bytes(self._rest)) if self._rest and not self.overflowed else None

    def _blank_line(self, buffer: bytes | bytearray, start: int) -> int:
        """Return where the first blank line ends, or -1. A CR at the very end may be half of a CRLF: it waits."""
        if not self._has_cr:
            found = buffer.find(b"\n\n", start)
            return found + 2 if found >= 0 else -1
        match = BLANK_LINE.search(buffer, start)
        if match is None or (match.end() == len(buffer) and buffer[-1] == CR):
            return -1
        return match.end()

    def _keep(self, buffer: bytes | bytearray, start: int) -> None:
        if buffer is self._rest:
            del self._rest[:start]
        else:
            self._rest += memoryview(buffer)[start:]
        # Invariant: no blank line begins before this offset, so that an event fed byte by byte is scanned once.
        self._scan_from = max(0, len(self._rest) - LONGEST_BLANK_LINE + 1)
        self.overflowed = len(self._rest) > self._limit

    def _event(self, raw: bytes) -> Event:
        # By far the most events are one line of data, ended by LF.
        if self._begun and raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and not self._has_cr:
            return Event(raw=raw, data=raw[6:-2], id=self._id)
        lines = (raw if self._begun else raw.removeprefix(BOM)).splitlines()
        self._begun = True
        return self._parsed(raw, lines)

    def _parsed(self, raw: bytes, lines: list[bytes]) -> Event:
        data: list[bytes] = []
        kind = ""
        for line in lines:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                kind = value.decode("utf-8", "replace")
            elif field == b"id" and b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        return Event(raw=raw, data=b"\n".join(data) if data else None, type=kind or "message", id=self._id)


def encode(data: bytes) -> bytes:
    """Return the bytes of one event with this data, which may have several lines."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
