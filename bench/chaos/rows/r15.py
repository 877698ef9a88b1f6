"""Owns row R15: what journal, budget and audit add to a call whose record is on disk before it is sent.

Agents make calls at random instants, as many to the provider itself as through a Handrail with a spend limit, records
under `durability: disk` and `audit: {required: true}`; the provider answers at once. The overhead is the difference of
the two distributions at p50 and at p99, so that it has all of Handrail in it, not the syncs alone. The same is done
with neither (`process`, no audit log), and in memory, where a sync costs nothing: what is left is ours. Beside it what
the disk takes for one fdatasync, just before and just after, and how busy the machine was.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from pathlib import Path

from bench.chaos.durable import CONFIG, REQUIRED, Line, Server, bare_ms, quantile
from bench.chaos.provider import FakeProvider
from bench.chaos.rows_api import Figure, Outcome, Plan, within

TITLE = "overhead p50/p99 of journal + budget + audit (`durability: disk`)"
GATE = "at most 2/10 ms"
STRETCH = "at most 1/5 ms"

FULL, SHORT = 4_000, 150
"""Calls through Handrail in each set-up."""
LINES = 16
RATE = 60.0
"""Calls a second, half of them to the provider itself."""
WARM = 60
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own in there
PORTS = (8741, 8742, 8743)
SETUPS = (("disk", REQUIRED), ("process, no audit", CONFIG))


async def calls(port: int, provider: int, count: int, dice: random.Random) -> tuple[list[float], list[float], int]:
    """Return how long calls took through Handrail and directly, and how many failed."""
    took: tuple[list[float], list[float]] = ([], [])
    numbers = iter(range(2 * count))
    failed = 0

    async def agent() -> None:
        nonlocal failed
        lines = (Line(port), Line(provider))
        for number in numbers:
            await asyncio.sleep(dice.expovariate(RATE / LINES))
            status, ms = await lines[number % 2].ask(f"call {number}")
            failed += status != 200
            took[number % 2].append(ms)
        for line in lines:
            line.close()

    await asyncio.gather(*(agent() for _ in range(LINES)))
    return *took, failed


async def overhead(folder: Path, config: str, count: int, dice: random.Random) -> dict[str, Figure]:
    """Measure one set-up in a folder of its own."""
    with FakeProvider(folder) as provider:
        server = Server(folder, provider.url, config, ports=PORTS)
        await server.start()
        try:
            await calls(server.port, provider.port, WARM, dice)
            through, direct, failed = await calls(server.port, provider.port, count, dice)
        finally:
            await server.end()
    return {
        "p50, ms": round(quantile(through, 0.5) - quantile(direct, 0.5), 2),
        "p99, ms": round(quantile(through, 0.99) - quantile(direct, 0.99), 2),
        "failed": failed,
    }


def bare(folder: Path, when: str) -> dict[str, Figure]:
    """Return what the disk takes for a sync."""
    kinds = (("grown", True), ("overwritten", False))
    took = {name: bare_ms(folder, grow=grow) for name, grow in kinds}
    return {
        f"one fdatasync {when}, {name}, p50/p99 ms": f"{quantile(ms, 0.5):.2f}/{quantile(ms, 0.99):.2f}"
        for name, ms in took.items()
    }


def run(plan: Plan) -> Outcome:
    """Measure on the disk of the work folder, then in memory."""
    count = FULL if plan.full else SHORT
    figures: dict[str, Figure] = dict(bare(plan.folder, "before"))
    parts = {}
    for name, config in SETUPS:
        with tempfile.TemporaryDirectory(dir=plan.folder) as folder:
            parts[name] = asyncio.run(overhead(Path(folder), config, count, plan.dice(name)))
    figures |= bare(plan.folder, "after")
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        folder = tempfile.mkdtemp(dir=MEMORY)
        parts["in memory"] = asyncio.run(overhead(Path(folder), REQUIRED, count, plan.dice("memory")))
        shutil.rmtree(folder)
    gate = {f"overhead {key}": value for key, value in parts["disk"].items()}
    more = {f"{name}: {key}": value for name, part in parts.items() if name != "disk" for key, value in part.items()}
    load = f"{os.getloadavg()[0]:.1f}, at niceness {os.getpriority(os.PRIO_PROCESS, 0)}"
    found: dict[str, Figure] = {**gate, **more, **figures, "calls": count, "load of the machine at the end": load}
    met = within(found, most={"overhead p50, ms": 2, "overhead p99, ms": 10, "overhead failed": 0})
    stretch = met and within(found, most={"overhead p50, ms": 1, "overhead p99, ms": 5})
    notes = (
        f"{LINES} agents, {RATE / 2:.0f} calls a second through Handrail and as many directly, at random instants",
    )
    return Outcome(figures=found, met=met, stretch=stretch, notes=notes)
