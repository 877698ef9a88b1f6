"""Owns row R1: usage records over random SIGKILLs of whole proxies under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from bench.chaos.checker import INVARIANTS
from bench.chaos.evidence import Evidence
from bench.chaos.kills import Run
from bench.chaos.rows_api import Figure, Outcome, Plan, within

TITLE = "usage records lost / duplicated over random SIGKILLs"
GATE = "0 / 0 in 1 000"
STRETCH = "0 / 0 in 10 000"
KILLS = 1_000
AT_ONCE = 100
"""Kills after which processes clean up, and progress is noted."""
SHORT = 6


def run(plan: Plan) -> Outcome:
    """Kill, in parts, then judge all that was left."""
    kills, part = (KILLS, AT_ONCE) if plan.full else (SHORT, SHORT)
    while plan.wants(kills):
        began_s, work = time.monotonic(), Run(plan)
        asyncio.run(work.kill(min(part, kills - plan.done)))
        plan.note(plan.done + part, added(plan.figures, work, time.monotonic() - began_s))
    return judged(plan, kills)


def added(figures: Mapping[str, Figure], work: Run, took_s: float) -> dict[str, Figure]:
    """Add what a part came to."""
    more: dict[str, int | float] = {
        "processes that ended by themselves": work.died,
        "counters over their cap for a moment": len(work.seen_over),
        "counters that held money after the lease": work.left,
        "replies whole": work.whole,
        "calls refused by a limit": work.refused,
        "seconds": took_s,
    }
    return {name: number + float(figures.get(name, 0)) for name, number in more.items()}


def judged(plan: Plan, kills: int) -> Outcome:
    """Judge what is left of all parts."""
    work = Run(plan)
    evidence = work.evidence()
    verdict = work.judge(evidence)
    noted = {name: int(figure) if isinstance(figure, float) else figure for name, figure in plan.figures.items()}
    figures: dict[str, Figure] = {
        **lost_and_doubled(evidence),
        "kills": min(plan.done, kills),
        **{f"{name} {text.partition(':')[0]}: contradictions": verdict.count(name) for name, text in INVARIANTS.items()
           if name not in verdict.unchecked},
        "calls billed": len(evidence.bill),
        "calls on record": len(evidence.books[0].records),
        "of them closed by recovery": sum(record.state == "recovered" for record in evidence.books[0].records),
        "bugs in the log": work.bugs(),
        **noted,
    }  # fmt: skip
    zero = [name for name in figures if "contradictions" in name]
    zero += ["lost", "duplicated", "bugs in the log", "processes that ended by themselves"]
    zero += ["counters over their cap for a moment", "counters that held money after the lease"]
    met = within(figures, most=dict.fromkeys(zero, 0), least={"kills": kills})
    return Outcome(
        figures=figures,
        met=met,
        stretch=met and plan.done >= 10_000,
        notes=(
            f"no evidence here for {', '.join(verdict.unchecked)}"
            if verdict.unchecked
            else "all invariants were checked",
            "processes are forked from one that has loaded Handrail, and killed at any moment from then on",
        ),
    )


def lost_and_doubled(evidence: Evidence) -> dict[str, Figure]:
    """Count billed calls without a record, and records of a call beyond its first."""
    digests = [record.sent_digest for books in evidence.books for record in books.records if record.sent_digest]
    return {
        "lost": len({charge.digest for charge in evidence.bill} - set(digests)),
        "duplicated": len(digests) - len(set(digests)),
    }
