"""Owns the section `rules`: the one rule form as an author writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering, redaction
from proxy.policy.possible import HOW, VERDICTS, WITHHOLDING, unfit
from proxy.policy.rule import Lowered, OnError
from proxy.terms import Level, Obligation, OnDeny, Phase, Verdict

WINDOW = 200
"""Characters that a condition of phase chunk sees after the beginning of a step, where it does not say it."""


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """One entry is one rule."""
    phase, how = Phase(entry["phase"]), HOW.get(entry["action"])
    action = Verdict.REDACT if how else Verdict(entry["action"])
    key = policy.condition(entry, at, needed=not how)
    if action not in VERDICTS[phase]:
        possible = f"there a rule may {', '.join(VERDICTS[phase])}"
        policy.wrong((*at, "action"), f"`{entry['action']}` is not possible in phase {phase}: {possible}")
    for misfit, where in unfit(entry, phase, action):
        policy.wrong((*at, misfit) if misfit in entry else at, where)
    if how and ("kinds" in entry) == ("pattern" in entry):
        policy.wrong(at, "give `kinds` or `pattern`, one of them")
    if entry.get("onDeny") == OnDeny.EXPLAIN and phase is not Phase.TOOL_CALL:
        policy.wrong(
            (*at, "onDeny"), "`onDeny: explain` is for rules in phase tool_call: it tells the model of its call"
        )
    if entry.get("stream") == "window":
        policy.wrong(
            (*at, "stream"), "a rule of phase response judges whole replies: for a window write `phase: chunk`"
        )
    if "window" in entry and phase is Phase.CHUNK and not key:
        policy.wrong((*at, "window"), "`window` changes nothing here: it is for what `when` or `require` has to see")
    hold = entry.get("stream", "hold" if action in WITHHOLDING else "after") == "hold"
    if hold and action not in WITHHOLDING and policy.on_error(entry) is OnError.ALLOW:
        policy.wrong((*at, "stream"), "`stream: hold` changes nothing here: this rule never withholds a reply")
    yield policy.lowered(
        entry,
        at,
        (*at, key),
        name=entry["id"],
        phase=phase,
        action=action,
        when=entry.get(key, "true" if how else "false"),
        require=key == "require",
        tools=tuple(entry.get("tools", ())),
        hold=hold and policy.holds(entry, phase),
        ahead=entry.get("window", WINDOW) if phase is Phase.CHUNK and key else 0,
        annotations=entry.get("annotations", {}),
        labels=tuple(entry.get("labels", ())),
        rewrites=entry.get("rewrite", {}),
        obligations=_obligations(entry, action),
        level=Level(entry["level"]) if "level" in entry else None,
        redaction=redaction(entry, how) if how else None,
        **_target(policy, entry, at, action),
    )


def _obligations(entry: Mapping[str, Any], action: Verdict) -> tuple[Obligation, ...]:
    """Return what has to happen besides; in phase post that is the action itself."""
    if action in (Verdict.RECORD, Verdict.ALERT):
        return (Obligation(action),)
    return tuple(map(Obligation, entry.get("obligations", ())))


def _target(policy: Lowering, entry: Mapping[str, Any], at: Path, action: Verdict) -> dict[str, Any]:
    """Return where the verdict leads: to a model, to a human who takes over, or to one who approves."""
    match action:
        case Verdict.ROUTE if "to" in entry:
            return {"way": policy.way(entry, entry["id"])}
        case Verdict.ESCALATE:
            return {"escalation": policy.handoff(entry, at)}
        case Verdict.REQUIRE_APPROVAL:
            return {"approval": policy.approval(entry, at)["approval"]}
    return {}
