"""Owns the proof of proxy/stores/redis/budgets.py: limits hold over all replicas, and through every outage."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores.redis import SharedBudgets
from proxy.terms import Totals
from tests.redis_servers import RedisServer
from tests.stores.redis.replicas import AMOUNT, joined, lost, replica
from tests.stores.samples import AT_MS, DAY, LATER_MS, MONTH, limit, reservation, settlement


async def granted(budgets: SharedBudgets, name: str, amount: int, *, booked: bool = False) -> bool:
    """Try to hold an amount, or to book it; say whether it was granted."""
    try:
        await budgets.reserve(replace(reservation(name, amount, limit(DAY)), booked=booked), AT_MS)
    except (BudgetExceeded, Overloaded):
        return False
    return True


@asynccontextmanager
async def frozen(server: RedisServer, *replicas: SharedBudgets) -> AsyncIterator[None]:
    """Have the server answer nobody for a while, and wait until all are back."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()
    await lost(*replicas)
    await joined(*replicas)


# --- many replicas --------------------------------------------------------------------------------------------------


async def test_replicas_share_a_limit(own_server: RedisServer, tmp_path: Path) -> None:
    """What one holds or has used the other cannot have; each sees the totals of both."""
    async with (
        replica(own_server.url, tmp_path / "a", on_outage="closed") as first,
        replica(own_server.url, tmp_path / "b", on_outage="closed") as second,
    ):
        assert await granted(first, "ex_1", 60)
        assert not await granted(second, "ex_2", 41)
        first.settle(settlement("ex_1", 20), AT_MS)
        await first.recover(0)
        assert await granted(second, "ex_3", 80)

        assert [Totals(nanousd=20, reserved_nanousd=80, tokens=7, calls=1)] == await first.totals([DAY])


async def test_a_refused_hold_may_be_asked_for_again(own_server: RedisServer, tmp_path: Path) -> None:
    """It is held under the same name then, until it is settled: its refusal ends nothing."""
    async with (
        replica(own_server.url, tmp_path / "a", on_outage="closed") as first,
        replica(own_server.url, tmp_path / "b", on_outage="closed") as second,
    ):
        assert not await granted(first, "ex_1", 101)
        assert await granted(first, "ex_1", 60)
        await first.recover(0)

        assert not await granted(second, "ex_2", 41)


async def test_ledgers_are_apart(own_server: RedisServer, tmp_path: Path) -> None:
    """Replicas of different ledgers on one server share nothing."""
    async with (
        replica(own_server.url, tmp_path / "a", ledger="one") as first,
        replica(own_server.url, tmp_path / "b", ledger="two") as second,
    ):
        assert await granted(first, "ex_1", 100)
        assert await granted(second, "ex_2", 100)


class Race(NamedTuple):
    """Processes that race for a limit."""

    processes: list[Process]
    results: list[tuple[int, int]]
    """What each was granted, and how many calls alone."""

    async def all_say_so(self) -> None:
        """Wait for a line of each."""
        for process in self.processes:
            assert process.stdout
            await process.stdout.readline()

    async def end(self, *, when_full: bool) -> None:
        """End all, or wait until the limit has no room for any of them; fill in the results."""
        for process in self.processes:
            assert process.stdin
            assert process.stdout
            if not when_full:
                process.stdin.close()
            told = (await process.stdout.read()).split()
            await process.wait()
            self.results.append((int(told[-2]), int(told[-1])))


