"""Owns the proof of proxy/stores/redis/keeper.py: whatever becomes of the server, the ledger never knows too little."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.errors import BudgetExceeded
from proxy.stores.redis import SharedBudgets
from proxy.terms import Totals
from tests.redis_servers import RedisServer
from tests.stores.redis.conftest import Joined, joining
from tests.stores.redis.replicas import joined, lost, replica
from tests.stores.samples import AT_MS, DAY, limit, reservation, settlement


async def reserve(budgets: SharedBudgets, name: str, amount: int) -> None:
    """Hold an amount under a limit of 100."""
    await budgets.reserve(reservation(name, amount, limit(DAY)), AT_MS)


async def restart(server: RedisServer) -> None:
    """Kill the server and start it again, with what it saved last."""
    server.kill()
    await asyncio.to_thread(server.start)


async def test_a_lost_tail_is_told_again(own_server: RedisServer, tmp_path: Path) -> None:
    """A server that comes back without its last writes, as a promoted replica does, has them again before it admits
    anybody; what it still had is not counted twice."""
    async with (
        replica(own_server.url, tmp_path / "a", on_outage="closed") as first,
        replica(own_server.url, tmp_path / "b", on_outage="closed") as second,
    ):
        await reserve(first, "ex_1", 30)
        await reserve(second, "ex_2", 10)
        first.settle(settlement("ex_1", 20), AT_MS)
        await first.recover(0)
        own_server.command("SAVE")
        second.settle(settlement("ex_2", 5), AT_MS)
        await reserve(second, "ex_3", 40)
        await reserve(first, "ex_4", 25)
        await restart(own_server)
        await lost(first, second)
        await joined(first, second)

        with pytest.raises(BudgetExceeded):
            await reserve(first, "ex_5", 11)
        await reserve(second, "ex_6", 10)
        assert [Totals(nanousd=25, reserved_nanousd=75, tokens=14, calls=2)] == await first.totals([DAY])


async def test_an_emptied_ledger_is_filled_again(own_server: RedisServer, tmp_path: Path) -> None:
    """A server that forgot everything without going away is told everything."""
    async with replica(own_server.url, tmp_path / "a") as budgets:
        await reserve(budgets, "ex_1", 30)
        budgets.settle(settlement("ex_1", 20), AT_MS)
        await reserve(budgets, "ex_2", 40)
        own_server.command("FLUSHALL")
        await lost(budgets)
        await joined(budgets)

        assert [Totals(nanousd=20, reserved_nanousd=40, tokens=7, calls=1)] == await budgets.totals([DAY])


async def test_nobody_is_admitted_before_all_have_spoken(own_server: RedisServer) -> None:
    """After the server changed, calls wait for every replica that was alive, until it speaks or counts as gone."""
    join: Joined = joining(own_server)
    async with join("a") as first, join("b", lease_ms=1_000):
        await first.restate({}, {})
        await restart_with(own_server)
        async with join("a") as back:
            before = await back.restate({}, {})
            while not await back.restate({}, {}):
                await asyncio.sleep(0.05)
                await back.beat()

    assert not before


async def restart_with(server: RedisServer) -> None:
    """Have the ledger look as if it was seen on another server before."""
    for key in server.command("KEYS", "{handrail:test-*}"):
        server.command("HSET", key, "run", "another")


async def test_a_server_not_seen_before_is_quiet_first(join: Joined) -> None:
    """Replicas that the server does not know of have some time to notice."""
    async with join("a", quiet_ms=500) as ledger:
        before = await ledger.restate({}, {})
        while not await ledger.restate({}, {}):  # noqa: ASYNC110 - time passes at the server
            await asyncio.sleep(0.02)

        assert not before


async def test_a_restart_goes_on_where_it_was(own_server: RedisServer, tmp_path: Path) -> None:
    """A process that takes over the books of one that ended holds what that held, and ends it in its own time."""
    async with replica(own_server.url, tmp_path / "a") as budgets:
        await reserve(budgets, "ex_1", 30)
    async with replica(own_server.url, tmp_path / "a") as budgets:
        held = await budgets.totals([DAY])
        await budgets.recover(AT_MS * 2)

        assert [[Totals(reserved_nanousd=30)], [Totals()]] == [held, await budgets.totals([DAY])]


async def test_leaving_gives_slices_back(own_server: RedisServer, tmp_path: Path) -> None:
    """What was set aside for a replica is there for others once it has stopped."""
    async with replica(own_server.url, tmp_path / "a") as first:
        await reserve(first, "ex_1", 10)
        first.settle(settlement("ex_1", 10), AT_MS)
    async with replica(own_server.url, tmp_path / "b", on_outage="closed") as second:
        await reserve(second, "ex_2", 90)

        assert [Totals(nanousd=10, reserved_nanousd=90, tokens=7, calls=1)] == await second.totals([DAY])


async def test_it_starts_without_a_server(own_server: RedisServer, tmp_path: Path) -> None:
    """A ledger that is away is no reason not to start; once it is there it is used."""
    told: list[str] = []
    own_server.kill()
    async with AsyncExitStack() as stack:
        budgets = await stack.enter_async_context(replica(own_server.url, tmp_path / "a", told.append))
        away = budgets.trouble
        await asyncio.to_thread(own_server.start)
        await joined(budgets)

    assert away.startswith("cannot connect")
    assert [away, ""] == told
