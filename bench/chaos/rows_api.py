"""Owns what a row of the scorecard is written in: what it is asked to do (Plan), and what came of it (Outcome).

A row is a file in `rows/`, named by its number (`r04.py`), with these names: `TITLE`, `GATE` and `STRETCH` (the
scorecard's words and figures), and `run(plan)`, which returns an Outcome.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

Figure: TypeAlias = int | float | str
Number: TypeAlias = int | float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a row."""

    figures: Mapping[str, Figure]
    """What was measured or counted, by name; the gate's own figures first."""
    met: bool
    stretch: bool = False
    notes: tuple[str, ...] = ()
    """What was not run, or is weaker than the row says."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a row has come."""

    done: int = 0
    figures: Mapping[str, Figure] = {}


class Plan:
    """What a row is asked to do, and how far it has come before."""

    def __init__(self, *, seed: int, full: bool, folder: Path, judge: bool = False) -> None:
        self.seed = seed
        self.full = full
        """Whether to run as much as the scorecard says; else a slice of a few seconds."""
        self.folder = folder
        """For work; a full run finds what it left there when it is started again."""
        self._judge = judge
        self._path = folder / "progress.json"
        self._progress = (
            msgspec.json.decode(self._path.read_bytes(), type=Progress) if self._path.exists() else Progress()
        )

    @property
    def done(self) -> int:
        """Return how much is done: what was noted last."""
        return self._progress.done

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Return the figures so far: what was noted last."""
        return self._progress.figures

    def wants(self, total: int) -> bool:
        """Say whether there is more to do until so much is done; a run that is only to be judged does nothing more."""
        return self.done < total and not self._judge

    def note(self, done: int, figures: Mapping[str, Figure]) -> None:
        """Write down how much is done, and the figures so far: from there a run goes on after it was stopped."""
        self._progress = Progress(done=done, figures=figures)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._progress))
        os.replace(fresh, self._path)

    def dice(self, part: object = "") -> random.Random:
        """Return chance that is the same for the same seed and part."""
        return random.Random(f"{self.seed} {part}")  # noqa: S311 - a schedule, not a secret


class Row(Protocol):
    """The names that a row's file has."""

    TITLE: str
    GATE: str
    STRETCH: str

    @staticmethod
    def run(plan: Plan) -> Outcome:
        """Do what the row says."""


def within(
    figures: Mapping[str, Figure],
    *,
    most: Mapping[str, Number] | None = None,
    least: Mapping[str, Number] | None = None,
) -> bool:
    """Say whether each figure named here was measured and is at most, or at least, as large: a missing one is not."""
    below = (_number(figures, name) <= bound for name, bound in (most or {}).items())
    above = (-_number(figures, name) <= -bound for name, bound in (least or {}).items())
    return all(below) and all(above)


def _number(figures: Mapping[str, Figure], name: str) -> Number:
    """Return a figure, or one that is within no bounds at all."""
    figure = figures.get(name)
    return figure if isinstance(figure, int | float) else float("nan")
