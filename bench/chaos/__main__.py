"""Owns the run of the reliability scorecard's rows: what is broken on purpose, and what must hold then.

Usage: python -m bench.chaos [--row R1 ...] [--slice short|full] [--seed 1] [--judge]. Without --row all of them. A
full run writes bench/reports/R1.md; one that was stopped goes on where it was when the same row, seed and commit
are asked for again, and with --judge what the newest one has done so far is judged, at its own commit. Prints a
line per row and a verdict at the end; exits 1 unless every row that was asked for is met.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import NamedTuple, cast

from msgspec.structs import replace

from bench.chaos import report
from bench.chaos.report import Ran
from bench.chaos.rows_api import Plan, Row

ROWS = tuple(f"R{number}" for number in range(1, 16))


class Places(NamedTuple):
    """Where things are."""

    shelf: str = "bench.chaos.rows"
    """The package with a module per row."""
    work: Path = report.ROOT / ".chaos"
    reports: Path = report.ROOT / "bench" / "reports"


class Asked(NamedTuple):
    """How rows are to be run."""

    seed: int
    full: bool
    judge: bool = False
    """Do no more, judge what a full run has left."""


def built(shelf: str) -> list[str]:
    """Return the rows that have a file, in order."""
    modules = sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(shelf).__path__))
    return [f"R{int(name[1:])}" for name in modules if re.fullmatch(r"r\d\d", name)]


def load(name: str, shelf: str) -> Row:
    """Return a row by its name."""
    return cast(Row, importlib.import_module(f"{shelf}.r{int(name[1:]):02}"))


def run(name: str, shelf: str, plan: Plan) -> Ran:
    """Run a row, whatever becomes of it."""
    ran = Ran(name=name)
    try:
        row = load(name, shelf)
        ran = Ran(name=name, title=row.TITLE, gate=row.GATE, stretch=row.STRETCH)
        return replace(ran, outcome=row.run(plan))
    except Exception as error:  # noqa: BLE001 - the other rows are to be run as well
        traceback.print_exc()
        return replace(ran, error=f"{type(error).__name__}: {error}")


def workplace(folder: Path, *, full: bool) -> Path:
    """Make the row's folder: what a full run left there is kept, a short one begins anew."""
    if not full:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stopped(run: str, work: Path) -> str | None:
    """Return the commit of the newest full run that has left something."""
    folders = sorted(work.glob(f"{run}*"), key=lambda folder: folder.stat().st_mtime)
    return folders[-1].name.removeprefix(run) if folders else None


def work(name: str, places: Places, asked: Asked) -> Ran:
    """Run one row and write its page; clear up where nothing is left to look at."""
    seed, full = asked.seed, asked.full
    if name not in built(places.shelf):
        return Ran(name=name)
    run_name = f"{name}-{'full' if full else 'short'}-{seed}-"
    commit = stopped(run_name, places.work) if asked.judge else report.commit()
    if commit is None:
        return Ran(name=name, error="there is no run to judge")
    folder = workplace(places.work / f"{run_name}{commit.replace(' ', '-')}", full=full)
    ran = run(name, places.shelf, Plan(seed=seed, full=full, folder=folder, judge=asked.judge))
    if full and ran.outcome:
        places.reports.mkdir(exist_ok=True)
        text = report.page(ran, ran.outcome, seed=seed, commit=commit)
        (places.reports / f"{name}.md").write_text(text, encoding="utf-8")
    if ran.met:
        shutil.rmtree(folder)
    else:
        print(f"{name}: what it left is in {folder}", file=sys.stderr)
    return ran


def main(arguments: list[str] | None = None, places: Places = Places()) -> int:  # noqa: B008 - a value, never changed
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Break things on purpose.")
    parser.add_argument("--row", action="append", choices=ROWS, help="which row, may be repeated; all without it")
    parser.add_argument("--slice", choices=("short", "full"), default="full", help="how much of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge", action="store_true", help="do no more, judge what a full run has done so far")
    chosen = parser.parse_args(arguments)
    asked = Asked(chosen.seed, full=chosen.slice == "full", judge=chosen.judge)
    # Ended from outside, a row still ends the processes that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows: list[Ran] = []
    for name in chosen.row or ROWS:
        rows.append(work(name, places, asked))
        print(report.line(rows[-1]), flush=True)
    print(report.closing(rows, seed=asked.seed, full=asked.full))
    return 0 if all(ran.met for ran in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
