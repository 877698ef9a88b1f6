"""Owns the proof of proxy/stores/redis/waiting.py beyond its contract: many replicas at one instant, and content."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from msgspec.structs import replace

from proxy.sealing import Seal
from proxy.stores import redis
from proxy.terms import HeldState, Selection
from tests.redis_servers import RedisServer
from tests.stores.redis.sharing import Pair, own_file, settings
from tests.stores.samples import AT_MS, handoff, held


async def test_of_many_who_come_for_an_approval_one_gets_it(pair: Pair) -> None:
    """However many replicas ask at one instant, one of them sees it approved; all others see it used."""
    first, second = pair
    await first.hold(held("ap_1"))
    await second.decide("ap_1", HeldState.APPROVED, "ann", "", AT_MS)
    found = await asyncio.gather(*(one.use("k", AT_MS) for one in [first, second] * 8))

    states = [one.state for one in found if one]
    assert (1, 15) == (states.count(HeldState.APPROVED), states.count(HeldState.USED))


async def test_of_many_who_hand_over_one_does(pair: Pair) -> None:
    """There is one packet of a conversation, and all are given that."""
    first, second = pair
    given = await asyncio.gather(*(one.hand_over(handoff(f"ho_{n}")) for n, one in enumerate([first, second] * 8)))
    listed = await first.handoffs(False, 99)

    assert {packet.id for packet in listed} == {packet.id for packet in given}
    assert 1 == len(listed)


async def test_a_delivery_is_begun_by_one_replica(pair: Pair) -> None:
    """Whoever looks first has it to himself; one that failed is anybody's again."""
    first, second = pair
    await first.hand_over(handoff("ho_1"))
    begun = [len(await one.due(AT_MS, 9)) for one in (first, second, first)]
    await first.postpone("ho_1", AT_MS + 1, "HTTP 500")
    again = [len(await one.due(AT_MS + 1, 9)) for one in (second, first)]

    assert ([1, 0, 1], [1, 0]) == (begun, again)


async def test_content_is_sealed_there_too(own_server: RedisServer, tmp_path: Path) -> None:
    """With a key the arguments of an action, their digest and a packet stand nowhere in the server; without one they
    do, and an action is found by its digest all the same, and erased with all that leads to it."""
    found = []
    named = []
    numbers = itertools.count()
    for secrets in ((), (b"k" * 32,)):
        seal = Seal(secrets, lambda: next(numbers).to_bytes(12, "big"))
        async with (
            own_file(tmp_path) as own,
            redis.open_conversations(settings(own_server, replica=str(len(secrets))), own, seal) as shared,
        ):
            action = replace(held("ap_1"), key="a digest")
            await shared.hold(action)
            await shared.hand_over(handoff("ho_1"))
            assert ([action], action) == (await shared.held(None, 9), await shared.use("a digest", AT_MS))
            named += [await asyncio.to_thread(own_server.command, "KEYS", "*a digest*")]
            keys = await asyncio.to_thread(own_server.command, "KEYS", "*:held:*")
            found += [await asyncio.to_thread(own_server.command, "GET", key) for key in keys if "ap_1" in key]
            named_so = settings(own_server, replica="c")
            async with redis.open_tier(named_so, seal) as tier:
                await tier.erase(Selection(sessions=frozenset((action.session_id,))))
                assert {"ap_1": 0} == await tier.search(("ap_1",))
        await asyncio.to_thread(own_server.command, "FLUSHALL")

    assert [False, True] == [str(body).startswith("sealed:1:") for body in found]
    assert [True, False] == [bool(keys) for keys in named]
