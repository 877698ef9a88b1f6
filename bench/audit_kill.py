"""Owns the proof by force that a killed process leaves an audit log that goes on, with every entry somebody waited for.

Usage: python bench/audit_kill.py [--kills 40] [--seed 1]. One process after the other writes a log that is required:
for each entry it notes the name in a bill once `ensure` has returned. Each is sent SIGKILL after some milliseconds, and
every other time half a line is put at the log's end, as a write that was cut short leaves it. At the end the log is
examined with its anchor. Exits 1 when it is not as it was signed, when an entry of the bill is missing or there twice,
or when a killed process or half a line is not told of.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from proxy import audit, journal

AT_ONCE = 16
SEED = bytes(range(32))
ROOT = Path(__file__).parents[1]
TORN = b'{"at_ms":1767225600000,"id":"ex_'


def settings(folder: Path) -> journal.LogSettings:
    """Say where the log is; small files, so that processes die between them too."""
    return journal.LogSettings(folder=folder / "log", seed=SEED, anchor=folder / "anchor", segment_bytes=50_000)


async def write(folder: Path) -> None:
    """Write entries until killed."""
    bill = os.open(folder / "bill", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with journal.open(settings(folder), required=True, at_ms=0) as log:

        async def pump() -> None:
            while True:
                name = f"ex_{os.urandom(8).hex()}"
                await log.ensure(audit.event("call", 0, {"id": name}))
                os.write(bill, f"{name}\n".encode())

        print("up", flush=True)
        await asyncio.gather(*(pump() for _ in range(AT_ONCE)))


def kill_one(folder: Path, after_s: float) -> None:
    """Start a process that writes, and kill it."""
    command = [sys.executable, __file__, "--write", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        if writer.stdout:
            writer.stdout.readline()
        time.sleep(after_s)
        writer.send_signal(signal.SIGKILL)


def tear(folder: Path) -> None:
    """Put half a line at the end of the log."""
    newest = sorted((folder / "log").glob("entries-*"))[-1]
    with newest.open("ab") as file:
        file.write(TORN)


async def _close(folder: Path) -> None:
    async with journal.open(settings(folder), required=True, at_ms=0):
        pass


def check(folder: Path, kills: int, torn: int) -> tuple[str, list[str]]:
    """Return what there is, and what is not as it should be."""
    lines = list(journal.lines(folder / "log"))
    report = audit.examine(
        lines,
        journal.text(folder / "log" / journal.CHECKPOINTS),
        journal.key_of(folder / "log"),
        anchored=journal.text(folder / "anchor"),
    )
    entries = [json.loads(line) for _, line in lines]
    written = Counter(entry["id"] for entry in entries if entry["kind"] == "call")
    bill = (folder / "bill").read_text().split()
    recovered = [entry for entry in entries if entry["kind"] == "recovered"]
    problems = list(report.problems)
    problems += [f"{name} was waited for and is there {written[name]} times" for name in bill if written[name] != 1]
    if len(recovered) != kills:
        problems.append(f"{kills} processes were killed, and {len(recovered)} are told of")
    if sum(entry["cut_bytes"] > 0 for entry in recovered) < torn:
        problems.append(f"{torn} half lines were left, and not all of them are told of")
    told = f"{kills} kills, {torn} half lines: {len(bill)} entries were waited for, {report.entries} are in the log"
    return told, problems


def run(kills: int, seed: int) -> tuple[str, list[str]]:
    """Kill, and check."""
    dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(kills):
            kill_one(folder, dice.uniform(0.005, 0.15))
            if number % 2:
                tear(folder)
        asyncio.run(_close(folder))
        return check(folder, kills, kills // 2)


def main() -> int:
    """Kill, and say what was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.write:
        asyncio.run(write(chosen.write))
    told, problems = run(chosen.kills, chosen.seed)
    print("\n".join([told, *problems[:20]]))
    print("every entry that was waited for is there once" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
