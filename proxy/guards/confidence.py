"""Owns the guard that says how far a turn can be trusted to go on without a human, from what the other guards said.

Each guard in WEIGHTS casts a doubt from 0 to 1: `topics` and `language` by what their score leaves to 1 (they say how
sure they are), the others by their score (they say what is wrong). Of several findings of one guard the greatest
weighted doubt counts, once. The score is the product of 1 - weight * doubt over the guards that spoke: 1 when none has
doubts, less with every doubt, never below 0. `high` begins at 0.75, `medium` at 0.45. A guard that is not in the table
says nothing about confidence (`pii`: what is personal is no mistake); where none that is in it spoke, nothing is found.
In: lines `name label score`. Out: at most one Finding. Never: a text of the conversation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

LOW, MEDIUM, HIGH = "low", "medium", "high"
LEVELS = ((0.75, HIGH), (0.45, MEDIUM), (0.0, LOW))
"""The least score of each level."""

SURENESS = frozenset({"topics", "language"})
"""Guards whose score says how sure they are, not how bad it is."""

WEIGHTS = {
    ("topics", ""): 0.6,
    ("language", ""): 0.3,
    ("injection", ""): 0.9,
    ("grounding", ""): 0.7,
    ("repeat", "loop"): 0.8,
    ("repeat", "duplicate"): 0.3,
    ("sentiment", "angry"): 0.6,
    ("sentiment", "negative"): 0.3,
    ("sentiment", "neutral"): 0.0,
    ("sentiment", "positive"): 0.0,
}
"""How much a guard's doubt can take away, by its name and label; without a label: whatever it says."""


def create(sources: Sequence[Source]) -> Confidence:
    """Return the guard; it learns from no file."""
    return Confidence()


class Confidence:
    """Put the signals of a phase together to one level."""

    name = "confidence"
    version = "1"
    labels = (LOW, MEDIUM, HIGH)
    context = Context.SIGNALS
    lookbehind = 0
    lookahead = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return the level of the signals, with the guard that takes most away as its reason."""
        doubts: dict[str, float] = {}
        for signal in context:
            name, label, said = signal.split()
            weight = WEIGHTS.get((name, label), WEIGHTS.get((name, "")))
            if weight is not None:
                doubt = weight * (1 - float(said) if name in SURENESS else float(said))
                doubts[name] = max(doubts.get(name, 0.0), doubt)
        if not doubts:
            return []
        score = math.prod(1 - doubt for doubt in doubts.values())
        label = next(level for least, level in LEVELS if score >= least)
        worst = max(doubts, key=lambda name: doubts[name])
        return [
            Finding(guard=self.name, label=label, score=score, end=len(text), reason=worst if doubts[worst] else "")
        ]
