"""Owns one inbound connection: aiohttp's HTTP/1.1 protocol with our deadlines, our limits and our error bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11, RawRequestMessage

from proxy.errors import BadRequest, HandrailError, Overloaded
from proxy.server.address import uid_of
from proxy.snapshot import Limits
from proxy.terms import Head, OnDisconnect

IDLE_S = 75.0
"""How long a connection may be idle between calls: longer than clients keep theirs, so that they close first."""
LINGER_S = 2.0
"""How long what is left of a refused request is read on, so that its sender gets to see the refusal."""

SPOKEN = (HttpVersion10, HttpVersion11)
"""The versions of HTTP that are understood here."""

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
ErrorBody: TypeAlias = Callable[[HandrailError], tuple[Head, bytes]]


def whole(head: Head, body: bytes, *, close: bool = False) -> web.Response:
    """Return a reply that is sent at once, with its length; the connection ends after it if `close`."""
    response = web.Response(status=head.status, headers={"server": "handrail", **head.headers}, body=body)
    if close:
        response.force_close()
    return response


class Drains:
    """The calls whose client has left, read to their end for the books: so many at once, each for so long."""

    def __init__(self, limits: Limits) -> None:
        self.limit_s = limits.drain_s
        self._most = limits.max_drains
        self._calls: set[Call] = set()

    def enter(self, call: Call) -> bool:
        """Take a call in, if there is space."""
        if len(self._calls) >= self._most:
            return False
        self._calls.add(call)
        return True

    def leave(self, call: Call) -> None:
        """Forget a call."""
        self._calls.discard(call)


class Call:
    """One call on a connection: implements `ports.Client`."""

    def __init__(self, request: Inbound, drains: Drains) -> None:
        self.gone = False
        self.given_up = ""
        self.request = request
        self.task = cast("asyncio.Task[object]", asyncio.current_task())
        self._drains = drains
        self._then = OnDisconnect.DRAIN
        self._answered = False
        self._limit: asyncio.TimerHandle | None = None

    def lose(self) -> None:
        """Note that the client has left."""
        if not self.gone and not self._answered:
            self.gone = True
            self._part()

    def leaving(self, then: OnDisconnect) -> None:
        """Say what becomes of the call when its client leaves, or if it has left."""
        self._then = then
        if self.gone:
            self._part()

    def _part(self) -> None:
        """Read on without a client, or do not."""
        if self._then is OnDisconnect.ABORT:
            self._give_up("aborted")
        elif not self._drains.enter(self):
            self._give_up("drain_limit")
        elif not self._limit:
            self._limit = self.task.get_loop().call_later(self._drains.limit_s, self._give_up, "drain_timeout")

    def _give_up(self, why: str) -> None:
        if not self.given_up:
            self.given_up = why
            self.task.cancel()

    def answer(self) -> None:
        """Note that the client has been sent all there is: leaving now is not leaving early."""
        self._answered = True

    def spoil(self) -> None:
        """Note that the rest of the request makes no sense; aiohttp alone would go on waiting for it."""
        if not self.request.content.is_eof():
            self.request.broken = True
            self.request.content.feed_eof()

    def close(self) -> None:
        """Stop the clock."""
        self._drains.leave(self)
        if self._limit:
            self._limit.cancel()


class Inbound(web.BaseRequest):
    """A request that knows the version it was sent in, and is always answered in a version that we speak."""

    broken = False
    """Whether its body broke off in the middle."""

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        super().__init__(message, payload, protocol, writer, task, task.get_loop())
        self.sent_version: HttpVersion = message.version
        self._version = message.version if message.version in SPOKEN else HttpVersion11

    async def say_continue(self) -> None:
        """Tell a client that waits for leave to send its body that it has it."""
        writer = self.writer
        await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.output_size = 0  # The reply proper has not begun, which is what aiohttp reads from this.


class Room:
    """The connections of one listener, and what holds for each of them."""

    def __init__(self, limits: Limits, error: ErrorBody, on_bug: Callable[[BaseException], None]) -> None:
        self.limits = limits
        self.error = error
        self.on_bug = on_bug
        self.peers: set[Connection] = set()
        self.empty = asyncio.Event()

    def enter(self, peer: Connection) -> bool:
        """Take a connection in, if there is space."""
        if len(self.peers) >= self.limits.max_connections:
            return False
        self.peers.add(peer)
        self.empty.clear()
        return True

    def leave(self, peer: Connection) -> None:
        """Forget a connection."""
        self.peers.discard(peer)
        if not self.peers:
            self.empty.set()


class Connection(web.RequestHandler):
    """aiohttp's protocol, kept from waiting for ever and from answering in anything but the dialect's error object."""

    __slots__ = ("_head_timer", "_room", "_stall_timer", "call", "uid")

    def __init__(self, server: web.Server, room: Room) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp is told not to log.
        )
        self.call: Call | None = None
        self.uid: int | None = None
        """The user at the other end of a Unix socket; None on any other."""
        self._room = room
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether it waits for a request: none has come, or none is being answered."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    # --- coming and going -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away if there are as many as there may be."""
        if not self._room.enter(self):
            self._turn_away(transport)
            return
        super().connection_made(transport)
        self.uid = uid_of(transport.get_extra_info("socket"))
        self._watch_head()

    def _turn_away(self, transport: asyncio.BaseTransport) -> None:
        out = cast(asyncio.Transport, transport)
        head, body = self._room.error(Overloaded("There are too many connections.", headers={"retry-after": "1"}))
        lines = [f"HTTP/1.1 {head.status} Service Unavailable", f"content-length: {len(body)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in head.headers.items()]
        out.write("\r\n".join([*lines, "", ""]).encode() + body)
        out.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clocks, and tell the call that nobody listens any more."""
        self._room.leave(self)
        self._stop_head_timer()
        if self._stall_timer:
            self._stall_timer.cancel()
        if self.call:
            self.call.lose()
        super().connection_lost(exc)

    # --- deadlines --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse, and give a head that has begun only so long to end."""
        super().data_received(data)
        if self.call and self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self.call.spoil()
        if self._waiter and not self._waiter.done():
            if not self._head_timer:
                self._watch_head()
        else:
            self._stop_head_timer()

    def _watch_head(self) -> None:
        self._head_timer = self._loop.call_later(self._room.limits.header_s, self.force_close)

    def _stop_head_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        """Give a client that does not read only so long to go on."""
        super().pause_writing()
        self._stall_timer = self._loop.call_later(self._room.limits.write_stall_s, self._give_up)

    def resume_writing(self) -> None:
        """Note that it reads again."""
        super().resume_writing()
        if self._stall_timer:
            self._stall_timer.cancel()

    def _give_up(self) -> None:
        if self.transport:
            self.transport.abort()

    # --- errors -----------------------------------------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the error body for a message that aiohttp could not read, or for a bug of ours.

        aiohttp's own text quotes the bytes at fault, which may be a credential: it is neither sent nor logged.
        """
        if status == BadRequest.status:
            return whole(*self._room.error(BadRequest("This is not well-formed HTTP.", code="bad_http")), close=True)
        self._room.on_bug(exc or TimeoutError("the call timed out outside of every deadline"))
        if request.writer.output_size > 0:
            raise ConnectionResetError("the reply has begun; cutting it is all that is left to say that it failed")
        return whole(*self._room.error(HandrailError("Handrail failed to handle this call.")), close=True)

    def log_exception(self, *args: object, exc_info: object = None, **kwargs: object) -> None:
        """Report what went wrong inside aiohttp itself, such as a reply header that cannot be sent."""
        if isinstance(exc_info, BaseException):
            self._room.on_bug(exc_info)
