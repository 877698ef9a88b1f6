"""Owns the proof, as near as one comes without pulling a plug, that a power cut takes no call that was sent.

Usage: python -m bench.power_loss [--calls 400] [--cuts 300] [--seed 1]. Needs a C compiler.

A Handrail (`durability: disk`, audit required) serves agents, with a library in front of its system calls
(`power_loss.c`) that records every write to its files, and when each sync began and had ended. Then power is cut in
thought, at instants by chance: a file is what its last finished sync had found, and of each later write every 512
bytes are there or not, by chance and in no order. On what is left each call that the provider had got by then is
looked for, in the records (which must be whole, too) and in the audit log. Exits 1 where one is missing.

With `--durability process` it shows what is lost then, and so that it would be seen.

It trusts the disk to have what it says it has, and the file system to keep a file's length and name with what was
synced. Cuts while Handrail starts or stops, and salts of the audit log, are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from bench.chaos.durable import CONFIG, REQUIRED, Line, Server
from bench.chaos.provider import Charge, FakeProvider

SECTOR = 512
AGENTS = 8
HEAD = struct.Struct("<B3xIIQQ")
PROCESS = CONFIG + "state: {durability: process}\naudit: {required: false}\n"
SOURCE = Path(__file__).with_suffix(".c")
STATE, LOG = "handrail.sqlite", "entries-"


class Event(msgspec.Struct, frozen=True):
    """What was asked of the disk: a write, a truncation, or that a sync began or ended."""

    op: str
    name: str
    at_ns: int
    offset: int
    data: bytes


def events(trace: Path) -> Iterator[Event]:
    """Read a record."""
    data, place = trace.read_bytes(), 0
    while place < len(data):
        op, path, length, at_ns, offset = HEAD.unpack_from(data, place)
        place += HEAD.size
        name, place = Path(data[place : place + path].decode()).name, place + path
        yield Event(chr(op), name, at_ns, offset, data[place : place + length])
        place += length


def applied(image: bytearray, event: Event, offset: int, data: bytes) -> None:
    """Do to a file's bytes what was asked."""
    if event.op == "t":
        del image[offset:]
    if len(image) < offset + len(data):
        image.extend(bytes(offset + len(data) - len(image)))
    image[offset : offset + len(data)] = data


class Disk:
    """What is on disk for certain, and what may be; events are played in order."""

    def __init__(self) -> None:
        self._sure: dict[str, bytearray] = {}
        self._maybe: dict[str, list[Event]] = {}
        self._begun: dict[str, list[int]] = {}

    def play(self, event: Event) -> None:
        """Take the next event. Of syncs that overlap the first covers least: it is taken to end first."""
        if event.op == "u":
            for known in (self._sure, self._maybe, self._begun):
                known.pop(event.name, None)
            return
        maybe = self._maybe.setdefault(event.name, [])
        begun = self._begun.setdefault(event.name, [])
        if event.op in "wt":
            maybe.append(event)
        elif event.op == "b":
            begun.append(len(maybe))
        elif begun:
            covered = begun.pop(0)
            image = self._sure.setdefault(event.name, bytearray())
            for one in maybe[:covered]:
                applied(image, one, one.offset, one.data)
            self._maybe[event.name] = maybe[covered:]
            self._begun[event.name] = [count - covered for count in begun]

    def cut(self, folder: Path, dice: random.Random) -> None:
        """Write the files as a power cut may leave them."""
        for name in self._maybe:
            image = bytearray(self._sure.get(name, b""))
            for one in self._maybe[name]:
                for start in range(0, max(len(one.data), 1), SECTOR):
                    if dice.random() < 0.5:
                        applied(image, one, one.offset + start, one.data[start : start + SECTOR])
            (folder / name).write_bytes(image)


def missing(folder: Path, charges: Sequence[Charge], *, log: bool) -> tuple[int, int, bool]:
    """Return how many of these calls have no record and how many no entry in the log, and if the records are whole."""
    try:
        with closing(sqlite3.connect(folder / STATE)) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            bodies = connection.execute("SELECT body FROM dispatched UNION ALL SELECT body FROM exchanges").fetchall()
    except sqlite3.DatabaseError:
        return len(charges), len(charges), False
    records = {tree["sent_digest"]: tree["id"] for tree in (msgspec.json.decode(body) for (body,) in bodies)}
    logged = set(entries(folder)) if log else set(records.values())
    found = [records.get(charge.digest) for charge in charges]
    return found.count(None), sum(name not in logged for name in found), whole


def entries(folder: Path) -> Iterator[str]:
    """Yield the ids of calls of which the log has a whole entry, up to the first that is none."""
    for path in sorted(folder.glob(f"{LOG}*")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                entry = msgspec.json.decode(line)
            except msgspec.DecodeError:
                return
            if entry["kind"] == "dispatched":
                yield entry["id"]


async def serve(folder: Path, provider: FakeProvider, config: str, calls: int) -> tuple[int, int]:
    """Serve calls; return from when until when, in nanoseconds of the clock."""
    server = Server(folder, provider.url, config)
    await server.start()
    began, numbers = time.time_ns(), iter(range(calls))

    async def agent() -> None:
        line = Line(server.port)
        for number in numbers:
            await line.ask(f"call {number}")
        line.close()

    try:
        await asyncio.gather(*(agent() for _ in range(AGENTS)))
        return began, time.time_ns()
    finally:
        await server.end()


def cuts(trace: Path, charges: Sequence[Charge], times: Sequence[int], work: Path, dice: random.Random) -> list[str]:
    """Cut power at these times; return what is missing."""
    disk, problems, left = Disk(), [], list(times)
    sent = sorted((charge.at_ms + 1) * 1_000_000 for charge in charges)
    in_order = sorted(charges, key=lambda charge: charge.at_ms)
    log = any(event.name.startswith(LOG) for event in events(trace))
    for event in events(trace):
        while left and left[0] < event.at_ns:
            at = left.pop(0)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            disk.cut(work, dice)
            records, logged, whole = missing(work, in_order[: bisect_right(sent, at)], log=log)
            if records or logged or not whole:
                what = "" if whole else "; the records are damaged"
                problems.append(f"cut at {at}: {records} sent calls not in the records, {logged} not in the log{what}")
        disk.play(event)
    return problems


def main() -> int:
    """Serve, cut, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--cuts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durability", choices=("disk", "process"), default="disk")
    chosen = parser.parse_args()
    dice = random.Random(chosen.seed)  # noqa: S311 - a schedule, not a secret
    with tempfile.TemporaryDirectory(prefix="power-") as name:
        folder = Path(name)
        (state := folder / "state").mkdir()
        library, trace = folder / "power.so", folder / "trace"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"], check=True
        )
        with FakeProvider(folder) as provider:
            os.environ |= {"LD_PRELOAD": str(library), "POWER_TRACE": str(trace), "POWER_FOLDER": str(state)}
            config = REQUIRED if chosen.durability == "disk" else PROCESS
            began, ended = asyncio.run(serve(state, provider, config, chosen.calls))
            del os.environ["LD_PRELOAD"]
            charges = provider.charges()
        times = sorted(dice.randrange(began, ended) for _ in range(chosen.cuts))
        problems = cuts(trace, charges, times, folder / "left", dice)
    for problem in problems[:5]:
        print(problem)
    print(
        f"{chosen.durability}: {len(charges)} calls sent, {chosen.cuts} power cuts: "
        f"{len(problems)} of them cost a call that was sent, or damaged the records"
    )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
