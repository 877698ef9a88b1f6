"""Owns the clients of rows that keep a Handrail busy: calls at a steady rate, and streams that stay open."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
LAST_CHUNK = b"\r\n0\r\n\r\n"
BROKEN = b"HTTP/1.1 000 \r\n\r\n"
"""What stands for the head of a reply that did not come."""


class Got(msgspec.Struct, frozen=True, kw_only=True):
    """One reply."""

    head: bytes
    body: bytes
    sent_s: float
    took_s: float

    @property
    def status(self) -> int:
        """Return the status; 0 where there was no reply."""
        return int(self.head.split(b" ", 2)[1])


def body(model: str, *, stream: bool = False, provider: object = None, text: str = "Where is my order?") -> bytes:
    """Return the body of a call; `provider` is how it is to go there (its `Script`)."""
    told = {"metadata": {"provider": msgspec.json.encode(provider).decode()}} if provider else {}
    messages = [{"role": "user", "content": text}]
    tree = {"model": model, "stream": stream, "max_completion_tokens": 100, "messages": messages, **told}
    return msgspec.json.encode(tree)


def request(data: bytes, *, close: bool = False) -> bytes:
    """Return a request with this body."""
    last = "connection: close\r\n" if close else ""
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
    return f"{head}{last}content-length: {len(data)}\r\n\r\n".encode() + data


class Steady:
    """Calls at a steady rate, each on one of the connections that are kept; a streamed reply is read to its end."""

    def __init__(self, port: int, rate: float, make: Callable[[int], bytes], *, connections: int = 32) -> None:
        self._port = port
        self._gap_s = 1 / rate
        self._make = make
        self._connections = connections
        self._next = 0
        self._due = 0.0
        self.stopped = False
        self.got: list[Got] = []

    async def run(self, seconds: float = float("inf")) -> None:
        """Call until the time is over, or `stopped` is set."""
        began = self._due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._client(began + seconds))

    async def _client(self, until: float) -> None:
        while not self.stopped and time.monotonic() < until:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    while not self.stopped and time.monotonic() < until:
                        self._due, number, self._next = self._due + self._gap_s, self._next, self._next + 1
                        await asyncio.sleep(self._due - time.monotonic())
                        if not await self._call(reader, writer, number):
                            break
                finally:
                    writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Make one call; say whether the connection can take another."""
        sent, head, data = time.monotonic(), BROKEN, b""
        with suppress(OSError, EOFError):
            writer.write(request(self._make(number)))
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            data = await (reader.readexactly(int(found[1])) if found else reader.readuntil(LAST_CHUNK))
        self.got.append(Got(head=head, body=data, sent_s=sent, took_s=time.monotonic() - sent))
        return head is not BROKEN


class Open:
    """One stream that is open: its first event has come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._begun = begun
        self.ended_s = 0.0

    @classmethod
    async def call(cls, port: int, data: bytes) -> Open:
        """Send a call and wait for its first event."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(data, close=True))
        return cls(reader, writer, await reader.readuntil(b"data: "))

    async def rest(self) -> bytes:
        """Read until the connection is closed; return all that came."""
        with suppress(OSError):
            while data := await self._reader.read(65536):
                self._begun += data
        self.ended_s = time.monotonic()
        self._writer.close()
        return self._begun

    def leave(self) -> None:
        """Close without reading the rest."""
        self._writer.transport.abort()


async def opened(port: int, bodies: list[bytes], *, at_once: int = 50) -> list[Open]:
    """Open streams, so many at once."""
    turns = asyncio.Semaphore(at_once)

    async def one(data: bytes) -> Open:
        async with turns:
            return await Open.call(port, data)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(data)) for data in bodies]
    return [task.result() for task in tasks]


async def rests(streams: list[Open]) -> list[bytes]:
    """Read streams to their ends."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream.rest()) for stream in streams]
    return [task.result() for task in tasks]
