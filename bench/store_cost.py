"""Owns the measurement of what stores cost one call: reserve, dispatch, finish and settle.

Usage: python -m bench.store_cost [calls]. Prints, for SQLite alone and with limits in Redis, and per concurrency: CPU
of the loop's thread per call, calls per second, and how long a hold took. Redis is the one that REDIS_URL names, else
one of the tests', started here.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.stores import Budgets, redis, sqlite
from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Decision,
    Exchange,
    Level,
    Limit,
    Phase,
    Reservation,
    Route,
    Session,
    Settlement,
    Stand,
    State,
    Target,
    Usage,
    Verdict,
)
from tests.redis_servers import shared_server

_CHUNK = 1000
_TARGET = Target(alias="smart", provider="openai", model="gpt-5-mini")
_SHARED = (("agent:refunds", "day:2026-01-01"), ("tenant:acme", "month:2026-01"))


def exchange_of(number: int, state: State) -> Exchange:
    """Make the record of a call, as large as real ones are; eight of them are one conversation."""
    name = f"ex_{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"
    attempt = Attempt(
        number=1,
        reservation_id=f"{name}:1",
        target=_TARGET,
        started_ms=1_767_225_600_000 + number,
        state=state,
        held_nanousd=9_000_000,
        usage=Usage(input_tokens=812, output_tokens=164),
        cost=Cost(nanousd=531_000, price="openai/gpt-5-mini@2026-01-01"),
        counters=(*_SHARED, (f"conversation:{number // 8:x}", "all")),
    )
    decisions = [
        Decision(id=f"{name}-{phase}{suffix}", phase=phase, verdict=Verdict.ALLOW)
        for phase, suffix in ((Phase.REQUEST, ""), (Phase.RESPONSE, "0"))
    ]
    return Exchange(
        id=name,
        started_ms=attempt.started_ms,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="refunds", level=Level.EXECUTE, principal="key:refunds", tenant="acme"),
        session=Session(
            id=f"s_{number // 8 * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}",
            turn=number % 8 + 1,
            link="prefix",
        ),
        stream=True,
        model_asked="smart",
        state=state,
        status=200,
        route=Route(targets=(_TARGET,), reason="default", asked="smart"),
        attempts=(attempt,),
        decisions=tuple(decisions),
        finish_reason="stop",
        model_served="gpt-5-mini-2025-08-07",
        cost=attempt.cost,
        policy_digest="a" * 64,
        prices_digest="b" * 64,
        input_digest="c" * 64,
        sent_digest="d" * 64,
    )


def _stand(session: Session, number: int) -> Stand:
    end, *marks = (f"{(number * 3 + n) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}" for n in range(3))
    return Stand(session_id=session.id, turn=session.turn, end=end, marks=tuple(marks))


async def _call(budgets: Budgets, store: sqlite.SqliteStore, number: int, took_s: list[float]) -> None:
    started, done = exchange_of(number, State.DISPATCHED), exchange_of(number, State.COMPLETE)
    attempt = started.attempts[0]
    limits = (Limit(rule="pack/cap@1", scope=_SHARED[0][0], window=_SHARED[0][1], cap_nanousd=1 << 60),)
    hold = Reservation(id=attempt.reservation_id, amount_nanousd=9_000_000, limits=limits, expires_ms=1 << 42)
    began = time.perf_counter()
    await budgets.reserve(hold, started.started_ms)
    took_s.append(time.perf_counter() - began)
    await store.dispatch(started)
    await asyncio.sleep(0)
    store.finish(done)
    store.stand(_stand(done.session, number), done.started_ms)
    budgets.settle(Settlement(reservation_id=hold.id, nanousd=531_000, tokens=976, counters=attempt.counters), 0)


async def _chunk(
    budgets: Budgets, store: sqlite.SqliteStore, numbers: Iterable[int], concurrency: int, took_s: list[float]
) -> float:
    """Return the CPU of the loop's thread per call, without the making of the records."""
    waiting = iter(numbers)

    async def pump() -> None:
        for number in waiting:
            await _call(budgets, store, number, took_s)

    cpu = time.thread_time()
    await asyncio.gather(*(pump() for _ in range(concurrency)))
    while store.backlog:  # noqa: ASYNC110 - the queue empties by itself
        await asyncio.sleep(0)
    return time.thread_time() - cpu


async def _measure(calls: int, concurrency: int, url: str) -> None:
    took_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "handrail.db"
        async with sqlite.open(sqlite.Settings(path=str(path))) as store, _budgets(store, url, Path(folder)) as budgets:
            started = time.perf_counter()
            spent = [
                await _chunk(budgets, store, range(first, first + _CHUNK), concurrency, took_s)
                for first in range(0, calls, _CHUNK)
            ]
            rate = calls / (time.perf_counter() - started)
    costs = sorted((cpu - _making()) / _CHUNK * 1e6 for cpu in spent)
    took_s.sort()
    print(
        f"{'redis' if url else 'sqlite':6} concurrency {concurrency:3}: CPU per call {costs[0]:.0f} us at best,"
        f" {costs[len(costs) // 2]:.0f} us median; {rate:.0f} calls/s;"
        f" hold p50 {took_s[len(took_s) // 2] * 1e3:.2f} ms, p99 {took_s[len(took_s) * 99 // 100] * 1e3:.2f} ms"
    )


@asynccontextmanager
async def _budgets(store: sqlite.SqliteStore, url: str, folder: Path) -> AsyncIterator[Budgets]:
    if not url:
        yield store
        return
    settings = redis.Settings(
        url=url, ledger=folder.name, replica_path=str(folder / "replica.id"), timeout_ms=5000, quiet_ms=0
    )
    async with redis.open(settings, store) as budgets:
        yield budgets


def _making() -> float:
    cpu = time.thread_time()
    for number in range(_CHUNK):
        exchange_of(number, State.DISPATCHED), exchange_of(number, State.COMPLETE)
    return time.thread_time() - cpu


def main() -> None:
    """Measure at several concurrencies."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for url in ("", os.environ.get("REDIS_URL") or shared_server().url):
        for concurrency in (1, 16, 64):
            asyncio.run(_measure(calls, concurrency, url))


if __name__ == "__main__":
    main()
