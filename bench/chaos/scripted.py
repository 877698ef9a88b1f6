"""Owns the provider of the fault matrix: to the byte what each cell says, at addresses wrong in all ways.

A call is told by its model: the digits in its name are the number of the cell. At the path `/good` all is well.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from bench.chaos.certificates import Authority
from bench.chaos.matrix.cell import Cell, Play, good

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_MODEL = re.compile(rb'"model": ?"[a-z]+(\d+)"')
_RESET = struct.pack("ii", 1, 0)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Provider:
    """Plays the cells."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self.asked: Counter[int] = Counter()
        """How many times each cell's call has arrived, at the good target as well."""
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        play = Play()
        self.open.add(writer)
        with suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                found = _MODEL.search(body)
                number = int(found[1]) if found else 0
                self.asked[number] += 1
                cell = self._cells[number]
                play = Play(pieces=good(cell.stream)) if b" /good/" in head else cell.play
                await _write(writer, play)
                if play.end == "silence":
                    await reader.read(-1)
                if play.end != "whole":
                    break
        self.open.discard(writer)
        _end(writer, reset=play.end == "reset")


async def _write(writer: asyncio.StreamWriter, play: Play) -> None:
    for piece in play.pieces:
        for start in range(0, len(piece), play.slice or len(piece) or 1):
            writer.write(piece[start : start + (play.slice or len(piece))])
            await writer.drain()
            await asyncio.sleep(play.gap_s)


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    sock = writer.get_extra_info("socket")
    if reset and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
    else:
        writer.close()


# --- addresses ------------------------------------------------------------------------------------------------------


class Places:
    """Where the models of cells are: ports that are taken at once, and served while `serving` is entered."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self._tls: dict[str, ssl.SSLContext] = {
            "tls: well": self.authority.context("localhost"),
            "tls: unknown authority": self.authority.context("localhost", unknown=True),
            "tls: another host": self.authority.context("elsewhere.example"),
            "tls: expired": self.authority.context("localhost", expired=True),
        }
        names = ("raw", "tls: plain http", "tls: silent", "tls: closes", *self._tls)
        self._sockets = {name: _listening(128) for name in names}
        self._closed = socket.create_server(("127.0.0.1", 0))
        self._closed_port = _port(self._closed)
        self._closed.close()
        self._full = _listening(0)
        self._waiting = socket.create_connection(("127.0.0.1", _port(self._full)))
        """Fills the backlog: who comes after gets no answer to a SYN."""

    def urls(self) -> dict[str, str]:
        """Return the base URL of each place."""
        raw = f"http://127.0.0.1:{_port(self._sockets['raw'])}"
        tls = {
            name: f"https://localhost:{_port(sock)}/v1"
            for name, sock in self._sockets.items()
            if name.startswith("tls")
        }
        return {
            "raw": f"{raw}/v1",
            "good": f"{raw}/good/v1",
            "refused": f"http://127.0.0.1:{self._closed_port}/v1",
            "dropped": f"http://127.0.0.1:{_port(self._full)}/v1",
            "unknown host": "http://nobody.invalid/v1",
            "impossible host": f"http://{'a' * 64}.invalid/v1",
            **tls,
        }

    @asynccontextmanager
    async def serving(self, provider: Provider) -> AsyncIterator[None]:
        """Serve all of them."""
        handlers: dict[str, Serve] = {"tls: plain http": _plain, "tls: silent": _silent, "tls: closes": _closes}
        async with AsyncExitStack() as stack:
            for name, sock in self._sockets.items():
                handler = handlers.get(name, provider.serve)
                server = await asyncio.start_server(handler, sock=sock, ssl=self._tls.get(name), limit=1 << 26)
                stack.callback(server.close)
            yield
            for writer in tuple(provider.open):
                writer.transport.abort()

    def close(self) -> None:
        """Close what serves nothing."""
        self._full.close()
        self._waiting.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await reader.read(-1)
    writer.close()


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    writer.close()


async def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _listening(backlog: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])
