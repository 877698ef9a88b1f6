"""Owns the section `topics`: what may be talked about, by what the guard of that name says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.rule import Lowered
from proxy.terms import Escalation, Phase, Verdict


def _literal(value: object) -> str:
    """Write a text, a number or a list of texts as CEL."""
    return json.dumps(value, ensure_ascii=False)


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """It is one bound on topics, not a list of entries."""
    allow, deny, score = entry.get("allow", []), entry.get("deny", []), float(entry["minScore"])
    if not allow and not deny:
        policy.wrong(at, "`topics` names no topic: give `allow`, `deny` or both")
    for label in sorted({*allow} & {*deny}):
        policy.wrong(at, f"the topic `{label}` is both allowed and denied")
    sure = f"guards.topics.score >= {score!r}"
    conditions = {
        "topics-denied": f"{sure} && guards.topics.label in {_literal(deny)}" if deny else "",
        "topics-outside": f"{sure} && !(guards.topics.label in {_literal(allow)})" if allow else "",
        "topics-uncertain": f"guards.topics.score < {score!r}" if entry["uncertain"] != "allow" else "",
    }
    for name, when in conditions.items():
        escalates = name == "topics-uncertain" and entry["uncertain"] == "escalate"
        action, to = (Verdict.ESCALATE, Escalation()) if escalates else (Verdict.DENY, None)
        if when:
            yield policy.lowered(entry, at, at, name=name, phase=Phase.REQUEST, action=action, when=when, escalation=to)
