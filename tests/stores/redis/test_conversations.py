"""Owns the proof of proxy/stores/redis/conversations.py beyond its contracts: races and outages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.errors import Overloaded
from proxy.stores import redis
from proxy.terms import Session
from tests.redis_servers import RedisServer
from tests.stores.redis.sharing import Pair, own_file, settings
from tests.stores.samples import AT_MS, stand


async def test_calls_side_by_side_on_two_replicas_take_nothing_from_each_other(pair: Pair) -> None:
    """What two replicas save of one conversation at one instant is all there."""
    first, second = pair
    for n in range(20):
        for name, one in (("a", first), ("b", second)):
            one.save(Session(id="s_1", labels=(f"{name}{n}",)), AT_MS)
    await asyncio.gather(first.load("other"), second.load("other"))
    session = await first.load("s_1")

    assert session is not None
    assert {f"{name}{n}" for n in range(20) for name in "ab"} == set(session.labels)


async def test_what_is_written_during_an_outage_is_there_after_it(own_server: RedisServer, tmp_path: Path) -> None:
    """While it lasts nobody is told of a conversation that may be another one by now; nothing of it is lost, and its
    beginning and end are told once each."""
    told: list[str] = []
    async with (
        own_file(tmp_path) as own,
        redis.open_conversations(settings(own_server, timeout_ms=50), own, tell=told.append) as shared,
    ):
        assert None is await shared.standing("end")
        own_server.freeze()
        shared.stand(stand("s_1", "end"), AT_MS)
        for question in (shared.standing("end"), shared.load("s_1"), shared.held(None, 9)):
            with pytest.raises(Overloaded, match="cannot be"):
                await question
        trouble = shared.trouble
        own_server.thaw()
        async with asyncio.timeout(10):
            while shared.backlog:  # noqa: ASYNC110 - its writer's work
                await asyncio.sleep(0.02)
        place = await shared.standing("end")

    assert "TimeoutError" in trouble
    assert ["TimeoutError" in told[0], ""] == [True, *told[1:]]
    assert place is not None
    assert "s_1" == place.session_id


async def test_an_outage_is_noticed_before_any_call(own_server: RedisServer, tmp_path: Path) -> None:
    """A replica that starts while Redis is away says so although nobody has asked it for anything."""
    told = asyncio.Event()
    own_server.freeze()
    async with (
        own_file(tmp_path) as own,
        redis.open_conversations(settings(own_server, timeout_ms=50), own, tell=lambda _: told.set()) as shared,
    ):
        async with asyncio.timeout(30):
            await told.wait()
        own_server.thaw()

        assert "TimeoutError" in shared.trouble


async def test_closing_says_what_could_not_be_written(own_server: RedisServer, tmp_path: Path) -> None:
    """A replica that stops during an outage does not pass over it."""

    async def stop() -> None:
        quick = redis.ConversationSettings(url=own_server.url, replica="a", timeout_ms=50, closing_s=0.2)
        async with own_file(tmp_path) as own, redis.open_conversations(quick, own) as shared:
            own_server.freeze()
            shared.stand(stand("s_1", "end"), AT_MS)

    with pytest.raises((Overloaded, ExceptionGroup)) as stopped:
        await stop()

    assert "conversations" in str(stopped.value) or "Overloaded" in repr(stopped.value)
