"""Owns what is told of a row that was run: a line for whoever waits, a page for the repository."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.chaos.rows_api import Figure, Outcome

ROOT = Path(__file__).parents[2]


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A row, and what came of it; without an outcome it is not built, or it failed as `error` says."""

    name: str
    title: str = ""
    gate: str = ""
    stretch: str = ""
    outcome: Outcome | None = None
    error: str = ""

    @property
    def met(self) -> bool:
        """Say whether the gate is met: never without a figure."""
        return self.outcome is not None and self.outcome.met and bool(self.outcome.figures)

    @property
    def verdict(self) -> str:
        """Say in a word or two how it ended."""
        if self.outcome is None:
            return "failed" if self.error else "not built"
        if not self.met:
            return "NOT met"
        return "met, stretch too" if self.outcome.stretch else "met"


def line(ran: Ran) -> str:
    """Return the row's line."""
    outcome = ran.outcome
    told = ", ".join(f"{name} {shown(figure)}" for name, figure in outcome.figures.items()) if outcome else ran.error
    notes = "".join(f"\n      note: {note}" for note in outcome.notes) if outcome else ""
    return f"{ran.name:4}{ran.verdict:18}{told}{notes}".rstrip()


def closing(rows: list[Ran], *, seed: int, full: bool) -> str:
    """Return the verdict over all rows that were asked for."""
    met = sum(ran.met for ran in rows)
    others = [f"{ran.name} {ran.verdict}" for ran in rows if not ran.met]
    size = "at full size" if full else "on the short slice"
    return f"chaos, seed {seed}, {size}: {met} of {len(rows)} rows met" + "".join(f"; {other}" for other in others)


def page(ran: Ran, outcome: Outcome, *, seed: int, commit: str) -> str:
    """Return the page of a row that was run at full size."""
    facts: Mapping[str, Figure] = {
        "gate": ran.gate,
        "stretch": ran.stretch,
        "verdict": ran.verdict,
        "command": f"`make chaos ROW={ran.name} SEED={seed}`",
        "seed": seed,
        "commit": commit,
        "machine": machine(),
    }
    parts = [f"# {ran.name}: {ran.title}", _table("row", "", facts), _table("figure", "value", outcome.figures)]
    if outcome.notes:
        parts.append("\n".join(f"- {note}" for note in outcome.notes))
    return "\n\n".join(parts) + "\n"


def _table(left: str, right: str, rows: Mapping[str, Figure]) -> str:
    head = [f"| {left} | {right} |", "|---|---|"]
    return "\n".join(head + [f"| {name} | {shown(value)} |" for name, value in rows.items()])


def shown(figure: Figure) -> str:
    """Write a figure as people read it: thousands apart, no more digits than say something."""
    if isinstance(figure, float):
        return f"{figure:,.3g}" if abs(figure) < 100 else f"{figure:,.0f}"
    return f"{figure:,}" if isinstance(figure, int) else figure


def machine() -> str:
    """Say what this ran on."""
    return f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"


def commit() -> str:
    """Return the commit that is checked out, and whether the programs differ from it."""
    name = _git("rev-parse", "--short=12", "HEAD")
    return f"{name} with changes" if _git("status", "--porcelain", "--", "proxy", "bench/*.py", "rules") else name


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return ran.stdout.strip() or ("unknown" if ran.returncode else "")
