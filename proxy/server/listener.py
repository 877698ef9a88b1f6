"""Owns a listening socket and the connections that came in through it."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from proxy.server import address
from proxy.server.connection import Connection, Handler, Inbound, Room

ACCEPTS = 1
"""Connections taken per turn of the loop. asyncio has one number for this and the backlog, and when there are no file
descriptors left it logs and sets a timer for each of them: one is a line a second, 1024 would be a flood."""
BACKLOG = 1024
"""Connections that may wait in the kernel."""


class Listener:
    """Accepts connections on a TCP or a Unix socket, up to the limit, and closes them."""

    def __init__(self, serve: Handler, room: Room, mode: int = address.PRIVATE) -> None:
        self._serve = serve
        self._mode = mode
        self._room = room
        self._server: asyncio.Server | None = None
        self._address = ""

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

        bound, self._address = await asyncio.to_thread(address.bind, listen, self._mode)
        create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        self._server = await create(accept, sock=bound, backlog=ACCEPTS)
        bound.listen(BACKLOG)
        return self._address

    async def stop(self) -> None:
        """Take no more connections, and close those that wait for a request."""
        if self._server:
            self._server.close()
        await asyncio.to_thread(address.release, self._address)
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
