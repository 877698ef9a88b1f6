"""Owns the faults of a network: a TCP proxy whose connections suffer what is asked for, in toxiproxy's words.

`async with FaultProxy(port) as proxy` listens on `proxy.port` in front of a port of this machine. `proxy.toxics` may be
changed at any time and counts for connections that are open already: `[Latency(ms=5000)]`, `[Slicer(size=1)]`. Each
toxic works on one direction: `downstream` is towards who connected. `await proxy.down()` refuses and ends connections,
`await proxy.up()` takes them again on the same port.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

Direction: TypeAlias = Literal["downstream", "upstream"]
_RESET = struct.pack("ii", 1, 0)
_CHUNK = 65536


class Toxic(msgspec.Struct, frozen=True, kw_only=True):
    """What data of one direction suffer."""

    direction: Direction = "downstream"


class Latency(Toxic, frozen=True, kw_only=True):
    """Data arrive later: by `ms`, and up to `jitter_ms` less or more."""

    ms: int
    jitter_ms: int = 0


class Bandwidth(Toxic, frozen=True, kw_only=True):
    """Data arrive at most at this rate."""

    bytes_per_s: int


class SlowClose(Toxic, frozen=True, kw_only=True):
    """The end arrives later."""

    ms: int


class Timeout(Toxic, frozen=True, kw_only=True):
    """Data do not arrive; the connection is closed after `ms`, never if that is 0."""

    ms: int = 0


class ResetPeer(Toxic, frozen=True, kw_only=True):
    """The connection is reset `ms` after data wanted to pass."""

    ms: int = 0


class Slicer(Toxic, frozen=True, kw_only=True):
    """Data arrive in pieces of about `size` bytes, `delay_us` apart."""

    size: int
    variation: int = 0
    delay_us: int = 0


class LimitData(Toxic, frozen=True, kw_only=True):
    """The connection is closed after so many bytes."""

    bytes: int


class FaultProxy:
    """A TCP proxy in front of one port."""

    def __init__(self, target_port: int, *toxics: Toxic, seed: int = 1) -> None:
        self.port = 0
        self.toxics: Sequence[Toxic] = toxics
        self.connections = 0
        """Connections that were taken so far."""
        self._target_port = target_port
        self._dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._server: asyncio.Server | None = None
        self._open: set[Link] = set()

    async def __aenter__(self) -> FaultProxy:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse connections, and end those that are open."""
        if self._server:
            self._server.close()
            self.reset()
            await self._server.wait_closed()
            self._server = None

    def reset(self) -> None:
        """Reset all open connections."""
        for link in tuple(self._open):
            link.reset()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            target_reader, target = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, target)
        self._open.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass("upstream", reader, target, link))
                group.create_task(self._pass("downstream", target_reader, writer, link))
        finally:
            self._open.discard(link)
            link.close()

    def _now(self, direction: Direction) -> list[Toxic]:
        return [toxic for toxic in self.toxics if toxic.direction == direction]

    async def _pass(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        """Hand on the data of one direction until they end."""
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        async with asyncio.TaskGroup() as group:
            group.create_task(_arrive(reader, arrived))
            passed = 0
            while (came := await arrived.get())[1]:
                async for piece in self._through(self._now(direction), *came, passed, link):
                    passed += len(piece)
                    with suppress(OSError):
                        writer.write(piece)
                        await writer.drain()
            for toxic in self._now(direction):
                if isinstance(toxic, SlowClose):
                    await asyncio.sleep(toxic.ms / 1000)
            with suppress(OSError):
                writer.write_eof()

    async def _through(
        self, toxics: list[Toxic], arrived_s: float, data: bytes, passed: int, link: Link
    ) -> AsyncIterator[bytes]:
        """Yield what becomes of data, when it is time for it; nothing if they get lost."""
        if not toxics:
            yield data
            return
        for number, piece in enumerate(_cut(toxics[0], data, passed, self._dice)):
            await asyncio.sleep(_delay_s(toxics[0], arrived_s, len(piece), number, self._dice))
            async for through in self._through(toxics[1:], arrived_s, piece, passed, link):
                yield through
        _end(toxics[0], passed + len(data), link)


async def _arrive(reader: asyncio.StreamReader, arrived: asyncio.Queue[tuple[float, bytes]]) -> None:
    """Note when data came; the empty ones are the end."""
    data = b"more"
    while data:
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            data = b""
        await arrived.put((asyncio.get_running_loop().time(), data))


# --- what each toxic does -------------------------------------------------------------------------------------------


def _cut(toxic: Toxic, data: bytes, passed: int, dice: random.Random) -> list[bytes]:
    """Return the pieces in which data go on: one of nothing where they get lost."""
    match toxic:
        case Timeout() | ResetPeer():
            return [b""]
        case LimitData():
            return [data[: max(toxic.bytes - passed, 0)]]
        case Slicer():
            pieces = []
            while data:
                size = max(1, toxic.size + dice.randint(-toxic.variation, toxic.variation))
                pieces.append(data[:size])
                data = data[size:]
            return pieces
    return [data]


def _delay_s(toxic: Toxic, arrived_s: float, size: int, number: int, dice: random.Random) -> float:
    """Return how long a piece has to wait."""
    match toxic:
        case Latency():
            late_s = (toxic.ms + dice.randint(-toxic.jitter_ms, toxic.jitter_ms)) / 1000
            return arrived_s + late_s - asyncio.get_running_loop().time()
        case Bandwidth():
            return size / toxic.bytes_per_s
        case Slicer():
            return toxic.delay_us / 1e6 if number else 0
        case Timeout() | ResetPeer():
            return toxic.ms / 1000
    return 0


def _end(toxic: Toxic, passed: int, link: Link) -> None:
    """End the connection where a toxic says so."""
    match toxic:
        case ResetPeer():
            link.reset()
        case Timeout() if toxic.ms:
            link.close()
        case LimitData() if passed >= toxic.bytes:
            link.close()


class Link:
    """Both halves of one connection."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers

    def close(self) -> None:
        """Close both, once what was written is gone."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """Reset both at once."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
