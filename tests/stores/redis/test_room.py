"""Owns the proof of proxy/stores/redis/room.py: names, and every failure as what a caller is told."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from proxy.errors import Overloaded
from proxy.stores.redis import room
from tests.redis_servers import RedisServer


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b"), ("ab", "")), (("a:1", "b"), ("a", "1:b")), (("1:a",), ("a",))],
    ids=["a boundary", "a colon", "a length"],
)
def test_no_two_things_share_a_key(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Whatever names have in them: a session's name comes from a client."""
    named = room.Room(None, "shop", 1000)

    assert named.key("mark", *one) != named.key("mark", *other)


@pytest.mark.parametrize(
    "error", [OSError("x"), TimeoutError(), ConnectionError("secret"), ResponseError("READONLY x")]
)
def test_a_failure_is_told_without_its_words(error: Exception) -> None:
    """The caller learns that it may come again, and nothing of what was asked or where."""
    with pytest.raises(Overloaded) as told, room.asking():
        raise error

    assert ("conversations_away", "1") == (told.value.code, told.value.headers["retry-after"])
    assert "secret" not in told.value.message


async def test_a_password_is_sent(own_server: RedisServer) -> None:
    """Without the right one nothing is answered."""
    await asyncio.to_thread(own_server.command, "CONFIG", "SET", "requirepass", "right")
    told = []
    for password in ("right", "wrong", ""):
        async with room.connected(own_server.url, password, 5) as client:
            try:
                with room.asking():
                    told.append(await client.ping())
            except Overloaded:
                told.append(False)

    assert [True, False, False] == told


async def test_a_server_that_throws_keys_away_keeps_no_conversations(own_server: RedisServer) -> None:
    """A hand-off would be forgotten with its key, and the agent go on: calls are refused, and why is said."""
    for setting, value in (("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru")):
        await asyncio.to_thread(own_server.command, "CONFIG", "SET", setting, value)

    async with room.connected(own_server.url, "", 5) as client:
        with pytest.raises(Overloaded, match="set `maxmemory-policy noeviction` there"), room.asking():
            await client.get("x")
