"""Owns the connection to the Redis in which replicas share conversations, and the names of what they have there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from proxy.errors import Overloaded
from proxy.stores.redis.eviction import EVICTS, evicts

Client: TypeAlias = Any
"""The library's client; its types say `bytes | str` of replies that are bytes."""
CONNECTIONS = 16
"""As many commands are on their way at once; more wait for a moment."""


class Room:
    """The keys of one name in one Redis: a Cluster hash tag, so that a script may touch several of them."""

    def __init__(self, client: Client, name: str, keep_ms: int) -> None:
        self.client = client
        self.keep_ms = keep_ms
        """How long a key stays after it was written last."""
        self._prefix = f"{{handrail-conversations:{name}}}:"

    def key(self, kind: str, *names: str) -> str:
        """Return the key of a thing; names are never confused, whatever they have in them."""
        return f"{self._prefix}{kind}:" + "".join(f"{len(name)}:{name}" for name in names)

    @property
    def pattern(self) -> str:
        """Return what all keys match."""
        return f"{self._prefix}*"


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Map every failure to what the caller is told: what cannot be asked for must not be taken for something new."""
    try:
        yield
    except (OSError, RedisError) as error:  # TimeoutError is an OSError
        why = EVICTS if isinstance(error, Evicting) else type(error).__name__
        raise Overloaded(
            f"The Redis that keeps conversations cannot be asked: {why}.",
            code="conversations_away",
            headers={"retry-after": "1"},
        ) from None


class Evicting(RedisError):
    """It may throw away that a human owns a conversation, and nobody would notice."""


async def _greet(connection: Any) -> None:
    """Begin a connection, unless what is kept there may be gone any time."""
    await connection.on_connect()
    await connection.send_command("INFO", "memory", check_health=False)
    if evicts(await connection.read_response(disable_decoding=True)):
        raise Evicting


@asynccontextmanager
async def connected(url: str, password: str, timeout_s: float) -> AsyncIterator[Client]:
    """Yield a client; whether anybody answers shows with the first question."""
    options: dict[str, Any] = {"password": password} if password else {}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        driver_info=None,
        redis_connect_func=_greet,
        **options,
    )
    client: Client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()
