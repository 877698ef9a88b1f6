"""Owns what an entry of the audit log says of an event.

In: records, and a salt that is the entry's own. Out: fields. Never: content, or what only content tells, such as the
name of a conversation: of that there is a keyed digest, which tells nothing once its salt is deleted.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from proxy.terms import Attempt, Decision, Exchange, Handoff, Held, Json

SALT_BYTES = 32
LONGEST = 256
"""Characters kept of a name that somebody outside has chosen."""

Fields: TypeAlias = dict[str, Json]
Writer: TypeAlias = Callable[[bytes], Fields]
"""Says what an entry holds, given its salt."""


def commitment(salt: bytes, content: bytes) -> str:
    """Return what binds to a content without telling it."""
    return hmac.digest(salt, content, hashlib.sha256).hex()


def dispatched(exchange: Exchange, salt: bytes) -> Fields:
    """Say that a call is about to leave; its newest attempt is the one."""
    attempt = exchange.attempts[-1]
    return {
        "kind": "dispatched",
        "id": exchange.id,
        "at_ms": attempt.started_ms,
        "agent": exchange.caller.agent,
        "principal": exchange.caller.principal,
        "attempt": attempt.number,
        "target": _target(attempt),
        "held_nanousd": attempt.held_nanousd,
        "policies": exchange.policy_digest,
        "decisions": [_decision(decision) for decision in exchange.decisions],
        "sealed": _sealed(salt, session=exchange.session.id, input=exchange.input_digest, sent=exchange.sent_digest),
    }


def finished(exchange: Exchange, salt: bytes) -> Fields:
    """Say how a call ended, and what was decided about it. `record` binds to the whole record, as it is stored."""
    caller = exchange.caller
    return {
        "kind": "call",
        "id": exchange.id,
        "at_ms": exchange.started_ms,
        "took_ms": round(exchange.total_ms),
        "agent": caller.agent,
        "level": caller.level.value,
        "tenant": caller.tenant,
        "principal": caller.principal,
        "endpoint": exchange.endpoint[:LONGEST],
        "asked": exchange.model_asked[:LONGEST],
        "served": exchange.model_served[:LONGEST],
        "state": exchange.state.value,
        "status": exchange.status,
        "error": exchange.error,
        "attempts": [_attempt(attempt) for attempt in exchange.attempts],
        "nanousd": exchange.cost.nanousd,
        "estimated": exchange.cost.estimated,
        "decisions": [_decision(decision) for decision in exchange.decisions],
        "not_run": [result.name for result in exchange.guards if not result.ran],
        "tools": [name[:LONGEST] for name in exchange.tool_calls],
        "simulated": exchange.simulated,
        "policies": exchange.policy_digest,
        "prices": exchange.prices_digest,
        "sealed": _sealed(
            salt,
            record=msgspec.json.encode(exchange),
            session=exchange.session.id,
            input=exchange.input_digest,
            sent=exchange.sent_digest,
        ),
    }


def asked(action: str, subject: str, by: str, note: str, at_ms: int) -> Writer:
    """Say that a human is about to decide something."""

    def write(salt: bytes) -> Fields:
        fields: Fields = {"kind": "asked", "action": action, "id": subject[:LONGEST], "by": by, "at_ms": at_ms}
        return {**fields, "sealed": _sealed(salt, note=note)}

    return write


def ruled(held: Held | None, subject: str, at_ms: int) -> Writer:
    """Say where an action stands that a human has ruled on; None: there is no such action."""
    fields: Fields = {
        "kind": "ruled",
        "id": subject[:LONGEST],
        "at_ms": at_ms,
        "state": held.state.value if held else "",
    }
    if held is None:
        return lambda _: fields
    named: Fields = {"tool": held.tool[:LONGEST], "rule": held.rule, "call": held.exchange_id, "by": held.decided_by}
    return lambda salt: {**fields, **named, "sealed": _sealed(salt, session=held.session_id, arguments=held.arguments)}


def closed(handoff: Handoff | None, subject: str, at_ms: int) -> Writer:
    """Say that a conversation was given back to its agent; None: there is no such hand-off."""
    fields: Fields = {"kind": "closed", "id": subject[:LONGEST], "at_ms": at_ms, "found": handoff is not None}
    if handoff is None:
        return lambda _: fields
    named: Fields = {"rule": handoff.rule, "call": handoff.exchange_id, "by": handoff.closed_by}
    return lambda salt: {**fields, **named, "sealed": _sealed(salt, session=handoff.session_id)}


def event(kind: str, at_ms: int, about: Mapping[str, Json]) -> Writer:
    """Say something of Handrail itself: that it started, took a configuration, lost entries, or is alive."""
    fields: Fields = {"kind": kind, "at_ms": at_ms, **about}
    return lambda _: fields


def _sealed(salt: bytes, **contents: str | bytes) -> Json:
    """Return commitments to what there is. The name of each is in it, so that equal contents do not show."""
    return {
        name: commitment(salt, name.encode() + b"\0" + (content if isinstance(content, bytes) else content.encode()))
        for name, content in contents.items()
        if content
    }


def opens(sealed: Mapping[str, Json], salt: bytes, name: str, content: bytes) -> bool:
    """Say whether a content is what an entry was bound to under this name."""
    return hmac.compare_digest(str(sealed.get(name, "")), commitment(salt, name.encode() + b"\0" + content))


def _target(attempt: Attempt) -> str:
    return f"{attempt.target.provider}/{attempt.target.model}"[:LONGEST]


def _attempt(attempt: Attempt) -> Json:
    return {
        "target": _target(attempt),
        "state": attempt.state.value,
        "error": attempt.error,
        "nanousd": attempt.cost.nanousd,
    }


def _decision(decision: Decision) -> Json:
    told: Fields = {
        "phase": decision.phase.value,
        "verdict": decision.verdict.value,
        "rules": [hit.id for hit in decision.rules],
    }
    more: Fields = {"subject": decision.subject[:LONGEST], "reason": decision.reason, "by": decision.rule}
    return {**told, **{name: value for name, value in more.items() if value}}
