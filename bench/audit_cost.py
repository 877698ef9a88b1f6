"""Owns the measurement of what the audit log costs: CPU per call, and how long a call waits where it is required.

Usage: python -m bench.audit_cost [calls]. A call is two entries: as it leaves, and when it has ended. CPU is that of
the whole process, all threads and the system time of syncs included, less that of the same loop without a log. The
wait is that for `ensure` alone, at 1, 16 and 64 calls at a time, beside what one fdatasync takes on the same file
system just before. Writes into a folder below the current one: a memory file system would say nothing of disks.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.store_cost import exchange_of
from proxy import audit, journal
from proxy.terms import Exchange, State

SYNCS = 200


async def _call(log: journal.Journal | None, sent: Exchange, done: Exchange, waits_ms: list[float]) -> None:
    if log is None:
        await asyncio.sleep(0)
        return
    began = time.perf_counter()
    await log.ensure(partial(audit.dispatched, sent))
    waits_ms.append((time.perf_counter() - began) * 1000)
    log.note(partial(audit.finished, done))
    await asyncio.sleep(0)


async def _run(log: journal.Journal | None, calls: int, at_once: int) -> tuple[float, list[float]]:
    """Return CPU in microseconds per call until all is written, and the waits."""
    waits_ms: list[float] = []
    records = [(exchange_of(n, State.DISPATCHED), exchange_of(n, State.COMPLETE)) for n in range(256)]
    numbers = iter(range(calls))

    async def pump() -> None:
        for number in numbers:
            await _call(log, *records[number % len(records)], waits_ms)
            if log and log.status()["pending"] > 4000:  # type: ignore[operator]  # a number
                await asyncio.sleep(0.05)

    cpu = time.process_time()
    await asyncio.gather(*(pump() for _ in range(at_once)))
    while log and log.status()["pending"]:  # noqa: ASYNC110 - the queue empties by itself
        await asyncio.sleep(0.01)
    return (time.process_time() - cpu) / calls * 1e6, waits_ms


async def _measure(folder: Path, calls: int, at_once: int, *, required: bool) -> None:
    bare, _ = await _run(None, calls, at_once)
    settings = journal.LogSettings(folder=folder, seed=bytes(32))
    async with journal.open(settings, required=required, at_ms=0) as log:
        cpu, waits_ms = await _run(log, calls, at_once)
    size = await asyncio.to_thread(_bytes, folder) / calls
    line = f"{'required' if required else 'optional'}, {at_once:2} at once: {cpu - bare:4.0f} us CPU per call"
    cuts = statistics.quantiles(waits_ms, n=100)
    print(f"{line}; waits p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms; {size:.0f} B per call")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _syncs(folder: Path) -> None:
    file, took_ms = os.open(folder / "sync", os.O_CREAT | os.O_WRONLY | os.O_APPEND), []
    for _ in range(SYNCS):
        began = time.perf_counter()
        os.write(file, b"x" * 1000)
        os.fdatasync(file)
        took_ms.append((time.perf_counter() - began) * 1000)
    os.close(file)
    cuts = statistics.quantiles(took_ms, n=100)
    print(f"one write and fdatasync: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms")


def main() -> None:
    """Measure."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for at_once, required in ((64, False), (1, True), (16, True), (64, True)):
            _syncs(Path(folder))
            few = calls if at_once > 1 else calls // 8
            asyncio.run(_measure(Path(folder) / f"{at_once}{required}", few, at_once, required=required))


if __name__ == "__main__":
    main()
