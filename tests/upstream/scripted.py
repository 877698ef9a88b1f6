"""Owns a provider whose every byte is scripted, and the one way in which the tests of this folder call it."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from proxy.errors import UpstreamError
from proxy.ports import Upstream
from proxy.terms import Headers, Secret, UpstreamCall
from proxy.upstream import UpstreamSettings, open_upstream

CERTIFICATE = Path(__file__).with_name("localhost.pem")
PATIENCE_S = 20
"""No test takes this long: it is what turns a hang into a failure."""


class Peer:
    """One connection as the scripted provider sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.sent = 0
        self.left = asyncio.Event()

    async def head(self) -> bytes:
        """Read the head of a request; raise IncompleteReadError when the client has gone."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read one request whole; raise IncompleteReadError when the client has gone."""
        head = await self.head()
        length = re.search(rb"content-length: (\d+)", head)
        return head + await self._reader.readexactly(int(length[1]) if length else 0)

    async def send(self, data: bytes) -> None:
        """Write bytes and wait until the kernel has taken most of them."""
        self._writer.write(data)
        await self._writer.drain()
        self.sent += len(data)

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass
        self.left.set()

    def close(self) -> None:
        """Close in order, with a FIN."""
        self._writer.close()

    def reset(self) -> None:
        """Close with a RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Provider:
    """What came in at the scripted provider."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.url = ""
        self.peers: list[Peer] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the script on one connection, then close it."""
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def provider(script: Script, *, tls: bool = False) -> AsyncIterator[Provider]:
    """Serve a script on a port of this machine, once per connection."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
    here = Provider(script)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await here.serve(reader, writer)

    server = await asyncio.start_server(serve, "localhost", 0, family=socket.AF_INET, ssl=context)
    here.url = f"http{'s' if tls else ''}://localhost:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield here
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def saying(data: bytes) -> Script:
    """Answer every request of a connection with the same bytes."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(data)

    return script


def saying_in_turn(*pieces: bytes) -> Script:
    """Answer with these pieces, each given the time to be read by itself, then keep the connection and say nothing."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0.03)
        await peer.gone()

    return script


def saying_then(data: bytes, then: Callable[[Peer], Awaitable[None] | None]) -> Script:
    """Answer the first request with these bytes, then do something to the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        pending = then(peer)
        if pending is not None:
            await pending

    return script


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Frame a reply by its length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


STREAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Frame one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one call: what was read, and the code of the error that ended it."""

    status: int = 0
    headers: Headers = {}
    body: bytes = b""
    code: str = ""
    error_status: int = 0
    retryable: bool = False


def call_to(url: str, **changes: object) -> UpstreamCall:
    """Make a call with the key `sk-canary`."""
    call = UpstreamCall(
        method="POST",
        url=url,
        headers={"content-type": "application/json"},
        body=b"{}",
        auth=Secret("Bearer sk-canary"),
    )
    return msgspec.structs.replace(call, **changes)


async def outcome_of(url: str, settings: UpstreamSettings | None = None, **changes: object) -> Outcome:
    """Make one call through a door of its own and read the reply to its end."""
    async with open_upstream(settings or UpstreamSettings()) as upstream:
        return await outcome_at(upstream, url, **changes)


async def outcome_at(upstream: Upstream, url: str, **changes: object) -> Outcome:
    """Make one call and read the reply to its end."""
    status, headers, body = 0, {}, bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S), upstream.send(call_to(url, **changes)) as reply:
            status, headers = reply.status, dict(reply.headers)
            async for data in reply.chunks():
                body += data
    except UpstreamError as error:
        failed = Outcome(code=error.code, error_status=error.status, retryable=error.retryable)
        return msgspec.structs.replace(failed, status=status, headers=headers, body=bytes(body))
    return Outcome(status=status, headers=headers, body=bytes(body))
