"""Owns the admin listener: read-only, on loopback, and nothing of it is said to whoever has no token."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec
from aiohttp import web

from proxy.errors import HandrailError, NotFound, Unauthenticated
from proxy.server import routes
from proxy.server.connection import ErrorBody, Room, whole
from proxy.server.listener import Listener
from proxy.snapshot import Limits
from proxy.terms import Head, Json

MIN_TOKEN = 32
"""Characters that a token must have; a shorter one opens nothing."""

Page: TypeAlias = Callable[[], Json]


class Admin:
    """Serves GET /status and GET /coverage to whoever sends the bearer token; the token file is read each time, so a
    rotated one counts at once."""

    def __init__(
        self,
        token_path: Path,
        status: Page,
        *,
        error: ErrorBody,
        on_bug: Callable[[BaseException], None],
        limits: Limits,
    ) -> None:
        self._token_path = token_path
        self._error = error
        self._pages: dict[str, Page] = {"/status": status, "/coverage": lambda: list(routes.coverage())}
        self._listener = Listener(self._serve, Room(limits, error, on_bug))

    async def start(self, listen: str) -> str:
        """Listen on `host:port` or `unix:/path`; return the address, with the port that was given for port 0."""
        return await self._listener.start(listen)

    async def stop(self) -> None:
        """Close the listener and its connections."""
        await self._listener.stop()
        self._listener.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            await self._authenticate(request.headers.getall("authorization", []))
            page = self._pages.get(request.raw_path) if request.method == "GET" else None
            if not page:
                raise NotFound("There is no such page.", code="unknown_url")
            body = msgspec.json.encode(page())
        except HandrailError as error:
            return whole(*self._error(error))
        return whole(Head(status=200, headers={"content-type": "application/json"}), body)

    async def _authenticate(self, sent: list[str]) -> None:
        token = await asyncio.to_thread(_read, self._token_path)
        expected, given = map(_digest, (f"Bearer {token}", "\n".join(sent)))
        if not hmac.compare_digest(expected, given) or len(token) < MIN_TOKEN:
            raise Unauthenticated("The admin listener wants its bearer token.")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""  # Shorter than any token: whoever cannot be checked is not let in.
