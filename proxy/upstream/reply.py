"""Owns one call from sending to closing: its deadlines, its bounds, and what of the reply is passed on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from aiohttp.http_parser import RawResponseMessage

from proxy.errors import UpstreamError
from proxy.terms import Headers, UpstreamCall
from proxy.upstream.connection import Connection
from proxy.upstream.limits import UpstreamSettings, fault
from proxy.upstream.pool import Pool
from proxy.upstream.request import Target

_DROPPED: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "content-length", "set-cookie", "set-cookie2"}
)
"""Reply headers that belong to this connection or to a browser; framing is for whoever sends the body on."""

_NEVER: Final = float("inf")


class Reply:
    """Implements `ports.UpstreamReply`, and is the context manager of one call."""

    def __init__(self, settings: UpstreamSettings, pool: Pool, target: Target, call: UpstreamCall) -> None:
        self._settings = settings
        self._pool = pool
        self._target = target
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER
        self._end = self._loop.time() + settings.total_ms / 1000 if settings.total_ms else _NEVER
        self._room = settings.max_reply_bytes
        self.status = 0
        self.headers: Headers = {}

    async def __aenter__(self) -> Self:
        """Connect, send, and return when the head of the reply has arrived."""
        head = self._target.head(self._call)
        try:
            self._connection = await self._pool.take(self._target)
            answer = self._connection.start(head, self._call.body)
            self._wait(self._settings.first_byte_ms)
            self._accept(await answer)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back if the reply was read whole, else abort it."""
        self._close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; what arrived before a cut is yielded before the UpstreamError is raised."""
        connection = self._connection
        if connection is None:
            return
        while True:
            self._wait(self._settings.idle_ms)
            data = await connection.read()
            self._due = self._end  # a client that takes its time is not the provider's silence
            if not data:
                break
            self._room -= len(data)
            if self._room < 0:
                raise fault("too_large", retryable=False)
            yield data
        failure = connection.failure
        self._close()
        if failure is not None:
            raise failure

    def _accept(self, message: RawResponseMessage) -> None:
        self._due = self._end
        self.status = message.code
        self.headers = headers = _headers(message)
        if headers.get("content-encoding", "identity") != "identity":
            raise fault("compressed", retryable=False)
        if headers.get("content-type", "").startswith("text/event-stream"):
            self._room = sys.maxsize
        elif int(message.headers.get("content-length", "0")) > self._room:
            raise fault("too_large", retryable=False)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give(self._target, connection)

    def _wait(self, ms: int) -> None:
        """Set the time by which the next byte must be here; one timer serves the whole call and looks when it fires."""
        self._due = min(self._loop.time() + ms / 1000, self._end)
        if self._timer is None or self._timer.when() > self._due:
            self._watch(self._due)

    def _watch(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now < self._due:
            self._watch(min(self._due, now + self._settings.idle_ms / 1000))
        elif self._connection is not None:
            self._connection.fail(self._late())

    def _late(self) -> UpstreamError:
        if self._due >= self._end:
            return fault("total_timeout", retryable=False)
        return fault("idle_timeout", retryable=False) if self.status else fault("first_byte_timeout")


def _headers(message: RawResponseMessage) -> dict[str, str]:
    """Return the headers that may be passed on, lower-cased; repeated ones are joined as RFC 9110 §5.3 says."""
    headers: dict[str, str] = {}
    dropped = _DROPPED.union(_listed(message.headers.get("connection", "")))
    for cased, value in message.headers.items():
        name = cased.lower()
        if name not in dropped and value.isprintable():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _listed(value: str) -> list[str]:
    return [name.strip() for name in value.lower().split(",")] if value else []
