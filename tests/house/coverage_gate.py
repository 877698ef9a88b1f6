"""Owns the coverage gate: every branch of the pure rooms, nineteen of twenty in the whole tree.

In: coverage.py's JSON report. Out: one line, or every shortfall and exit status 1.
Never: a list of rooms of its own; a room is pure unless the import contracts call it a door.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.house.tree import doors, modules

TREE_PERCENT = 95

# Lines and branches named per module; `coverage html` shows all.
SHOWN = 8


def room_of(path: str) -> str:
    """Name the room a module belongs to: the folder or file directly below proxy/."""
    return path.removeprefix("proxy/").partition("/")[0].removesuffix(".py")


def pure_modules(paths: list[str], doors: set[str]) -> list[str]:
    """Keep the modules that may not touch the world."""
    return [path for path in paths if room_of(path) not in doors | {"__main__"}]


def lacks(file: dict[str, Any]) -> str:
    """Say what of a file was never run, in a few words; nothing if all of it was."""
    branches = [f"{start}->{end}" for start, end in file["missing_branches"]]
    never = [str(line) for line in file["missing_lines"]] + branches
    return ", ".join(never[:SHOWN]) + f", … {len(never)} in all" * (len(never) > SHOWN)


def shortfalls(report: dict[str, Any], pure: list[str]) -> list[str]:
    """List what keeps the gate shut."""
    files = report["files"]
    unseen = [f"{path}: no test imports it" for path in pure if path not in files]
    never_run = {path: lacks(files[path]) for path in pure if path in files}
    partial = [f"{path}: a pure room needs 100 %, never run: {what}" for path, what in never_run.items() if what]
    percent = report["totals"]["percent_covered"]
    tree = [f"the tree needs {TREE_PERCENT} %, has {percent:.1f} %"] if percent < TREE_PERCENT else []
    return unseen + partial + tree


def main(report_path: str) -> int:
    """Judge a report and say so; the result is the exit status."""
    report = json.loads(Path(report_path).read_text(encoding="utf-8"))
    pure = pure_modules(modules(), doors())
    found = shortfalls(report, pure)
    verdict = f"{len(pure)} pure modules at 100 %, the tree at {report['totals']['percent_covered']:.1f} %"
    sys.stdout.write("\n".join(found or [verdict]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
