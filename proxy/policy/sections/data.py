"""Owns the section `data`: which personal data and secrets may pass in which direction, and what covers the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering, redaction
from proxy.policy.possible import HOW
from proxy.policy.rule import Lowered
from proxy.terms import How, Phase, Verdict

DIRECTIONS = {
    "in": Phase.REQUEST,
    "out": Phase.RESPONSE,
    "tool_args": Phase.TOOL_CALL,
    "tool_result": Phase.TOOL_RESULT,
}


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """One entry is about some kinds of data in one direction."""
    phase, how = DIRECTIONS[entry["direction"]], HOW.get(entry["action"])
    if "stream" in entry and phase is not Phase.RESPONSE:
        policy.wrong((*at, "stream"), "`stream` changes nothing here: it is for `direction: out`")
    elif entry.get("stream") == "window":
        phase = Phase.CHUNK
    if how and "message" in entry:
        policy.wrong((*at, "message"), "`message` changes nothing here: it is for `action: deny`")
    yield policy.lowered(
        entry,
        at,
        at,
        name=entry["id"],
        phase=phase,
        action=Verdict.REDACT if how else Verdict.DENY,
        when="true",
        hold=policy.holds(entry, phase),
        redaction=redaction(entry, how or How.MASK),
    )
