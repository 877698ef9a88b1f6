"""Owns the guard that says whether an agent makes a tool call again, or goes round in circles.

A call is its name and its canonical arguments, so two spellings of one call are one. The call that is judged counts.
In: the call and the earlier ones of the conversation. Out: at most one Finding. Never: a guess at what a call does.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

DUPLICATE, LOOP = "duplicate", "loop"
READ_CALLS = 256
"""Of a longer history, so many of its newest calls are compared."""
LOOP_CALLS = 3
"""The same call so often is a loop."""
ROUND_CALLS = 4
"""Two calls in turn make a loop when they fill so many."""


def create(sources: Sequence[Source]) -> Repeat:
    """Return the guard; it learns from no file."""
    return Repeat()


class Repeat:
    """Say that a call was made before, or is part of a loop."""

    name = "repeat"
    version = "1"
    labels = (DUPLICATE, LOOP)
    context = Context.CALLS
    lookbehind = 0
    lookahead = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return `loop`, else `duplicate`, else nothing."""
        calls = [*context[-READ_CALLS:], text]
        times = calls.count(text)
        if times < 2:
            return []
        label = LOOP if times >= LOOP_CALLS or _alternates(calls[-ROUND_CALLS:]) else DUPLICATE
        reason = f"call {times} of its kind"
        return [Finding(guard=self.name, label=label, end=len(text), reason=reason)]


def _alternates(calls: Sequence[str]) -> bool:
    """Whether two calls take turns: A B A B."""
    return len(calls) == ROUND_CALLS and calls[:2] == calls[2:]
