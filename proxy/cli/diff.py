"""Owns `handrail diff`: what a candidate would have decided otherwise while others were in force, rule by rule."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from proxy import recording
from proxy.cli import records
from proxy.cli.paint import paint, rows
from proxy.cli.replay import span
from proxy.terms import Decision, Exchange, Phase, Verdict

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXAMPLES = 3
"""Calls that are named for each row."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a candidate differs: which rule decides instead of which, and how often."""

    phase: Phase
    was: Verdict
    would: Verdict
    rule: str
    """The candidate's, empty where none of its rules decides."""
    instead_of: str
    count: int
    examples: tuple[str, ...]


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking one candidate."""

    digest: str
    calls: int
    different: int
    """Calls with at least one difference."""
    rows: tuple[Row, ...]


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "diff",
        help="say what the candidate would have decided otherwise",
        description="Report what the newest candidate (`candidate: {policies: [...]}` in the configuration) would have "
        "decided otherwise. Exit 0 if nothing, 1 if something, 2 if no candidate was asked.",
    )
    parser.add_argument("--since", type=span, default=0, metavar="24h", help="only calls of the last s, m, h or d")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    records.where(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print the report."""
    now_ms = time.time_ns() // 1_000_000
    from_ms = now_ms - chosen.since if chosen.since else 0
    with records.opened(chosen) as reader:
        asked = [exchange for exchange in reader.between(from_ms, now_ms + 1) if exchange.candidate_digest]
    if not asked:
        print("no candidate was asked; `candidate: {policies: [...]}` in the configuration names one", file=sys.stderr)
        return 2
    found = differences(asked)
    print(json.dumps(msgspec.to_builtins(found)) if chosen.json else _words(found))
    return 1 if found.rows else 0


def differences(asked: Iterable[Exchange]) -> Differences:
    """Count what the newest candidate would have decided otherwise; the most frequent comes first."""
    calls = list(asked)
    digest = calls[-1].candidate_digest
    calls = [exchange for exchange in calls if exchange.candidate_digest == digest]
    found: dict[tuple[Phase, Verdict, Verdict, str, str], list[str]] = {}
    for exchange in calls:
        for before, after in recording.changes(exchange):
            found.setdefault(_kind(before, after), []).append(exchange.id)
    ordered = sorted(found.items(), key=lambda entry: -len(entry[1]))
    return Differences(
        digest=digest,
        calls=len(calls),
        different=sum(bool(exchange.candidate) for exchange in calls),
        rows=tuple(_row(kind, ids) for kind, ids in ordered),
    )


def _kind(before: Decision, after: Decision) -> tuple[Phase, Verdict, Verdict, str, str]:
    return after.phase, before.verdict, after.verdict, after.rule, before.rule


def _row(kind: tuple[Phase, Verdict, Verdict, str, str], ids: list[str]) -> Row:
    phase, was, would, rule, instead_of = kind
    examples = tuple(dict.fromkeys(ids))[-EXAMPLES:]
    return Row(phase=phase, was=was, would=would, rule=rule, instead_of=instead_of, count=len(ids), examples=examples)


def _words(found: Differences) -> str:
    lines = [
        f"candidate {found.digest[:12]}: asked about {found.calls} calls, {found.different} would be decided otherwise"
    ]
    for row in found.rows:
        change = f"{row.was} → {paint(row.would, 'yellow')}" if row.was is not row.would else str(row.was)
        times = f"{row.count} time{'s' * (row.count != 1)}"
        lines.append(f"{paint(times, 'bold')}  {row.phase}: {change}")
        told = {"by": row.rule or "no rule", "was by": row.instead_of or "no rule", "such as": " ".join(row.examples)}
        lines.append(rows(told.items()))
    return "\n".join(lines)
