"""Owns a race for limits: processes with 64 workers each, that share a ledger in Redis and are killed; and its oracle.

Each worker reserves under a limit that all share, of a window of five seconds, and under one that is never full.
Some of what is granted is sent, billed and settled, the rest given back. Each process writes a bill, and a journal
of what it was granted and gave back, with the machine's monotonic clock. The oracle (`peaks`) adds the journals of
all up: a grant counts from after it was given until before it is given back, and what a killed process had counts
no longer once its successor begins. So it never says more than there was, and whatever it finds over a cap was
over it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from bench.chaos.provider import Charge
from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores import redis, sqlite
from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Exchange,
    Level,
    Limit,
    Reservation,
    Session,
    Settlement,
    State,
    Target,
    Usage,
)

WORKERS = 64
LEASE_MS = 1_000
MOST = 1_000
"""What one call is held at, in nano-dollars."""
CAP = 200_000
"""Of one window: less than all workers hold at once, and less than the calls of a window cost."""
WINDOW_MS = 5_000
SCOPE = "agent:a"
SENT = 1 / 4
"""The share of calls that are sent."""
TIMEOUT_MS = 1_000
WIDE = Limit(rule="bench/wide@1", scope=SCOPE, window="all", cap_nanousd=1 << 50)
TARGET = Target(alias="a", provider="p", model="m")


def now_ms() -> int:
    """Read the wall clock."""
    return time.time_ns() // 1_000_000


class Racer:
    """One process: workers that reserve until they are told to end."""

    def __init__(self, store: sqlite.SqliteStore, budgets: redis.SharedBudgets, folder: Path) -> None:
        self._store = store
        self._budgets = budgets
        self._name = folder.name
        self._dice = random.Random(f"{folder.name} {time.monotonic_ns()}")  # noqa: S311 - who is first is chance anyway
        self._journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._bill = os.open(folder / "bill.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._open: set[str] = set()
        self._told = asyncio.Event()
        self._note("b", "-", "-", 0)

    async def race(self, workers: int) -> None:
        """Work until standard input ends."""
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, self._told.set)
        print(flush=True)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keep())
            calling = [group.create_task(self._call_on()) for _ in range(workers)]
            await self._told.wait()
            loop.remove_reader(sys.stdin)
            await asyncio.gather(*calling)
            keeping.cancel()
        await self._budgets.recover(now_ms())

    def _note(self, kind: str, name: str, window: str, amount: int) -> None:
        os.write(self._journal, f"{time.monotonic_ns()} {kind} {name} {window} {amount}\n".encode())

    async def _call_on(self) -> None:
        while not self._told.is_set():
            try:
                await self._call()
            except BudgetExceeded:
                self._note("r", "-", "-", 0)
                await asyncio.sleep(0.005)
            except Overloaded:
                await asyncio.sleep(0.02)

    async def _call(self) -> None:
        started_ms, name = now_ms(), f"{self._name}{self._dice.getrandbits(96):x}"
        window = f"window:{started_ms // WINDOW_MS}"
        tight = Limit(rule="bench/tight@1", scope=SCOPE, window=window, cap_nanousd=CAP)
        hold = Reservation(id=f"{name}:1", amount_nanousd=MOST, limits=(tight, WIDE), expires_ms=started_ms + LEASE_MS)
        await self._budgets.reserve(hold, started_ms)
        self._note("g", name, window, MOST)
        self._open.add(hold.id)
        try:
            cost = await self._send(name, hold) if self._dice.random() < SENT else 0
        finally:
            self._open.discard(hold.id)
        self._note("e", name, window, cost)
        counters = ((SCOPE, window), (SCOPE, "all")) if cost else ()
        self._budgets.settle(
            Settlement(reservation_id=hold.id, nanousd=cost, tokens=7 if cost else 0, counters=counters), now_ms()
        )

    async def _send(self, name: str, hold: Reservation) -> int:
        """Write down that it is sent, have it billed, and write what came of it."""
        attempt = Attempt(
            number=1,
            reservation_id=hold.id,
            target=TARGET,
            started_ms=hold.expires_ms - LEASE_MS,
            held_nanousd=MOST,
            counters=tuple((limit.scope, limit.window) for limit in hold.limits),
        )
        await self._store.dispatch(_record(name, State.DISPATCHED, attempt))
        cost = self._dice.randrange(1, MOST)
        os.write(self._bill, msgspec.json.encode(charged(name, cost)) + b"\n")
        await asyncio.sleep(self._dice.random() * 0.005)
        usage = Usage(input_tokens=3, output_tokens=4)
        done = msgspec.structs.replace(attempt, state=State.COMPLETE, cost=Cost(nanousd=cost), usage=usage)
        self._store.finish(_record(name, State.COMPLETE, done))
        return cost

    async def _keep(self) -> None:
        """Keep leases, and close what an earlier process of these books left."""
        while True:
            self._budgets.heartbeat(sorted(self._open), now_ms() + LEASE_MS)
            with suppress(Overloaded):
                await self._budgets.recover(now_ms())
            await asyncio.sleep(LEASE_MS / 4000)


def charged(name: str, cost: int) -> Charge:
    """Return the line of the bill for a call."""
    return Charge(
        call=1, digest=name, user=name, status=200, input_tokens=3, output_tokens=4, nanousd=cost, at_ms=now_ms()
    )


def _record(name: str, state: State, attempt: Attempt) -> Exchange:
    return Exchange(
        id=name,
        started_ms=attempt.started_ms,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="a", level=Level.ASSIST, principal="p"),
        session=Session(id="s"),
        stream=False,
        model_asked="m",
        state=state,
        attempts=(attempt,),
        cost=attempt.cost,
        sent_digest=name,
    )


async def _race(url: str, folder: Path, workers: int) -> None:
    settings = redis.Settings(
        url=url, replica_path=str(folder / "id"), timeout_ms=TIMEOUT_MS, quiet_ms=500, beat_ms=100
    )
    async with AsyncExitStack() as stack:
        path = str(folder / "books.db")
        store = await stack.enter_async_context(sqlite.open(sqlite.Settings(path=path, lease_ms=LEASE_MS)))
        budgets = await stack.enter_async_context(redis.open(settings, store))
        await Racer(store, budgets, folder).race(workers)


# --- the oracle -----------------------------------------------------------------------------------------------------


def peaks(journals: Iterable[Path]) -> tuple[dict[str, int], int, int]:
    """Return the most that was granted or spent under each window at one moment, and how many reserves were granted
    and refused."""
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    granted = refused = 0
    for journal in journals:
        for at_ns, window, change in _changes(journal):
            if not change:
                refused += 1
                continue
            granted += change == MOST
            changes[window].append((at_ns, change))
    return {window: _peak(some) for window, some in changes.items()}, granted, refused


def _peak(changes: list[tuple[int, int]]) -> int:
    """Return the highest sum; what is given back at the same instant counts first."""
    total = highest = 0
    for _, change in sorted(changes):
        total += change
        highest = max(highest, total)
    return highest


def _changes(journal: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (when, window, by how much) of one process's journal; a refusal changes nothing."""
    held: dict[str, tuple[str, int]] = {}
    for line in journal.read_text().splitlines():
        at, kind, name, window, amount = line.split()
        match kind:
            case "g":
                held[name] = (window, int(amount))
                yield int(at), window, int(amount)
            case "e":
                _, had = held.pop(name)
                if had != int(amount):
                    yield int(at), window, int(amount) - had
            case "b":
                yield from ((int(at), where, -had) for where, had in held.values())
                held.clear()
            case _:
                yield int(at), "", 0


if __name__ == "__main__":
    asyncio.run(_race(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
