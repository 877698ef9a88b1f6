"""Owns the proof of proxy/stores/sqlite/store.py: what several processes, or one after another, make of one file."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores import sqlite as shelf
from proxy.stores.sqlite import Settings
from proxy.terms import Place, Totals
from tests.stores.samples import AT_MS, DAY, LATER_MS, limit, reservation, sent, stand
from tests.stores.sqlite.opened import serving


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


async def test_two_processes_share_one_cap(path: str) -> None:
    """Reservations through two stores on one file never exceed the cap together."""
    async with shelf.open(Settings(path=path)) as first, shelf.open(Settings(path=path)) as second:
        holds = [
            store.reserve(reservation(f"ex_{name}{n}", 9, limit()), AT_MS)
            for n in range(40)
            for name, store in (("a", first), ("b", second))
        ]
        outcomes = await asyncio.gather(*holds, return_exceptions=True)

        assert (11, 69) == (outcomes.count(None), sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes))
        assert [Totals(reserved_nanousd=99)] == await first.totals([DAY])


async def test_two_processes_recover_a_call_once(path: str) -> None:
    """Of two processes that clean up at one instant, one closes the call, and it is booked once."""
    async with shelf.open(Settings(path=path)) as first, shelf.open(Settings(path=path)) as second:
        await first.reserve(reservation("ex_1", 60, limit()), AT_MS)
        await first.dispatch(sent("ex_1"))
        closed = await asyncio.gather(first.recover(LATER_MS), second.recover(LATER_MS))

        assert ["ex_1"] == [found.id for each in closed for found in each]
        assert [Totals(nanousd=60, calls=1)] == await second.totals([DAY])


async def test_many_dead_calls_are_recovered_in_slices(path: str) -> None:
    """A crash under load leaves hundreds of calls open; all are closed by one recovery."""
    async with shelf.open(Settings(path=path)) as store:
        await asyncio.gather(*(store.dispatch(sent(f"ex_{n}")) for n in range(250)))

        assert 250 == len({closed.id for closed in await store.recover(LATER_MS)})


async def test_a_conversation_goes_on_in_another_process(path: str) -> None:
    """A history that one process recorded is found by another, and after a restart."""
    async with shelf.open(Settings(path=path)) as first:
        first.stand(stand("s_1", "abc", "mark"), AT_MS)

    async with shelf.open(Settings(path=path)) as second:
        assert Place(session_id="s_1", turn=1) == await second.standing("abc")
        assert [Place(session_id="s_1", turn=1)] == await second.passed("mark", "")


@pytest.mark.parametrize("booked", [False, True], ids=["held", "booked"])
@pytest.mark.parametrize("ticks", range(5), ids="after {} ticks".format)
async def test_a_cancelled_caller_holds_nothing(path: str, ticks: int, booked: bool) -> None:
    """Whenever a call is cancelled while it reserves, its hold is given back, written or not."""
    wanted = replace(reservation("ex_1", 60, limit()), booked=booked)
    async with serving(path) as (store, _):
        call = asyncio.create_task(store.reserve(wanted, AT_MS))  # noqa: TID251 - to cancel it
        for _ in range(ticks):
            await asyncio.sleep(0)
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        await store.recover(0)

        (total,) = await store.totals([DAY])
        held = 0 if isinstance(outcome, asyncio.CancelledError) else 60
        assert held == total.nanousd + total.reserved_nanousd


async def test_a_read_in_trouble_is_refused(path: str) -> None:
    """Totals that cannot be read are an error, never zeros: policy fails closed."""
    async with serving(path) as (store, connection):
        connection.execute("DROP TABLE counters")

        with pytest.raises(Overloaded) as refused:
            await store.totals([DAY])

    assert "store_unavailable" == refused.value.code


def torn(log: Path) -> None:
    """Leave half of the last page."""
    os.truncate(log, log.stat().st_size - 2000)


def flipped(log: Path) -> None:
    """Change one bit of the last page."""
    data = bytearray(log.read_bytes())
    data[-100] ^= 1
    log.write_bytes(data)


def zeroed(log: Path) -> None:
    """Leave zeros where the last page was to be."""
    data = log.read_bytes()
    log.write_bytes(data[:-4096] + bytes(4096))


@pytest.mark.parametrize("damage", [torn, flipped, zeroed])
def test_a_log_whose_end_is_not_whole_keeps_all_before(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """What a power cut leaves of the last commit is not there, as if it had not begun; every commit before it is."""

    async def write() -> None:
        async with serving(str(tmp_path / "handrail.db")) as (store, _):
            for name in ("ex_1", "ex_2", "ex_3"):
                await store.dispatch(sent(name))
            for end in ("", "-wal"):
                await asyncio.to_thread(shutil.copy, tmp_path / f"handrail.db{end}", tmp_path / f"left.db{end}")

    async def find() -> list[str]:
        async with shelf.open(Settings(path=str(tmp_path / "left.db"))) as store:
            return sorted(closed.id for closed in await store.recover(LATER_MS))

    asyncio.run(write())
    damage(tmp_path / "left.db-wal")

    assert ["ex_1", "ex_2"] == asyncio.run(find())
