"""Owns the hand-off packet: what a human needs who takes a conversation over, taken from the conversation itself.

In: facts and a decision. Out: a Handoff, the same for the same conversation. Never: a model's words about it, or I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
import re2

from proxy.terms import Decision, Escalation, Facts, Finding, Handoff, Request, ToolCall, Tried

Find: TypeAlias = Callable[[str], Sequence[Finding]]

SHORT, LONG = 200, 1000
"""Most characters of a text that is quoted in the summary, and of one that stands for itself."""
MOST_TRIED = 50
"""The newest tool calls are kept: a packet must not grow with the conversation."""
MOST_VALUES = 20
"""Identifiers of one kind, and facts about the customer."""
LONGEST_FAILURE = 4096
"""Characters of a result that is read for an error: what says that a call has failed is short."""
LOOKED_AT = 20_000
"""Characters in which identifiers are looked for: a long conversation must not hold up all others."""

FOUND = {"email": "email", "url": "link", "link": "link"}
"""What a finding with this label identifies. Other labels are personal, but lead a human nowhere."""
PATTERNS = {
    "email": re2.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "link": re2.compile(r"\bhttps?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]}]"),
    "order": re2.compile(r"\b[A-Z]{1,5}-\d{3,12}\b|#\d{3,12}\b"),
}
FIELDS = ("summary", "customer", "tried", "sentiment", "open_question", "identifiers")
"""What a complete packet has."""


def packet(
    *,
    id: str,  # noqa: A002 - the name of the field that it becomes
    facts: Facts,
    decision: Decision,
    exchange_id: str,
    find: Find,
) -> Handoff:
    """Return what a human gets; `find` names personal data in a text."""
    said = [message.text for message in facts.request.messages if message.role == "user" and message.text.strip()]
    tried = _tried(facts)
    filled = Handoff(
        id=id,
        session_id=facts.session.id,
        exchange_id=exchange_id,
        at_ms=facts.at_ms,
        agent=facts.caller.agent,
        tenant=facts.caller.tenant,
        queue=(decision.escalation or Escalation()).queue,
        rule=decision.rule,
        reason=_reason(decision),
        turn=facts.session.turn,
        summary=_summary(said, tried),
        customer=_customer(facts.request),
        tried=tuple(tried[-MOST_TRIED:]),
        sentiment=_sentiment(facts),
        open_question=_short(said[-1], LONG) if said else "",
        identifiers=_identifiers(looked_at(facts.request), find),
    )
    missing = tuple(name for name in FIELDS if not getattr(filled, name))
    return msgspec.structs.replace(filled, missing=missing, completeness=(len(FIELDS) - len(missing)) / len(FIELDS))


def _reason(decision: Decision) -> str:
    """Say why in the rule's own words, which are for the operator; the decision's are for the customer."""
    hits = (hit.message or hit.error for hit in decision.rules if hit.id == decision.rule)
    return next(hits, "") or decision.reason


# --- what was tried -------------------------------------------------------------------------------------------------


def _tried(facts: Facts) -> list[Tried]:
    """Pair each tool call with its result; the newest call of an id is meant, since agents use ids again."""
    calls: list[ToolCall] = []
    open_calls: dict[str, int] = {}
    results: dict[int, str] = {}
    for message in facts.request.messages:
        for call in message.tool_calls:
            open_calls[call.id or call.name] = len(calls)
            calls.append(call)
        if message.role in ("tool", "function"):
            place = open_calls.pop(message.tool_call_id or message.name, None)
            results |= {} if place is None else {place: message.text}
    tried = [_one_tried(call, results.get(place)) for place, call in enumerate(calls)]
    judged = facts.tool
    return [*tried, _one(judged, outcome="refused")] if judged else tried


def _one_tried(call: ToolCall, result: str | None) -> Tried:
    if result is None:
        return _one(call, outcome="unanswered")
    return _one(call, result=_short(result, LONG), outcome="failed" if _is_failure(result) else "ok")


def _one(call: ToolCall, *, result: str = "", outcome: str) -> Tried:
    return Tried(tool=call.name, arguments=_short(call.arguments, LONG), result=result, outcome=outcome)


def _is_failure(result: str) -> bool:
    if result.lstrip()[:5].lower() == "error":
        return True
    if len(result) > LONGEST_FAILURE:
        return False
    try:
        value = msgspec.json.decode(result)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(value.get("error"))


# --- what is known --------------------------------------------------------------------------------------------------


def _summary(said: Sequence[str], tried: Sequence[Tried]) -> str:
    answers = [item for item in tried if item.outcome == "ok"]
    parts = [
        f"The customer asked first: “{_short(said[0], SHORT)}”" if said else "",
        f"Last: “{_short(said[-1], SHORT)}”" if len(said) > 1 else "",
        f"Found out: {answers[-1].tool} answered “{_short(answers[-1].result, SHORT)}”" if answers else "",
        f"Done: {_done(tried)}." if tried else "",
    ]
    return " ".join(part for part in parts if part)


def _done(tried: Sequence[Tried]) -> str:
    """Count the calls by tool and outcome, in the order in which they first came."""
    counts: dict[tuple[str, str], int] = {}
    for item in tried:
        key = (item.tool, item.outcome)
        counts[key] = counts.get(key, 0) + 1
    named = [f"{tool} {outcome}{f' {count} times' * (count > 1)}" for (tool, outcome), count in counts.items()]
    rest = len(named) - MOST_VALUES
    return ", ".join(named[:MOST_VALUES]) + (f" and {rest} more" if rest > 0 else "")


def _customer(request: Request) -> Mapping[str, str]:
    named = {"user": request.user, **request.metadata}
    about = [(key, value) for key, value in named.items() if key.lower().startswith(("user", "customer")) and value]
    return {_short(key, SHORT): _short(value, LONG) for key, value in about[:MOST_VALUES]}


def _sentiment(facts: Facts) -> str:
    result = facts.guards.get("sentiment")
    if result is None or not result.ran or result.error:
        return ""
    return ", ".join(f"{finding.label} {finding.score:.2f}" for finding in result.findings) or "nothing found"


def _identifiers(said: Iterable[str], find: Find) -> dict[str, tuple[str, ...]]:
    """Collect what leads to the case, newest first."""
    found: dict[str, dict[str, None]] = {}
    for text in said:
        for kind, value in _named(text, find):
            found.setdefault(kind, {})[_short(value, LONG)] = None
    return {kind: tuple(values)[:MOST_VALUES] for kind, values in sorted(found.items())}


def looked_at(request: Request) -> Iterator[str]:
    """Yield what the customer and the tools said, newest first; the agent may have made things up."""
    left = LOOKED_AT
    for message in reversed(request.messages):
        if left <= 0:
            return
        if message.role in ("user", "tool", "function"):
            # A text that is cut loses its last word: half an order number is another order's.
            yield message.text if len(message.text) <= left else message.text[:left].rpartition(" ")[0]
            left -= len(message.text)


def _named(text: str, find: Find) -> Iterable[tuple[str, str]]:
    for finding in find(text):
        if finding.label in FOUND:
            yield FOUND[finding.label], text[finding.start : finding.end]
    for kind, pattern in PATTERNS.items():
        for value in pattern.findall(text):
            yield kind, value


def _short(text: str, most: int) -> str:
    # Of a long text only the beginning is read: a history has thousands of them.
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1].rstrip()}…"
