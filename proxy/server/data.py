"""Owns the data plane: the listener that hands each call to the hallway and writes what comes back, to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TypeAlias, cast

from aiohttp import web
from msgspec.structs import replace

from proxy.errors import HandrailError, Overloaded
from proxy.ports import Client
from proxy.server import intake
from proxy.server.address import PRIVATE
from proxy.server.connection import Call, Connection, Drains, ErrorBody, Inbound, Room, whole
from proxy.server.listener import Listener
from proxy.snapshot import Limits
from proxy.terms import Delta, End, Fault, Head, RawRequest

Part: TypeAlias = Head | Delta | End | Fault
Handle: TypeAlias = Callable[[RawRequest, Client], AsyncGenerator[Part, None]]
Local: TypeAlias = Callable[[RawRequest], tuple[Head, bytes]]

CUT_S = 5.0
"""How long a call that was cut at shutdown may take to settle and record."""


class DataPlane:
    """Serves `/v1/*`: strict intake, one walk per call, backpressure, drain after a client has left, orderly end."""

    def __init__(
        self,
        handle: Handle,
        local: Mapping[str, Local],
        *,
        error: ErrorBody,
        on_bug: Callable[[BaseException], None],
        limits: Limits,
        mode: int = PRIVATE,
    ) -> None:
        self._handle = handle
        self._local = local
        self._error = error
        self._limits = limits
        self._drains = Drains(limits)
        room = Room(limits, error, on_bug)
        self.clients = room.peers
        """Connections that are open, with a call or waiting for one."""
        self._listener = Listener(self._serve, room, mode)
        self.tasks: set[asyncio.Task[object]] = set()
        """Calls in flight, those included that are read to their end after their client has left."""
        self._cutting = False

    @property
    def accepting(self) -> bool:
        """Whether new connections are taken; false from the first moment of shutdown."""
        return self._listener.accepting

    async def start(self, listen: str) -> str:
        """Listen on `host:port` or `unix:/path`; return the address, with the port that was given for port 0."""
        return await self._listener.start(listen)

    async def shutdown(self, grace_s: float) -> None:
        """Take no more, let open calls end within the grace, cut the rest with an error, wait for them to settle."""
        await self._listener.stop()
        await self._settled(grace_s)
        self._cutting = True
        for task in self.tasks:
            task.cancel()
        await self._settled(CUT_S)
        self._listener.abort()

    async def _settled(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                if self.tasks:
                    await asyncio.wait(self.tasks)
                await self._listener.emptied()

    # --- one call ---------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        inbound, connection = cast(Inbound, request), cast(Connection, request.protocol)
        call = connection.call = Call(inbound, self._drains)
        self.tasks.add(call.task)
        call.task.add_done_callback(self.tasks.discard)
        try:
            return await self._answer(inbound, call)
        finally:
            call.close()
            connection.call = None
            if not self.accepting:
                connection.close()

    async def _answer(self, request: Inbound, call: Call) -> web.StreamResponse:
        try:
            endpoint, raw = await intake.read(request, self._limits)
        except HandrailError as error:
            return whole(*self._error(error), close=True)
        except ConnectionError:
            return web.Response()  # The client left in the middle of its request: nobody reads this.
        if endpoint.name not in self._local:
            return await self._relay(request, raw, call)
        try:
            return whole(*self._local[endpoint.name](raw))
        except HandrailError as error:
            return whole(*self._error(error))

    async def _relay(self, request: Inbound, raw: RawRequest, call: Call) -> web.StreamResponse:
        reply: Streamed | Collected | None = None
        try:
            async with contextlib.aclosing(self._handle(raw, call)) as parts:
                async for part in parts:
                    if isinstance(part, Head):
                        reply = open_reply(request, part, call)
                    elif reply:
                        await reply.add(part)
            if not reply:
                raise RuntimeError("the hallway gave no reply")
            return reply.response
        except HandrailError as error:
            return await self._fail(reply, error)
        except asyncio.CancelledError:
            # Whoever does not listen need not be told.
            if call.gone or not self._cutting or request.protocol.writing_paused:
                raise
            call.task.uncancel()
            return await self._fail(reply, Overloaded("Handrail is shutting down.", code="shutting_down"))

    async def _fail(self, reply: Streamed | Collected | None, error: HandrailError) -> web.StreamResponse:
        head, body = self._error(error)
        if not isinstance(reply, Streamed) or not reply.begun:
            return whole(head, body, close=not self.accepting)
        frame = b"data: " + body + b"\n\n"
        await reply.add(Fault(status=head.status, type=error.type, code=error.code, message=error.message, frame=frame))
        return reply.response


# --- the two shapes of a reply --------------------------------------------------------------------------------------


def open_reply(request: Inbound, head: Head, call: Call) -> Streamed | Collected:
    """Return what takes the parts after this head: events are written as they come, anything else whole at the end."""
    if head.headers.get("content-type", "").startswith("text/event-stream"):
        return Streamed(request, head, call)
    return Collected(request, head, call)


class Collected:
    """A reply that is one document: its parts are put together and sent with their length."""

    def __init__(self, request: Inbound, head: Head, call: Call) -> None:
        self._head = head
        self._frames: list[bytes] = []

    async def add(self, part: Delta | End | Fault) -> None:
        """Keep a part; a Fault replaces what came before it, since nothing of that has been sent."""
        if isinstance(part, Fault):
            self._head = replace(self._head, status=part.status, headers={**self._head.headers, **part.headers})
            self._frames.clear()
        self._frames.append(part.frame)

    @property
    def response(self) -> web.StreamResponse:
        """Return the whole of it."""
        return whole(self._head, b"".join(self._frames))


class _Stream(web.StreamResponse):
    _send_headers_immediately = False  # The head leaves in one write with the first event.


class Streamed:
    """A reply that is a stream of events: each is written as it comes, and what is slow to read slows the provider."""

    def __init__(self, request: Inbound, head: Head, call: Call) -> None:
        self._request = request
        self._call = call
        self.response = _Stream(status=head.status, headers={"server": "handrail", **head.headers})

    @property
    def begun(self) -> bool:
        """Whether anything has been written."""
        return self.response.prepared

    async def add(self, part: Delta | End | Fault) -> None:
        """Write a part, unless nobody listens; a Fault that has no words is told by cutting the connection."""
        if self._call.gone:
            return
        try:
            await self._write(part)
        except ConnectionError:
            self._call.lose()

    async def _write(self, part: Delta | End | Fault) -> None:
        if not self.begun:
            await self.response.prepare(self._request)
        if isinstance(part, Delta):
            if part.frame:
                await self.response.write(part.frame)
            if part.final:
                self._call.answer()
        elif isinstance(part, End) or part.frame:
            await self.response.write_eof(part.frame)
            self._call.answer()
        else:
            self._call.answer()
            self._request.protocol.force_close()
