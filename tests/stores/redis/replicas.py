"""Owns replicas for tests: each with books of its own, on one ledger. As a program it is one that races others.

Usage: python -m tests.stores.redis.replicas URL FOLDER CAP. Prints a line when it is ready, begins when it gets one,
and ends when the limit has no room or its input is closed. Prints a line when a call was granted first, and one when
first while the ledger was away. At last prints what it was granted and still holds or has used,
in nano-dollars, and how many calls were granted while the ledger was away.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores import redis, sqlite
from proxy.stores.redis import SharedBudgets
from tests.stores.samples import AT_MS, DAY, limit, reservation, settlement

AMOUNT = 8
PATIENCE = 20
"""Refusals in a row after which the limit has no room."""
WAIT_S = 60.0


@asynccontextmanager
async def replica(
    url: str, folder: Path, tell: Callable[[str], None] = lambda _: None, **changes: Any
) -> AsyncIterator[SharedBudgets]:
    """Start one in a folder, which hears of the ledger by `tell`; unless told otherwise it has time for replies."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    settings = redis.Settings(url=url, replica_path=str(folder / "id"), timeout_ms=5000, quiet_ms=0, beat_ms=20)
    async with (
        sqlite.open(sqlite.Settings(path=str(folder / "books.db"), checkpoint_s=60)) as books,
        redis.open(replace(settings, **changes), books, tell) as budgets,
    ):
        yield budgets


async def joined(*replicas: SharedBudgets) -> None:
    """Wait until these can ask the ledger."""
    async with asyncio.timeout(WAIT_S):
        while any(one.trouble for one in replicas):  # noqa: ASYNC110 - the keepers' work
            await asyncio.sleep(0.005)


async def lost(*replicas: SharedBudgets) -> None:
    """Wait until these have noticed that the ledger is away."""
    async with asyncio.timeout(WAIT_S):
        while not all(one.trouble for one in replicas):  # noqa: ASYNC110 - the keepers' work
            await asyncio.sleep(0.005)


async def race(url: str, folder: Path, cap: int) -> tuple[int, int]:
    """Reserve as fast as possible and use half of every second call; return what was granted, and how many alone."""
    granted = alone = refused = number = 0
    async with replica(url, folder, timeout_ms=200) as budgets, told_what_to_do() as (begin, end):
        await begin.wait()
        while refused < PATIENCE and not end.is_set():
            name, number = f"{folder.name}_{number}", number + 1
            try:
                await budgets.reserve(reservation(name, AMOUNT, limit(DAY, cap)), AT_MS)
            except (BudgetExceeded, Overloaded) as error:
                refused += isinstance(error, BudgetExceeded)
                await asyncio.sleep(0.005)
                continue
            if not granted:
                print(flush=True)  # noqa: T201 - whoever started this may wait for it
            granted, refused = granted + AMOUNT, 0
            if budgets.trouble:
                alone += 1
                if alone == 1:
                    print(flush=True)  # noqa: T201 - for this too
            if number % 2:
                granted -= AMOUNT // 2
                budgets.settle(settlement(name, AMOUNT // 2), AT_MS)
        await joined(budgets)
    return granted, alone


@asynccontextmanager
async def told_what_to_do() -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Say that this process is ready; yield what is set when it is told to begin, and to end."""
    loop, begin, end = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def heard() -> None:
        if os.read(sys.stdin.fileno(), 100):
            begin.set()
        else:
            end.set()
            loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, heard)
    print(flush=True)  # noqa: T201 - whoever started this waits for it
    yield begin, end
    loop.remove_reader(sys.stdin)


if __name__ == "__main__":
    print(*asyncio.run(race(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201 - its result
