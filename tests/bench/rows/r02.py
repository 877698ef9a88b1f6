"""Owns a row that is met where it goes on from where it was."""

from bench.chaos.rows_api import Outcome, Plan, within

TITLE = "kills that lose something"
GATE = "0 in 4"
STRETCH = "0 in 8"


def run(plan: Plan) -> Outcome:
    """Do two more, and fail in the middle of a full run."""
    if plan.wants(4):
        plan.note(plan.done + 2, {"lost": 0, "kills": plan.done + 2})
        if plan.full and plan.done < 4:
            raise OSError("stopped")
    return Outcome(figures=plan.figures, met=within(plan.figures, most={"lost": 0}), notes=("without Redis",))
