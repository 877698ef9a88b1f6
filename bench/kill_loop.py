"""Owns the proof by force that no crash loses a record or money: processes that serve are killed at random instants.

Usage: python bench/kill_loop.py [--kills 200] [--seed 1]. Two processes at a time work on one file: they reserve,
dispatch, append to the provider's bill once dispatch() has returned, then finish and settle. Each is sent SIGKILL after
a random few milliseconds and replaced. At the end the bill is compared with the records and the records with the
counters. Exits 1 when a dispatched call has no record or two, when a hold outlives its lease, when the counters are not
the sum of the records, when a call cost less than the provider billed, or when a cap was exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NoReturn

import msgspec

from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores import sqlite
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

LEASE_MS = 400
PROCESSES = 2
CALLS_AT_ONCE = 24
MOST = 1_000
"""What one call is held at; the provider bills less."""
CAP = 20_000
"""Of the tight limit: too little for all calls of its window, so that some are refused."""
WINDOW_MS = 1_000
DAY = ("agent:a", "day")
TARGET = Target(alias="a", provider="p", model="m")


def now_ms() -> int:
    """Read the wall clock."""
    return time.time_ns() // 1_000_000


# --- a process that serves ------------------------------------------------------------------------------------------


class Server:
    """One process: many calls at once on the shared file, until it is killed."""

    def __init__(self, store: sqlite.SqliteStore, bill: int, seed: int) -> None:
        self._store = store
        self._bill = bill
        self._dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._open: set[str] = set()

    async def serve(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_leases())
            for _ in range(CALLS_AT_ONCE):
                group.create_task(self._call_on())

    async def _call_on(self) -> None:
        while True:
            try:
                await self._call()
            except (BudgetExceeded, Overloaded):
                await asyncio.sleep(0.002)

    async def _call(self) -> None:
        started_ms, name = now_ms(), f"ex_{self._dice.getrandbits(128):032x}"
        tight = ("agent:a", f"window:{started_ms // WINDOW_MS}")
        limited = self._dice.random() < 0.5
        counters = (DAY, tight) if limited else (DAY,)
        attempt = Attempt(
            number=1,
            reservation_id=f"{name}:1",
            target=TARGET,
            started_ms=started_ms,
            held_nanousd=MOST,
            counters=counters,
        )
        if limited:
            await self._reserve(attempt, tight)
        self._open.add(attempt.reservation_id)
        try:
            await self._store.dispatch(_record(name, State.DISPATCHED, attempt))
            cost = self._dice.randrange(1, MOST)
            # From here on the provider charges, whatever becomes of this process.
            os.write(self._bill, f"{name} {cost}\n".encode())
            await asyncio.sleep(self._dice.random() * 0.01)
            self._end(name, attempt, cost)
        finally:
            self._open.discard(attempt.reservation_id)

    async def _reserve(self, attempt: Attempt, tight: tuple[str, str]) -> None:
        limit = Limit(rule="bench/tight@1", scope=tight[0], window=tight[1], cap_nanousd=CAP)
        expires_ms = attempt.started_ms + LEASE_MS
        hold = Reservation(id=attempt.reservation_id, amount_nanousd=MOST, limits=(limit,), expires_ms=expires_ms)
        await self._store.reserve(hold, attempt.started_ms)

    def _end(self, name: str, attempt: Attempt, cost: int) -> None:
        usage = Usage(input_tokens=3, output_tokens=4)
        done = msgspec.structs.replace(attempt, state=State.COMPLETE, cost=Cost(nanousd=cost), usage=usage)
        self._store.finish(_record(name, State.COMPLETE, done))
        bill = Settlement(reservation_id=attempt.reservation_id, nanousd=cost, tokens=7, counters=attempt.counters)
        self._store.settle(bill, now_ms())

    async def _keep_leases(self) -> None:
        while True:
            self._store.heartbeat(sorted(self._open), now_ms() + LEASE_MS)
            try:
                await self._store.recover(now_ms())
            except Overloaded:
                continue
            await asyncio.sleep(LEASE_MS / 4000)


def _record(name: str, state: State, attempt: Attempt) -> Exchange:
    return Exchange(
        id=name,
        started_ms=attempt.started_ms,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="a", level=Level.ASSIST, principal="p"),
        session=Session(id=f"s_{name[3:6]}"),
        stream=False,
        model_asked="m",
        state=state,
        attempts=(attempt,),
        cost=attempt.cost,
    )


def _child(path: str, bill: str, seed: int) -> NoReturn:
    async def serve() -> None:
        async with sqlite.open(sqlite.Settings(path=path, lease_ms=LEASE_MS, checkpoint_s=0.05)) as store:
            await Server(store, os.open(bill, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), seed).serve()

    try:
        asyncio.run(serve())
    except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's code
        traceback.print_exc()
    os._exit(70)


# --- the killing ----------------------------------------------------------------------------------------------------


def kill(path: str, bill: str, kills: int, seed: int) -> int:
    """Start processes and kill them, `kills` times; return how many ended by themselves, which none should."""
    dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    alive: list[int] = []
    died = 0
    for number in range(kills + PROCESSES - 1):
        alive.append(_start(path, bill, seed * 1_000_003 + number))
        if len(alive) < PROCESSES:
            continue
        time.sleep(dice.uniform(0.0, 0.2))
        died += _stop(alive.pop(dice.randrange(len(alive))))
    return died + sum(_stop(pid) for pid in alive)


def _start(path: str, bill: str, seed: int) -> int:
    pid = os.fork()
    if pid == 0:
        _child(path, bill, seed)
    return pid


def _stop(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return not os.WIFSIGNALED(status)


# --- the audit ------------------------------------------------------------------------------------------------------


async def recover(path: str) -> int:
    """Close what the last kills left open, once all leases have ended; return how many calls."""
    async with sqlite.open(sqlite.Settings(path=path)) as store:
        return len(await store.recover(now_ms() + 10 * LEASE_MS))


def audit(path: str, bill: str) -> tuple[str, list[str]]:
    """Compare the provider's bill, the records and the counters; return a summary and all that does not add up."""
    billed = [line.split() for line in Path(bill).read_text(encoding="ascii").splitlines()]
    with sqlite.Reader(path) as reader:
        records = [*reader.between(0, 1 << 62), *reader.in_flight()]
        in_flight, counters = len(reader.in_flight()), reader.totals()
    costs = {record.id: record.cost.nanousd or 0 for record in records}
    spent: Counter[tuple[str, str]] = Counter()
    calls: Counter[tuple[str, str]] = Counter()
    for attempt in (attempt for record in records for attempt in record.attempts):
        for pair in attempt.counters:
            spent[pair] += attempt.cost.nanousd or 0
            calls[pair] += 1
    counts = {
        "billed calls without a record": len({name for name, _ in billed} - set(costs)),
        "calls with two records": len(records) - len(costs),
        "calls left in flight": in_flight,
        "holds that outlived their lease": sum(total.reserved_nanousd != 0 for _, _, total in counters),
        "counters that are not the sum of their records": sum(
            (spent[scope, window], calls[scope, window]) != (total.nanousd, total.calls)
            for scope, window, total in counters
        ),
        "calls that cost less than was billed": sum(int(cost) > costs[name] for name, cost in billed if name in costs),
        "caps exceeded": sum(total.nanousd > CAP for _, window, total in counters if window != DAY[1]),
    }
    recovered = sum(record.state is State.RECOVERED for record in records)
    summary = f"{len(billed)} calls billed, {len(records)} recorded, {recovered} of them by recovery"
    return summary, [f"{count} {what}" for what, count in counts.items() if count]


def main() -> int:
    """Kill, audit, report."""
    parser = argparse.ArgumentParser(description="Kill processes that serve, and look for what was lost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, bill = f"{folder}/handrail.db", f"{folder}/bill"
        died = kill(path, bill, chosen.kills, chosen.seed)
        asyncio.run(recover(path))
        summary, problems = audit(path, bill)
    problems += [f"{died} processes ended by themselves"] if died else []
    print(f"{chosen.kills} kills, seed {chosen.seed}: {summary}")
    print("\n".join(problems) or "nothing lost, nothing doubled")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
