"""Owns row S7: changes of an audit log that are found, by `bench.audit_mutations`."""

from __future__ import annotations

from bench.audit_mutations import mutate
from bench.chaos.rows_api import Plan
from bench.security.outcomes import Line, count, enough

TITLE = "audit mutations detected"


def run(plan: Plan) -> list[Line]:
    """Change a log many times, and count what is found."""
    tried = 1000 if plan.full else 70
    found, missed = mutate(tried, plan.seed)
    return [
        enough("S7", "changes of an audit log found", found.total(), tried),
        count("S7", "changes missed, or an intact log doubted", missed),
    ]
