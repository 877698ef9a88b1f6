"""Owns the proof of proxy/stores/redis/places.py beyond its contract: what is kept of marks that many have left."""

from __future__ import annotations

from pathlib import Path

from proxy.stores.redis import room
from proxy.terms import Place
from tests.redis_servers import shared_server
from tests.stores.redis.sharing import Pair
from tests.stores.samples import AT_MS, stand


async def test_of_a_mark_that_many_have_left_little_is_kept(pair: Pair, tmp_path: Path) -> None:
    """What a hundred conversations left tells nothing: two of the newest are named, and the server keeps three."""
    first, second = pair
    for n in range(100):
        first.stand(stand(f"s_{n}", "", "hi", turn=n), AT_MS)
    await first.load("s_0")
    places = await second.passed("hi", "")
    async with room.connected(shared_server().url, "", 5) as client:
        length = await client.llen(room.Room(client, str(tmp_path), 1000).key("mark", "hi", ""))

    assert 3 == length
    assert {Place(session_id=f"s_{n}", turn=n) for n in (97, 98, 99)} > set(places)
    assert 2 == len(places)


async def test_a_conversation_leaves_a_mark_once(pair: Pair) -> None:
    """The same conversation that leaves it again is found in its newest turn, alone."""
    first, _ = pair
    for turn in (1, 2, 3):
        first.stand(stand("s_1", "", "mark", turn=turn), AT_MS)

    assert [Place(session_id="s_1", turn=3)] == await first.passed("mark", "")