@asynccontextmanager
async def racing(url: str, folder: Path, cap: int, count: int) -> AsyncIterator[Race]:
    """Have processes race for a limit."""
    program = [sys.executable, "-m", "tests.stores.redis.replicas", url]
    processes = [
        await asyncio.create_subprocess_exec(
            *program, str(folder / f"p{n}"), str(cap), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for n in range(count)
    ]
    race = Race(processes, [])
    await race.all_say_so()
    for process in processes:
        assert process.stdin
        process.stdin.write(b"begin\n")
    yield race


@pytest.mark.parametrize("processes", [2, 4])
async def test_processes_race_for_one_limit(own_server: RedisServer, tmp_path: Path, processes: int) -> None:
    """All of it is granted but what fits no call, and not one nano-dollar more."""
    cap = 300 * AMOUNT + 3
    async with racing(own_server.url, tmp_path, cap, processes) as race:
        await race.end(when_full=True)
    async with replica(own_server.url, tmp_path / "after", on_outage="closed") as after:
        (total,) = await after.totals([DAY])

    spent = sum(granted for granted, _ in race.results)
    assert spent == total.nanousd + total.reserved_nanousd
    assert cap - processes * AMOUNT < spent <= cap


async def test_processes_race_while_the_server_dies(own_server: RedisServer, tmp_path: Path) -> None:
    """A server that is killed and comes back with nothing costs no limit: what was granted meanwhile was set aside."""
    cap = 50_000 * AMOUNT
    async with racing(own_server.url, tmp_path, cap, 2) as race:
        await race.all_say_so()
        own_server.kill()
        await race.all_say_so()
        await asyncio.to_thread(own_server.start)
        await asyncio.sleep(0.3)
        await race.end(when_full=False)
    async with replica(own_server.url, tmp_path / "after", on_outage="closed") as after:
        (total,) = await after.totals([DAY])

    assert sum(granted for granted, _ in race.results) == total.nanousd + total.reserved_nanousd <= cap
    assert all(alone for _, alone in race.results)


# --- outages --------------------------------------------------------------------------------------------------------


async def test_a_slice_is_spent_and_no_more(own_server: RedisServer, tmp_path: Path) -> None:
    """Cut off, two replicas together grant no more than what the limit had left, and calls go on meanwhile; when the
    ledger is back it knows everything."""
    async with (
        replica(own_server.url, tmp_path / "a", timeout_ms=100) as first,
        replica(own_server.url, tmp_path / "b", timeout_ms=100) as second,
    ):
        assert await granted(first, "ex_1", 4)
        assert await granted(second, "ex_2", 4)
        async with frozen(own_server, first, second):
            alone = [
                await granted(budgets, f"{name}_{n}", 4)
                for n in range(25)
                for name, budgets in (("a", first), ("b", second))
            ]
        (total,) = await first.totals([DAY])

        assert 8 + 4 * sum(alone) == total.reserved_nanousd <= 100
        assert sum(alone) >= 10


async def test_what_a_call_did_not_use_is_spent_again(own_server: RedisServer, tmp_path: Path) -> None:
    """A slice lasts as long as what calls use of it, not what they hold."""
    async with replica(own_server.url, tmp_path / "a", timeout_ms=100) as budgets:
        assert await granted(budgets, "ex_0", 20)
        budgets.settle(settlement("ex_0", 0), AT_MS)
        async with frozen(own_server, budgets):
            for number in range(1, 11):
                assert await granted(budgets, f"ex_{number}", 20)
                budgets.settle(settlement(f"ex_{number}", 1), AT_MS)

        assert [Totals(nanousd=10, tokens=77, calls=11)] == await budgets.totals([DAY])


async def test_closed_refuses(own_server: RedisServer, tmp_path: Path) -> None:
    """Nothing is granted and no total is told while the ledger is away: a typed 503 that may be asked again."""
    async with replica(own_server.url, tmp_path / "a", on_outage="closed", timeout_ms=100) as budgets:
        assert await granted(budgets, "ex_1", 10)
        async with frozen(own_server, budgets):
            with pytest.raises(Overloaded) as refused:
                await budgets.reserve(reservation("ex_2", 1, limit()), AT_MS)
            with pytest.raises(Overloaded):
                await budgets.totals([DAY])

        assert (503, "ledger_away", "1") == (
            refused.value.status,
            refused.value.code,
            refused.value.headers["retry-after"],
        )
        assert [Totals(reserved_nanousd=10)] == await budgets.totals([DAY])


async def test_open_goes_on_and_counts(own_server: RedisServer, tmp_path: Path) -> None:
    """Calls go on beyond every limit; each is counted, and in the ledger once that is back."""
    async with replica(own_server.url, tmp_path / "a", on_outage="open", timeout_ms=100) as budgets:
        async with frozen(own_server, budgets):
            outcomes = [await granted(budgets, f"ex_{number}", 60) for number in range(3)]

        assert ([True] * 3, 3) == (outcomes, budgets.unheld)
        assert [Totals(reserved_nanousd=180)] == await budgets.totals([DAY])


async def test_totals_of_an_outage_are_what_is_known(own_server: RedisServer, tmp_path: Path) -> None:
    """The newest totals that were told, what this replica used since, and of other counters its own books."""
    async with replica(own_server.url, tmp_path / "a", timeout_ms=100) as budgets:
        budgets.settle(settlement("ex_1", 20, (DAY, MONTH)), AT_MS)
        await budgets.recover(0)
        assert await granted(budgets, "ex_0", 5)
        budgets.settle(settlement("ex_0", 0, (), tokens=0), AT_MS)
        await budgets.recover(0)
        await budgets.totals([DAY])
        async with frozen(own_server, budgets):
            budgets.settle(settlement("ex_2", 5, (DAY,)), AT_MS)
            assert await granted(budgets, "ex_3", 30, booked=True)

            assert [Totals(nanousd=55, tokens=14, calls=3), Totals(nanousd=20, tokens=7, calls=1)] == (
                await budgets.totals([DAY, MONTH])
            )


async def test_a_lease_that_ends_in_an_outage(own_server: RedisServer, tmp_path: Path) -> None:
    """What was reserved and never sent is released, also where a slice paid for it."""
    async with replica(own_server.url, tmp_path / "a", timeout_ms=100) as budgets:
        assert await granted(budgets, "ex_1", 10)
        async with frozen(own_server, budgets):
            assert await granted(budgets, "ex_2", 10)
            await budgets.recover(LATER_MS)

        assert [Totals()] == await budgets.totals([DAY])
        assert await granted(budgets, "ex_3", 100)


# --- callers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("booked", [False, True], ids=["held", "booked"])
@pytest.mark.parametrize("ticks", range(0, 9, 2), ids="after {} ticks".format)
async def test_a_caller_that_leaves_holds_nothing(
    own_server: RedisServer, tmp_path: Path, ticks: int, booked: bool
) -> None:
    """Whenever a call is cancelled while it reserves, nothing stays held or used for it."""
    wanted = replace(reservation("ex_1", 60, limit()), booked=booked)
    async with replica(own_server.url, tmp_path / "a") as budgets:
        call = asyncio.ensure_future(budgets.reserve(wanted, AT_MS))  # noqa: TID251 - to cancel it
        for _ in range(ticks):
            await asyncio.sleep(0)
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        await budgets.recover(0)

        used = 60 if booked and outcome is None else 0
        (total,) = await budgets.totals([DAY])
        assert (used, 0 if outcome or booked else 60) == (total.nanousd, total.reserved_nanousd)
