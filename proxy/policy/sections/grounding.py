"""Owns the section `grounding`: what replies claim has to stand somewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering, seconds
from proxy.policy.rule import Lowered
from proxy.terms import Phase, Verdict


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """It is one rule: some claim of the reply that no evidence supports."""
    action = Verdict(entry["action"])
    if action is Verdict.ANNOTATE and "message" in entry:
        policy.wrong((*at, "message"), "`message` changes nothing here: it is for `action: escalate` or `deny`")
    if action is not Verdict.ESCALATE and "to" in entry:
        policy.wrong((*at, "to"), "`to` changes nothing here: it is for `action: escalate`")
    yield policy.lowered(
        entry,
        at,
        at,
        name="grounding",
        phase=Phase.RESPONSE,
        action=action,
        when=f"ungrounded(response.text, {_evidence(entry)}){_counts(entry)}",
        hold=action is not Verdict.ANNOTATE and policy.holds(entry, Phase.RESPONSE),
        annotations={"grounding": "off"} if action is Verdict.ANNOTATE else {},
        escalation=policy.handoff(entry, at) if action is Verdict.ESCALATE else None,
    )


def _evidence(entry: Mapping[str, Any]) -> str:
    """Write what supports a claim: what users have said, what tools have told, and what is always true."""
    said = 'request.messages.filter(m, m.role == "user").map(m, m.text)'
    bounds = " && ".join(_bounds(entry.get("evidence", {})))
    results = "conversation.tool_results" + (f".filter(r, {bounds})" if bounds else "")
    facts = f" + {json.dumps(entry['facts'], ensure_ascii=False)}" if "facts" in entry else ""
    return f"{said} + {results}.map(r, r.text){facts}"


def _bounds(evidence: Mapping[str, Any]) -> Iterator[str]:
    if "tools" in evidence:
        tools = " || ".join(f"r.tool.glob({json.dumps(one)})" for one in evidence["tools"])
        yield f"({tools})"
    if evidence.get("verified") or "maxAge" in evidence:
        yield "r.verified"
    if "maxAge" in evidence:
        yield f"r.age_s <= {seconds(evidence['maxAge'])}.0"


def _counts(entry: Mapping[str, Any]) -> str:
    """Write which of the unsupported claims count."""
    tests = [f"f.kind in {json.dumps(entry['claims'])}"] if "claims" in entry else []
    tests += [f"f.score >= {float(entry['minScore'])!r}"] if "minScore" in entry else []
    return f".exists(f, {' && '.join(tests)})" if tests else " != []"
