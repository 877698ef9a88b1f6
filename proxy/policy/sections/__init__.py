"""Owns the shelf of sections: each file lowers what one section of a policy says into rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.rule import Lowered
from proxy.policy.sections import actions, data, escalation, grounding, maturity, routing, rules, spend, topics, voice

Section = Callable[[Lowering, Mapping[str, Any], Path], Iterator[Lowered]]

SECTIONS: Mapping[str, Section] = {
    "topics": topics.lower,
    "actions": actions.lower,
    "spend": spend.lower,
    "data": data.lower,
    "grounding": grounding.lower,
    "voice": voice.lower,
    "escalation": escalation.lower,
    "routing": routing.lower,
    "maturity": maturity.lower,
    "rules": rules.lower,
}
"""Name of a section -> what lowers it: the whole section where it is a mapping, else each of its entries."""
