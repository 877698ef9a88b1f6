"""Owns which connection a call gets: an idle one that is surely alive, or a new one."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from typing import Final

import aiohappyeyeballs

from proxy.upstream.connection import Connection
from proxy.upstream.limits import UpstreamSettings, errno_name, fault
from proxy.upstream.request import Target

_SOCKET_OPTIONS: Final = tuple(
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
    )
    if hasattr(socket, name)  # the last four are Linux's own
)
"""A peer that has vanished without a FIN is noticed within 30 s, whether we wait to send or to receive."""

_Key = tuple[str, int, bool]


class Pool:
    """Connections by host, port and TLS; the most recently used is taken first, so that a burst's surplus expires."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._connect_s = settings.connect_ms / 1000
        self._keep_s = settings.keepalive_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context(cafile=settings.ca_file or None)
        self._tls.set_alpn_protocols(["http/1.1"])
        self._open: set[Connection] = set()
        self._idle: dict[_Key, list[tuple[float, Connection]]] = {}
        self._lookups: dict[_Key, asyncio.Future[list[aiohappyeyeballs.AddrInfoType]]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def take(self, target: Target) -> Connection:
        """Return a connection that nothing was written to for this call; raise UpstreamError when there is none.

        An idle connection that the server closed, or on which it said anything, is passed over here, before a byte of
        the call is written: that is the only transparent retry. Once written, a call may have been billed, and whether
        to pay for another attempt is the caller's decision.
        """
        idle = self._idle.get(target.key, ())
        while idle:
            since, connection = idle.pop()
            if connection.silent() and self._loop.time() - since < self._keep_s:
                return connection
            connection.abort()
        return await self._connect(target)

    def give(self, target: Target, connection: Connection) -> None:
        """Take a connection back after its exchange; keep it if it can serve another."""
        if connection.finish():
            self._idle.setdefault(target.key, []).append((self._loop.time(), connection))
            if self._sweep is None:
                self._sweep = self._loop.call_later(self._keep_s, self._expire)

    def _expire(self) -> None:
        oldest = self._loop.time() - self._keep_s
        for key, idle in list(self._idle.items()):
            while idle and idle[0][0] <= oldest:
                idle.pop(0)[1].abort()
            if not idle:
                del self._idle[key]
        self._sweep = self._loop.call_later(self._keep_s, self._expire) if self._idle else None

    async def _connect(self, target: Target) -> Connection:
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._dial(target)
        except TimeoutError:
            failure = fault("connect_timeout")
        except (socket.gaierror, UnicodeError):
            failure = fault("dns_failed")
        except ssl.SSLError as exc:
            failure = fault("tls_failed", detail=exc.reason or "")
        except OSError as exc:
            failure = fault("connect_failed", detail=errno_name(exc))
        raise failure  # out here, so that the foreign exception does not travel along as its context

    async def _dial(self, target: Target) -> Connection:
        sock = await aiohappyeyeballs.start_connection(
            await self._resolve(target), happy_eyeballs_delay=0.25, loop=self._loop, socket_factory=new_socket
        )
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop, self._open),
                sock=sock,
                ssl=self._tls if target.tls else None,
                server_hostname=target.host if target.tls else None,
            )
        except ConnectionError as exc:  # it is connected: what breaks off now is the handshake
            failure = fault("tls_failed", detail=errno_name(exc))
        else:
            return connection
        raise failure

    async def _resolve(self, target: Target) -> list[aiohappyeyeballs.AddrInfoType]:
        """Return the addresses of a host. A burst of calls shares one lookup, which outlives any of them."""
        lookup = self._lookups.get(target.key)
        if lookup is None:
            lookup = self._lookups[target.key] = self._loop.run_in_executor(None, _addresses, target)
            lookup.add_done_callback(functools.partial(self._resolved, target.key))
        return await asyncio.shield(lookup)

    def _resolved(self, key: _Key, lookup: asyncio.Future[list[aiohappyeyeballs.AddrInfoType]]) -> None:
        del self._lookups[key]
        lookup.exception()  # seen, also when every call that waited for it has given up

    async def close(self) -> None:
        """Abort every connection and wait until the loop has let go of them."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._open:
            connection.abort()
        while self._open:  # noqa: ASYNC110  # each is let go of in one of the loop's next turns
            await asyncio.sleep(0)


def _addresses(target: Target) -> list[aiohappyeyeballs.AddrInfoType]:
    return list(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))


def new_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """Return a socket that notices a peer that is gone."""
    family, kind, proto, _, _ = info
    sock = socket.socket(family, kind, proto)
    for option in _SOCKET_OPTIONS:
        sock.setsockopt(*option)
    return sock
