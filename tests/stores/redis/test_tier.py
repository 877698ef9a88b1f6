"""Owns the proof of proxy/stores/redis/tier.py: what it has of a conversation is told, and gone when it is erased."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.errors import Overloaded
from proxy.stores import redis
from proxy.stores.redis.tier import HotTier
from proxy.terms import HeldState, Selection, Session, Table
from tests.redis_servers import RedisServer, shared_server
from tests.stores.redis.sharing import Pair, settings
from tests.stores.samples import AT_MS, handoff, held, stand

MINE = Selection(sessions=frozenset(("s_1",)))


@pytest.fixture
async def tier(pair: Pair, tmp_path: Path) -> AsyncIterator[HotTier]:
    """Give a tier in which two conversations left everything that can be left."""
    first, _ = pair
    for number in (1, 2):
        name = f"s_{number}"
        first.save(Session(id=name, labels=(f"label-{number}",)), AT_MS)
        first.stand(stand(name, f"end-{number}", f"mark-{number}", "shared"), AT_MS)
        await first.hold(replace(held(f"ap_{number}", f"key-{number}"), session_id=name))
        await first.hand_over(handoff(f"ho_{number}", name))
        await first.due(AT_MS, 9)
        await first.postpone(f"ho_{number}", AT_MS, f"error-{number}")
    await first.decide("ap_1", HeldState.APPROVED, "ann", "", AT_MS)
    await first.load("s_1")
    named = redis.ConversationSettings(url=shared_server().url, name=str(tmp_path), replica="c", timeout_ms=5000)
    async with redis.open_tier(named) as opened:
        yield opened


async def test_what_is_there_is_told(tier: HotTier) -> None:
    """The rows of a conversation come table by table, with the versions that the other tiers give them."""
    rows = [row async for row in tier.rows(MINE)]

    assert [(Table.SESSIONS, "s_1", AT_MS), (Table.HELD, "ap_1", 2), (Table.HANDOFFS, "ho_1", 1)] == [
        (row.table, row.id, row.version) for row in rows
    ]
    assert {"s_1"} == {row.session_id for row in rows}


async def test_what_is_erased_is_found_nowhere(tier: HotTier) -> None:
    """No key and no value has a trace of the conversation, and of others everything is there."""
    needles = ("s_1", "ap_1", "ho_1", "label-1", "end-1", "mark-1", "key-1", "error-1")
    others = tuple(needle.replace("1", "2") for needle in needles)
    before = await tier.search([*needles, *others])
    counts = await tier.erase(MINE)
    after = await tier.search([*needles, *others])

    assert 0 not in before.values()
    assert {Table.SESSIONS: 1, Table.HELD: 1, Table.HANDOFFS: 1} == counts
    assert dict.fromkeys(needles, 0) == {needle: after[needle] for needle in needles}
    assert {needle: before[needle] for needle in others} == {needle: after[needle] for needle in others}
    assert [] == [row async for row in tier.rows(MINE)]


async def test_a_name_is_found_as_json_spells_it(tier: HotTier) -> None:
    """Quotes and what is not ASCII stand otherwise in a body than in the name."""
    await tier._room.client.set(tier._room.key("session", "s_3"), rb'{"labels": ["\"Ann\""]}')

    assert {'"Ann"': 1} == await tier.search(['"Ann"'])


async def test_erasing_may_be_done_again(tier: HotTier) -> None:
    """There is nothing left to erase, and that is no mistake."""
    await tier.erase(MINE)

    assert {Table.SESSIONS: 0, Table.HELD: 0, Table.HANDOFFS: 0} == await tier.erase(MINE)


async def test_nothing_is_ever_too_old(tier: HotTier) -> None:
    """Entries go by themselves, a while after they were written last."""
    assert [0, 0] == [await tier.purge(Table.SESSIONS, AT_MS * 2, dry_run=dry_run) for dry_run in (True, False)]
    assert [] != [row async for row in tier.rows(MINE)]


async def test_a_tier_that_is_away_is_no_empty_answer(own_server: RedisServer) -> None:
    """Whoever asks is told that nobody knows."""
    own_server.kill()
    async with redis.open_tier(settings(own_server, timeout_ms=200)) as away:
        with pytest.raises(Overloaded, match="cannot be asked"):
            await away.search(["x"])
        with pytest.raises(Overloaded, match="cannot be asked"):
            await away.erase(MINE)
