"""Owns the client of the fault matrix: one call per cell, and all that came back, and how long it took."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from contextlib import suppress

import msgspec

from bench.chaos.matrix.asking import MODEL, request
from bench.chaos.matrix.cell import Cell
from proxy import openai_json
from proxy.recording import digest

PATIENCE_S = 30.0
_RESET = struct.pack("ii", 1, 0)
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a client got."""

    digest: str
    """Of the request's body, by which its record is known."""
    took_s: float
    head: bytes = b""
    body: bytes = b""
    framed: bool = False
    """The reply came to its own end: a client knows that nothing is missing."""

    @property
    def status(self) -> int:
        """Return the status; 0 without a head."""
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    def header(self, name: str) -> str:
        """Return a header, empty if it is not there."""
        found = re.search(rb"(?im)^%b: *(.*?)\r$" % re.escape(name.encode()), self.head)
        return found[1].decode("latin-1") if found else ""

    @property
    def error(self) -> str:
        """Return the code of the error that this is or ends with, empty without one."""
        at = self._error_at
        text = self.body[at:].removeprefix(b"data: ") if at >= 0 else self.body if self.status >= 400 else b""
        tree = openai_json.parse(text) if text else None
        said = (tree or {}).get("error")
        return str(said.get("code")) if isinstance(said, dict) else "unreadable" if text else ""

    @property
    def good(self) -> bytes:
        """Return what came before the error."""
        at = self._error_at
        return self.body if at < 0 else self.body[:at].removesuffix(b"event: error\n")

    @property
    def _error_at(self) -> int:
        return self.body.rfind(b'data: {"error"') if self.status == 200 else -1


def message(cell: Cell, model: str) -> tuple[bytes, str]:
    """Return a cell's request as it is sent, and the digest of its body."""
    body = request(cell.stream) if cell.body is None else cell.body
    body = body.replace(MODEL.encode(), model.encode())
    lines = [f"{name}: {value}" for name, value in cell.request_headers]
    head = "\r\n".join(
        ["POST /v1/chat/completions HTTP/1.1", "host: h", "connection: close", *lines, f"content-length: {len(body)}"]
    )
    return f"{head}\r\n\r\n".encode("latin-1") + body, digest(body)


async def call(port: int, cell: Cell, model: str) -> Answer:
    """Make a cell's call."""
    data, name = message(cell, model)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    began = time.monotonic()
    head, body, framed = b"", b"", False
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(data)
            if cell.leaves is None:
                head = await reader.readuntil(b"\r\n\r\n")
                body, framed = await _rest(reader, head)
            else:
                await _leave(reader, writer, cell)
    except (TimeoutError, OSError, EOFError):
        framed = False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return Answer(digest=name, took_s=time.monotonic() - began, head=head, body=body, framed=framed)


async def _rest(reader: asyncio.StreamReader, head: bytes) -> tuple[bytes, bool]:
    """Read a body to its end; say whether it had one."""
    if found := _LENGTH.search(head):
        data = await reader.read(-1)
        return data, len(data) == int(found[1])
    body = bytearray()
    try:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        return bytes(body), await reader.readexactly(2) == b"\r\n"
    except (OSError, EOFError, ValueError):
        return bytes(body), False


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cell: Cell) -> None:
    """Leave when the cell says: after so many bytes of the body, or while nothing has come."""
    if cell.leaves == -1:
        await asyncio.sleep(0.15)
    else:
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while got < (cell.leaves or 0):
            size = int(await reader.readline(), 16)
            got += len(await reader.readexactly(size))
            await reader.readexactly(2)
    if cell.resets:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
