"""Owns replicas that share their conversations in tests."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

from proxy.stores import redis, sqlite
from tests.redis_servers import RedisServer

Pair: TypeAlias = tuple[redis.SharedConversations, redis.SharedConversations]


def own_file(folder: Path) -> AbstractAsyncContextManager[sqlite.SqliteStore]:
    """Open the file that a replica keeps copies in."""
    return sqlite.open(sqlite.Settings(path=str(folder / "a.db")))


def settings(server: RedisServer, replica: str = "a", timeout_ms: int = 5000) -> redis.ConversationSettings:
    """Configure one replica of a server."""
    return redis.ConversationSettings(url=server.url, replica=replica, timeout_ms=timeout_ms)
