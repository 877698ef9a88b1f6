"""Owns row R15: what journal, budget and audit add to a call whose record is on disk before it is sent.

Agents make calls at random instants, in turn through a Handrail with a spend limit, records under `durability: disk`
and `audit: {required: true}`, through one without any of them, and to the provider itself, which answers at once. All
three are up at once, so that what else the machine does is in each. Told are the differences of the distributions at
p50 and at p99: from the plain Handrail what the row is about, from the provider all of Handrail. The plain one still
keeps records and conversations, handed to the system in the same way, but waits for no disk. The same is done in
memory, where a sync costs nothing. Beside it what the disk takes for one fdatasync, just before and just after, the
CPU of both processes, and how busy the machine was.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.chaos.durable import BARE, REQUIRED, Line, Server, bare_ms, quantile
from bench.chaos.provider import FakeProvider
from bench.chaos.rows_api import Figure, Outcome, Plan, within

TITLE = "overhead p50/p99 of journal + budget + audit (`durability: disk`)"
GATE = "at most 2/10 ms"
STRETCH = "at most 1/5 ms"

FULL, SHORT = 4_000, 150
"""Calls in each of the three ways."""
LINES = 16
RATE = 90.0
"""Calls a second, a third of them in each way."""
PAUSE_S = 1 / RATE
WARM = 60
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own in there
SETUPS = (("all", REQUIRED), ("plain", BARE))
"""Two Handrails: their names and configs."""


async def calls(ports: Sequence[int], count: int, dice: random.Random) -> tuple[list[list[float]], int]:
    """Return how long calls took to each port, and how many failed."""
    took: list[list[float]] = [[] for _ in ports]
    numbers = iter(range(len(ports) * count))
    failed = 0

    async def agent() -> None:
        nonlocal failed
        lines = [Line(port) for port in ports]
        for number in numbers:
            await asyncio.sleep(dice.expovariate(RATE / LINES))
            way = number % len(ports)
            status, ms = await lines[way].ask(f"call {number}")
            failed += status != 200
            took[way].append(ms)
        for line in lines:
            line.close()

    await asyncio.gather(*(agent() for _ in range(LINES)))
    return took, failed


async def overhead(folder: Path, count: int, dice: random.Random) -> dict[str, Figure]:
    """Measure in a folder of its own."""
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(FakeProvider(folder))
        servers = []
        for name, config in SETUPS:
            (folder / name).mkdir()
            servers.append(Server(folder / name, provider.url, config))
            await servers[-1].start()
            stack.push_async_callback(servers[-1].end)
        ways = [*(server.port for server in servers), provider.port]
        await calls(ways, WARM, dice)
        before = [server.cpu_ms() for server in servers]
        (full, plain, direct), failed = await calls(ways, count, dice)
        cpu = [(server.cpu_ms() - was) / count for server, was in zip(servers, before, strict=True)]
    return {
        **differences("overhead", full, plain),
        "overhead, CPU a call, ms": round(cpu[0] - cpu[1], 2),
        **differences("all of Handrail", full, direct),
        "all of Handrail, CPU a call, ms": round(cpu[0], 2),
        **differences("Handrail without them", plain, direct),
        "failed": failed,
    }


def differences(name: str, more: Sequence[float], less: Sequence[float]) -> dict[str, Figure]:
    """Return by how much one distribution lies above another, at p50 and at p99."""
    return {
        f"{name}, {point}, ms": round(quantile(more, share) - quantile(less, share), 2)
        for point, share in (("p50", 0.5), ("p99", 0.99))
    }


def bare(folder: Path, when: str) -> dict[str, Figure]:
    """Return what the disk takes for a sync."""
    kinds = (("grown", True, 0.0), ("overwritten", False, 0.0), ("overwritten at the pace of calls", False, PAUSE_S))
    took = {name: bare_ms(folder, grow=grow, pause_s=pause_s) for name, grow, pause_s in kinds}
    return {
        f"one fdatasync {when}, {name}, p50/p99 ms": f"{quantile(ms, 0.5):.2f}/{quantile(ms, 0.99):.2f}"
        for name, ms in took.items()
    }


def run(plan: Plan) -> Outcome:
    """Measure on the disk of the work folder, then in memory."""
    count = FULL if plan.full else SHORT
    before = bare(plan.folder, "before")
    with tempfile.TemporaryDirectory(dir=plan.folder) as folder:
        found = asyncio.run(overhead(Path(folder), count, plan.dice("disk")))
    after = bare(plan.folder, "after")
    in_memory: dict[str, Figure] = {}
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        work = tempfile.mkdtemp(dir=MEMORY)
        in_memory = asyncio.run(overhead(Path(work), count, plan.dice("memory")))
        shutil.rmtree(work)
    found |= {f"in memory: {name}": value for name, value in in_memory.items()} | before | after
    found["calls"] = count
    found["load of the machine at the end"] = (
        f"{os.getloadavg()[0]:.1f}, at niceness {os.getpriority(os.PRIO_PROCESS, 0)}"
    )
    met = within(found, most={"overhead, p50, ms": 2, "overhead, p99, ms": 10, "failed": 0})
    stretch = met and within(found, most={"overhead, p50, ms": 1, "overhead, p99, ms": 5})
    notes = (
        f"{LINES} agents, {RATE / 3:.0f} calls a second in each of three ways, at random instants",
        "the verdict is on `overhead`: beyond a Handrail without journal on disk, spend limit and audit log, which"
        " still keeps records; `all of Handrail` is beyond the provider itself",
    )
    return Outcome(figures=found, met=met, stretch=stretch, notes=notes)
