"""Owns row R3: reservations that are still held after the lease of a process that was killed."""

from __future__ import annotations

import asyncio

from bench.chaos.evidence import Evidence
from bench.chaos.kills import Run
from bench.chaos.rows_api import Outcome, Plan, within

TITLE = "reservations still held after lease"
GATE = "0"
STRETCH = "0"
ROUNDS = 20
KILLS = 10
"""Of each round, after which every lease is over once."""


def run(plan: Plan) -> Outcome:
    """Kill in rounds, and count what is held after each."""
    rounds, kills = (ROUNDS, KILLS) if plan.full else (1, 4)
    while plan.wants(rounds):
        work = Run(plan)
        asyncio.run(work.kill(kills))
        more = {
            "held after the lease": work.left + work.judge(work.evidence()).count("I6"),
            "kills": kills,
            "calls refused by a limit": work.refused,
            "processes that ended by themselves": work.died,
        }
        plan.note(plan.done + 1, {name: count + int(plan.figures.get(name, 0)) for name, count in more.items()})
    figures = {**plan.figures, "holds that killed processes left": abandoned(Run(plan).evidence())}
    met = within(
        figures,
        most={"held after the lease": 0, "processes that ended by themselves": 0},
        least={"holds that killed processes left": 1},
    )
    return Outcome(figures=figures, met=met, stretch=met and plan.full)


def abandoned(evidence: Evidence) -> int:
    """Count the holds whose process died before it could end them: without one the row would prove nothing."""
    attempts = (attempt for books in evidence.books for record in books.records for attempt in record.attempts)
    return sum(attempt.state == "recovered" and attempt.held_nanousd > 0 for attempt in attempts)
