"""Owns what a security row is written in: lines, each with a figure, its target and whether it is met, and their page.

A row is a file of this folder, named by its number (`s06.py`), with `TITLE` and `run(plan)`, which returns its lines.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from bench.chaos import report
from bench.chaos.rows_api import Plan


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a row counts."""

    row: str
    what: str
    figure: str = ""
    target: str
    met: bool | None = None
    """None: it was not run, and so it is not met."""
    notes: tuple[str, ...] = ()
    """What was found, or what was not looked at."""

    @property
    def verdict(self) -> str:
        """Say how it ended."""
        return {None: "not run", True: "met", False: "NOT met"}[self.met]


class Row(Protocol):
    """The names that a row's file has."""

    TITLE: str

    @staticmethod
    def run(plan: Plan) -> list[Line]:
        """Do what the row says."""


def count(row: str, what: str, found: list[str], notes: tuple[str, ...] = ()) -> Line:
    """Return the line of a thing that must not be found at all; what was found is told."""
    return Line(row=row, what=what, figure=str(len(found)), target="0", met=not found, notes=(*found[:20], *notes))


def enough(row: str, what: str, number: int, least: int, notes: tuple[str, ...] = ()) -> Line:
    """Return the line of a thing of which there have to be so many."""
    return Line(row=row, what=what, figure=f"{number:,}", target=f">= {least:,}", met=number >= least, notes=notes)


def passed(lines: list[Line]) -> bool:
    """Say whether all that ran is met, and something ran."""
    ran = [line.met for line in lines if line.met is not None]
    return bool(ran) and all(ran)


def shown(lines: list[Line]) -> str:
    """Return the lines as people read them in a terminal."""
    rows = [(line.row, line.what, line.figure, line.target, line.verdict) for line in lines]
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    told = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(
        "\n".join([text, *(f"      {note}" for note in line.notes)]) for text, line in zip(told, lines, strict=True)
    )


def page(lines: list[Line], command: str, commit: str, seed: int) -> str:
    """Return the lines as a page of the repository."""
    facts = {"command": f"`{command}`", "seed": seed, "commit": commit, "machine": report.machine()}
    parts = [
        "# Security rows",
        "\n".join(["| run | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]),
        "\n".join(
            ["| row | what | figure | target | verdict |", "|---|---|---|---|---|"]
            + [f"| {line.row} | {line.what} | {line.figure} | {line.target} | {line.verdict} |" for line in lines]
        ),
        "\n".join(f"- {line.row}, {line.what}: {note}" for line in lines for note in line.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
