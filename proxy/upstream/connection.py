"""Owns one socket to a provider: one request written, one reply parsed, and why it ended.

The sockets are ours and the parser is aiohttp's (llhttp). aiohttp's own client protocol was left out: its reader hangs
for ever when chunk framing breaks in mid-body, it loses the bytes that arrived together with a cut, and it takes what
a server sent unasked on a pooled connection for the next reply.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import UpstreamError
from proxy.upstream.limits import errno_name, fault

_READ_BYTES: Final = 32 * 1024
"""Reading stops when twice this much waits for the client, and goes on when less than this does."""


class Connection(BaseProtocol):
    """One socket to a provider, which answers one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: set[Connection]) -> None:
        super().__init__(loop)
        self._all = connected
        self._parser: HttpResponseParser | None = None
        self._head: asyncio.Future[RawResponseMessage] = loop.create_future()
        self._body: StreamReader | None = None
        self._keep = True
        self._poll = select.poll()
        self.failure: UpstreamError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (asyncio calls this)."""
        super().connection_made(transport)
        self._all.add(self)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Settle what is being read (asyncio calls this)."""
        super().connection_lost(exc)
        self._all.discard(self)
        if self._parser is None:
            return
        if self._body is None:
            self.fail(fault("connection_lost", detail=errno_name(exc)))
        elif not self._body.is_eof() and not self._ended_by_close(exc):
            self.fail(fault("stream_cut", detail=errno_name(exc), retryable=False))

    def _ended_by_close(self, exc: BaseException | None) -> bool:
        """Say whether closing was the way this body ends: no length was announced and the peer closed in order."""
        if exc is not None or self._parser is None:
            return False
        try:
            self._parser.feed_eof()
        except HttpProcessingError:
            return False
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what arrived (asyncio calls this)."""
        if self._parser is None:  # nothing was asked: what follows could be taken for the next reply
            self.abort()
            return
        try:
            messages, upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError:
            self.fail(fault("protocol_error", retryable=self._body is None))
            return
        if upgraded:
            self.fail(fault("protocol_error", retryable=self._body is None))
            return
        for message, body in messages:
            if message.code >= 200:  # below are 100 Continue and its kind: the reply is still to come
                self._on_head(message, body)

    def _on_head(self, message: RawResponseMessage, body: StreamReader) -> None:
        if self._body is not None:
            self._keep = False
            return
        self._body = body
        self._keep = not message.should_close
        if not self._head.done():
            self._head.set_result(message)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on (aiohttp's StreamReader calls this on every read, paused or not)."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def start(self, head: bytes, body: bytes) -> asyncio.Future[RawResponseMessage]:
        """Write a request and return the future of its reply's head."""
        if self.transport is None:
            raise fault("connection_lost")
        self._parser = HttpResponseParser(self, self._loop, _READ_BYTES, read_until_eof=True, auto_decompress=False)
        self._head = self._loop.create_future()
        self._body = None
        self.transport.writelines((head, body))
        return self._head

    def read(self) -> Awaitable[bytes]:
        """Wait for some of the body; empty at its end and at a failure."""
        return (self._body or EMPTY_PAYLOAD).readany()

    def fail(self, failure: UpstreamError) -> None:
        """Give the socket up; a reply that is not whole yet ends with this error, after what of it has arrived."""
        self._parser = None
        self.abort()
        if self._body is None:
            if not self._head.done():
                self._head.set_exception(failure)
        elif not self._body.is_eof():
            self.failure = failure
            self._body.feed_eof()

    def finish(self) -> bool:
        """End the exchange; return True when the socket can take another one, else give it up."""
        answered = self._body is not None and self._body.is_eof() and self.failure is None and self._keep
        self._parser = self._body = None
        transport = self.transport
        if not answered or transport is None or transport.is_closing() or transport.get_write_buffer_size():
            self.abort()
            return False
        return True

    def silent(self) -> bool:
        """Say whether the idle socket is open and has nothing to say, not even a FIN that the loop has yet to see."""
        return self.transport is not None and not self.transport.is_closing() and not self._poll.poll(0)

    def abort(self) -> None:
        """Close at once, without waiting for anything to be sent."""
        if self.transport is not None:
            self.transport.abort()
