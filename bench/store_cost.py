"""Owns the measurement of what the SQLite store costs one call: reserve, dispatch, finish and settle.

Usage: python bench/store_cost.py [calls]. Prints, per concurrency, CPU of the loop's thread per call, calls per second
and log bytes written per call.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from proxy.stores import sqlite
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

_CHUNK = 1000
_TARGET = Target(alias="smart", provider="openai", model="gpt-5-mini")
_SHARED = (("agent:refunds", "day:2026-01-01"), ("tenant:acme", "month:2026-01"))


def _exchange(number: int, state: State) -> Exchange:
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


async def _call(store: sqlite.SqliteStore, number: int) -> None:
    started, done = _exchange(number, State.DISPATCHED), _exchange(number, State.COMPLETE)
    attempt = started.attempts[0]
    limits = (Limit(rule="pack/cap@1", scope=_SHARED[0][0], window=_SHARED[0][1], cap_nanousd=1 << 60),)
    hold = Reservation(id=attempt.reservation_id, amount_nanousd=9_000_000, limits=limits, expires_ms=1 << 42)
    await store.reserve(hold, started.started_ms)
    await store.dispatch(started)
    await asyncio.sleep(0)
    store.finish(done)
    store.stand(_stand(done.session, number), done.started_ms)
    store.settle(Settlement(reservation_id=hold.id, nanousd=531_000, tokens=976, counters=attempt.counters), 0)


async def _chunk(store: sqlite.SqliteStore, numbers: Iterable[int], concurrency: int) -> float:
    """Return the CPU of the loop's thread per call, without the making of the records."""
    waiting = iter(numbers)

    async def pump() -> None:
        for number in waiting:
            await _call(store, number)

    cpu = time.thread_time()
    await asyncio.gather(*(pump() for _ in range(concurrency)))
    while store.backlog:  # noqa: ASYNC110 - the queue empties by itself
        await asyncio.sleep(0)
    return time.thread_time() - cpu


async def _measure(calls: int, concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "handrail.db"
        async with sqlite.open(sqlite.Settings(path=str(path))) as store:
            started = time.perf_counter()
            spent = [
                await _chunk(store, range(first, first + _CHUNK), concurrency) for first in range(0, calls, _CHUNK)
            ]
            rate = calls / (time.perf_counter() - started)
            log = path.with_name("handrail.db-wal").stat().st_size
        size = path.stat().st_size
    costs = sorted((cpu - _making()) / _CHUNK * 1e6 for cpu in spent)
    print(
        f"concurrency {concurrency:3}: CPU per call {costs[0]:.0f} us at best, {costs[len(costs) // 2]:.0f} us median;"
        f" {rate:.0f} calls/s, log {log / 1e6:.0f} MB, file {size / calls:.0f} B per call"
    )


def _making() -> float:
    cpu = time.thread_time()
    for number in range(_CHUNK):
        _exchange(number, State.DISPATCHED), _exchange(number, State.COMPLETE)
    return time.thread_time() - cpu


def main() -> None:
    """Measure at several concurrencies."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for concurrency in (1, 16, 64):
        asyncio.run(_measure(calls, concurrency))


if __name__ == "__main__":
    main()
