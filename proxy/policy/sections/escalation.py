"""Owns the section `escalation`: when a conversation goes to a human, and how its agent learns of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.rule import Lowered
from proxy.terms import Phase, Verdict


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """One entry hands over to one queue."""
    phase = Phase(entry.get("phase", Phase.REQUEST))
    yield policy.lowered(
        entry,
        at,
        (*at, "when"),
        name=entry["id"],
        phase=phase,
        action=Verdict.ESCALATE,
        when=entry["when"],
        hold=policy.holds(entry, phase),
        escalation=policy.handoff(entry, at),
    )
