"""Owns row R14: a disk that is full again and again under a Handrail without whose audit log nothing may be sent.

Agents call without a pause through a `handrail serve` whose records and audit log (`required`) are on a file system of
a few megabytes, in memory. It is filled to the last byte, stays full for a while, and gets room again; now and then the
process is killed while it is full. What the provider got is counted by the provider. At the end each line of its bill
must have a record and an entry of the audit log from before it was sent, the entry bound to the very bytes that the
provider got; `handrail audit verify` must find nothing, and Handrail must have come back by itself every time.

Mounting needs root: without it the row is not run, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import hmac
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench.chaos.durable import READY_S, REQUIRED, Line, Server
from bench.chaos.provider import Charge, FakeProvider
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from proxy.journal import lines, salt_of
from proxy.stores.sqlite import Reader

TITLE = "disk full, audit required: unlogged allowed calls"
GATE = "0"
STRETCH = "0"

FULL, SHORT = 40, 2
"""Times that the disk is full."""
SIZES = (64, 24)
"""Megabytes: with room for SQLite's log at its full length, and without."""
ROUND = 5
"""After so many a new file system is taken: records alone would fill it."""
AGENTS = 6
PAUSE_S = 0.05
"""Between two calls of an agent."""
PIECE = 1 << 16
KILLED = 0.25
"""Share of the times in which the process is killed while the disk is full."""


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system of this size."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path, write: Callable[[int, bytes], int] = os.write) -> None:
    """Take all the room there is."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    piece = PIECE
    while piece:
        try:
            write(file, bytes(piece))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            piece //= 2
    os.close(file)


class Agents:
    """Agents that call one after another, and count the answers."""

    def __init__(self, port: int, name: str) -> None:
        self.answers: Counter[int] = Counter()
        self._port = port
        self._name = name

    async def run(self) -> None:
        """Call for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(AGENTS):
                group.create_task(self._agent(number))

    async def _agent(self, number: int) -> None:
        line = Line(self._port)
        count = 0
        while True:
            count += 1
            status, _ = await line.ask(f"{self._name} {number} {count}")
            self.answers[status] += 1
            await asyncio.sleep(PAUSE_S)


async def until(status: int, server: Server) -> float:
    """Wait until /readyz says this; return how many seconds that took."""
    began = time.perf_counter()
    async with asyncio.timeout(READY_S):
        while await asyncio.to_thread(server.ready) != status:  # noqa: ASYNC110 - asked over HTTP  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def fillings(disk: Path, provider: FakeProvider, times: int, dice: random.Random) -> dict[str, Figure]:
    """Fill the disk so many times; return what was seen."""
    server = Server(disk, provider.url, REQUIRED)
    try:
        await server.start()
        return await _fillings(disk, server, provider, times, dice)
    finally:
        await server.end()


async def _fillings(
    disk: Path, server: Server, provider: FakeProvider, times: int, dice: random.Random
) -> dict[str, Figure]:
    back_s, killed, sent_while_full = [], 0, 0
    agents = Agents(server.port, disk.name)
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(agents.run())
        for _ in range(times):
            await asyncio.sleep(dice.uniform(0.2, 1.0))
            await asyncio.to_thread(fill, disk / "filler")
            await until(503, server)
            before = len(provider.charges())
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            sent_while_full += len(provider.charges()) - before
            dead = dice.random() < KILLED
            if dead:
                killed += 1
                await server.end(signal.SIGKILL)
            os.unlink(disk / "filler")
            back_s.append(await server.start() if dead else await until(200, server))
        calling.cancel()
    return {
        "times full": times,
        "killed while full": killed,
        "sent while /readyz said no": sent_while_full,
        "refused calls": agents.answers[503],
        "answers other than 200, 503 and none": sum(agents.answers.values())
        - sum(agents.answers[status] for status in (200, 503, 0)),
        "slowest to come back, s": round(max(back_s), 2),
    }


def unlogged(disk: Path, bill: list[Charge]) -> dict[str, Figure]:
    """Compare the bill with the audit log and the records."""
    folder = disk / ".handrail" / "audit"
    entries = [msgspec.json.decode(line) for _, line in lines(folder)]
    logged = {
        (entry["id"], entry["sealed"]["sent"]): number
        for number, entry in enumerate(entries)
        if entry["kind"] == "dispatched"
    }
    with Reader(str(disk / ".handrail" / "handrail.sqlite")) as reader:
        records = {record.sent_digest: record for record in reader.between(0, 1 << 62)}
        flying = len(reader.in_flight())
    sealed = {name: (number, seal) for (name, seal), number in logged.items()}
    bound = 0
    for charge in bill:
        record = records.get(charge.digest)
        number, seal = sealed.get(record.id, (-1, "")) if record else (-1, "")
        bound += number >= 0 and seal == _seal(folder, number, charge.digest)
    finished = {entry["id"] for entry in entries if entry["kind"] == "call"}
    return {
        "unlogged allowed calls": len(bill) - bound,
        "without a record": sum(charge.digest not in records for charge in bill),
        "without a logged end": sum(records[c.digest].id not in finished for c in bill if c.digest in records),
        "calls the provider got": len(bill),
        "calls still open": flying,
    }


def _seal(folder: Path, number: int, digest: str) -> str:
    return hmac.digest(salt_of(folder, number), b"sent\0" + digest.encode(), hashlib.sha256).hex()


def verified(disk: Path) -> int:
    """Return what `handrail audit verify` ends with."""
    command = [sys.executable, "-m", "proxy", "audit", "verify", "--config", str(disk / "handrail.yaml")]
    return subprocess.run(command, capture_output=True, check=False).returncode


def run(plan: Plan, user: int | None = None) -> Outcome:
    """Fill disks, and compare; only root (`user` 0) can."""
    if (os.geteuid() if user is None else user) != 0:
        return Outcome(figures={}, met=False, notes=("not run: mounting a small file system needs root",))
    times = FULL if plan.full else SHORT
    total: dict[str, Figure] = dict(plan.figures)
    for number in range(plan.done, max(len(SIZES), times // ROUND)):
        disk, place = plan.folder / f"disk{number}", plan.folder / f"provider{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        with mounted(disk, SIZES[number % len(SIZES)]), FakeProvider(place) as provider:
            part = asyncio.run(fillings(disk, provider, min(ROUND, times // len(SIZES)), plan.dice(number)))
            part = {**unlogged(disk, provider.charges()), **part, "verify found something": verified(disk)}
        total = {name: _sum(name, total.get(name, 0), figure) for name, figure in part.items()}
        plan.note(number + 1, total)
    zero = ("unlogged allowed calls", "without a record", "calls still open", "verify found something")
    met = within(total, most=dict.fromkeys(zero, 0), least={"times full": 2, "refused calls": 1})
    return Outcome(figures=total, met=met, stretch=met, notes=(f"file systems of {SIZES} MB in memory",))


def _sum(name: str, so_far: Figure, figure: Figure) -> Figure:
    worst = name.startswith("slowest")
    return max(float(so_far), float(figure)) if worst else int(so_far) + int(figure)
