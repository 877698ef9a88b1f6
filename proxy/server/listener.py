"""Owns a listening socket and the connections that came in through it."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

from proxy.server.connection import Connection, Handler, Inbound, Room

BACKLOG = 1024


class Listener:
    """Accepts connections on a TCP or a Unix socket, up to the limit, and closes them."""

    def __init__(self, serve: Handler, room: Room) -> None:
        self._serve = serve
        self._room = room
        self._server: asyncio.Server | None = None
        self._socket_path = ""

    @property
    def accepting(self) -> bool:
        """Whether new connections are taken."""
        return self._server is not None and self._server.is_serving()

    async def start(self, listen: str) -> str:
        """Listen on `host:port` or `unix:/path`; return the address, with the port that was given for port 0."""
        loop = asyncio.get_running_loop()
        server = web.Server(self._serve, request_factory=Inbound)

        def accept() -> Connection:
            return Connection(server, self._room)

        scheme, _, path = listen.partition(":")
        if scheme == "unix":
            self._server = await loop.create_unix_server(accept, path, backlog=BACKLOG)
            self._socket_path = path
            return listen
        host, _, port = listen.rpartition(":")
        self._server = await loop.create_server(accept, host.strip("[]"), int(port), backlog=BACKLOG)
        return f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Take no more connections, and close those that wait for a request."""
        if self._server:
            self._server.close()
        if self._socket_path:
            await asyncio.to_thread(os.unlink, self._socket_path)
            self._socket_path = ""
        for peer in [peer for peer in self._room.peers if peer.idle]:
            peer.close()
            peer.force_close()

    async def emptied(self) -> None:
        """Wait until the last connection has closed, with all that was written to it."""
        if self._room.peers:
            await self._room.empty.wait()

    def abort(self) -> None:
        """Drop every connection that is left, and what was not yet sent on it."""
        for peer in list(self._room.peers):
            if peer.transport:
                peer.transport.abort()
