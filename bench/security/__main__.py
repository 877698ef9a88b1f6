"""Owns the run of the security scorecard's rows: what somebody would try, and what must not come of it.

Usage: python -m bench.security [--row S6 ...] [--slice short|full] [--seed 1] [--report]. Without --row all that are
built. Prints a line per figure with its target; `--report` writes bench/reports/security.md. Exits 1 if a figure is
not met; what was not run is never met, and says so.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import cast

from bench.chaos import report
from bench.chaos.rows_api import Plan
from bench.security.outcomes import Line, Row, page, passed, shown

SHELF = "bench.security"


def built(shelf: str = SHELF) -> list[str]:
    """Return the rows that have a file, in order."""
    modules = sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(shelf).__path__))
    return [f"S{int(name[1:])}" for name in modules if re.fullmatch(r"s\d\d", name)]


def run(name: str, plan: Plan, shelf: str = SHELF) -> list[Line]:
    """Run a row; one that fails is not met, and the others are run."""
    row = cast(Row, importlib.import_module(f"{shelf}.s{int(name[1:]):02}"))
    try:
        return row.run(plan)
    except Exception as error:  # noqa: BLE001 - the other rows are to be run as well
        traceback.print_exc()
        return [Line(row=name, what=row.TITLE, figure="failed", target="a figure", met=False, notes=(repr(error),))]


def main(arguments: list[str] | None = None) -> int:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.security", description="Try what must not be possible.")
    parser.add_argument("--row", action="append", choices=built(), help="which row, may be repeated; all without it")
    parser.add_argument("--slice", choices=("short", "full"), default="full", help="how much of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="write bench/reports/security.md")
    chosen = parser.parse_args(arguments)
    lines: list[Line] = []
    for name in chosen.row or built():
        with tempfile.TemporaryDirectory() as folder:
            plan = Plan(seed=chosen.seed, full=chosen.slice == "full", folder=Path(folder))
            lines += run(name, plan)
    print(shown(lines))
    if chosen.report:
        rows = "".join(f" --row {name}" for name in chosen.row or ())
        command = f"python -m bench.security{rows} --slice {chosen.slice} --seed {chosen.seed} --report"
        text = page(lines, command, report.commit(), chosen.seed)
        (report.ROOT / "bench" / "reports" / "security.md").write_text(text, encoding="utf-8")
    return 0 if passed(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
