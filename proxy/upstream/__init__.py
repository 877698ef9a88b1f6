"""Owns the door to the providers: connections, deadlines, bounds, and every failure named once.

In: UpstreamCalls, whose credential is revealed here and nowhere else. Out: replies as bytes, or UpstreamError.
Never: a redirect, a cookie, an environment proxy, a retry of anything that was written, a foreign exception let out.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.ports import Upstream
from proxy.terms import UpstreamCall
from proxy.upstream.limits import FAULTS, UpstreamSettings
from proxy.upstream.pool import Pool
from proxy.upstream.reply import Reply
from proxy.upstream.request import Target

__all__ = ["FAULTS", "UpstreamSettings", "open_upstream"]


@asynccontextmanager
async def open_upstream(settings: UpstreamSettings) -> AsyncIterator[Upstream]:
    """Open the door: connections are made on demand, pooled, and aborted on leaving."""
    pool = Pool(settings)
    try:
        yield _Door(settings, pool)
    finally:
        await pool.close()


class _Door:
    """Implements `ports.Upstream`."""

    def __init__(self, settings: UpstreamSettings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._target = functools.lru_cache(maxsize=512)(Target)

    def send(self, call: UpstreamCall) -> Reply:
        """Send one call; see `ports.Upstream`."""
        return Reply(self._settings, self._pool, self._target(call.method, call.url), call)
