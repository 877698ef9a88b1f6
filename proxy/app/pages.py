"""Owns the pages of the admin listener: what is enforced, and what is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.policy import Document, Lock, PolicySet, Rule
from proxy.ports import Guard
from proxy.server import routes
from proxy.snapshot import Snapshot
from proxy.telemetry import RuleCounts
from proxy.terms import Json, Phase

if TYPE_CHECKING:
    from proxy.stores.redis import SharedBudgets, SharedConversations

from proxy.app.instance import Running


def status(here: Running) -> dict[str, Json]:
    """Answer "is enforcement on?": what is loaded, and per rule how often it matched and failed."""
    policies, seen = here.house.snapshot.policies, here.telemetry.rules()
    page: dict[str, Json] = {
        "revision": here.house.snapshot.revision,
        "policy_digest": policies.digest,
        "stale": list[Json](here.stale),
        "documents": [_document_status(document, here.lock) for document in policies.documents],
        "rules": [_rule_status(rule, seen.get(rule.id)) for rule in policies.rules],
        "candidate": _candidate_status(here.house.snapshot),
        "targets": list[Json](sorted(here.house.snapshot.table.targets)),
        "records_pending": here.store.backlog,
        "records_dropped": here.store.unrecorded,
        "durability": _durability_status(here),
        "open_calls": len(here.house.open_holds),
        "audit": here.audit_log.status() if here.audit_log else None,
        "ledger": _ledger_status(here.shared),
        "conversations": _conversations_status(here.conversations),
        "tiers": {shipper.name: msgspec.to_builtins(shipper.standing) for shipper in here.shippers},
    }
    return page


def _candidate_status(snapshot: Snapshot) -> Json:
    """Say which candidate is asked, or why none is; null without one."""
    if snapshot.candidate_problems:
        return {"problems": list[Json](snapshot.candidate_problems)}
    if snapshot.candidate is None:
        return None
    policies = snapshot.candidate.policies
    names = [f"{document.name}@{document.version}" for document in policies.documents]
    return {"policy_digest": policies.digest, "documents": list[Json](names), "problems": []}


def _ledger_status(shared: SharedBudgets | None) -> Json:
    return {"away": shared.trouble, "unheld": shared.unheld} if shared else None


def _conversations_status(shared: SharedConversations | None) -> Json:
    return {"away": shared.trouble, "pending": shared.backlog} if shared else None


def _durability_status(here: Running) -> Json:
    """Say what is in force since the start, and what has forced it."""
    forced = here.audit_log and here.audit_log.required
    return {"state": here.store.durability, "forced_by": "audit.required" if forced else None}


def _document_status(document: Document, lock: Lock) -> Json:
    told: dict[str, Json] = msgspec.to_builtins(document)
    return {**told, "locked": lock.state(document)}


def _rule_status(rule: Rule, seen: RuleCounts | None) -> Json:
    return {
        "id": rule.id,
        "phase": rule.phase.value,
        "action": rule.action.value,
        "mode": rule.mode.value,
        "digest": rule.digest,
        "matched": seen["matched"] if seen else 0,
        "errors": seen["errors"] if seen else 0,
        "shadow": seen["shadow"] if seen else 0,
        "last_matched_ms": seen["last_matched_ms"] if seen else None,
    }


_REPLY_SIDE = {Phase.CHUNK: "window", Phase.TOOL_CALL: "hold", Phase.POST: "after"}
"""How much of a reply waits for a phase's rules; those of other phases are asked before there is one."""


def coverage(snapshot: Snapshot) -> dict[str, Json]:
    """Answer "what is looked at?": by endpoint, by guard and where rules read it, and by rule, streamed or not."""
    policies = snapshot.policies
    return {
        "endpoints": list[Json](routes.coverage()),
        "guards": [_guard_coverage(guard, policies) for _, guard in sorted(snapshot.guards.items())],
        "rules": [_rule_coverage(rule) for rule in policies.rules],
    }


def _guard_coverage(guard: Guard, policies: PolicySet) -> Json:
    return {
        "name": guard.name,
        "quality": getattr(guard, "quality", "unmeasured"),
        "read_in": [phase.value for phase in Phase if guard.name in policies.guards_needed(phase)],
    }


def _rule_coverage(rule: Rule) -> Json:
    waits = (
        ("hold" if rule.hold else "after") if rule.phase is Phase.RESPONSE else _REPLY_SIDE.get(rule.phase, "before")
    )
    # A reply that is not streamed is a stream of one event, so every rule is asked alike.
    return {
        "id": rule.id,
        "phase": rule.phase.value,
        "mode": rule.mode.value,
        "streamed": waits,
        "unstreamed": waits,
    }
