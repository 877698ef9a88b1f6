"""Owns what one call adds to a total, and what becomes of a call that the total has no room for.

In: a rule with a Quota, what it said of a call; a Decision. Out: a Charge; the Decision without room.
Never: a total kept here: what was added before is known to the store alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from proxy.policy.quotas import CONVERSATION
from proxy.policy.rule import Quota, Rule
from proxy.policy.tally import SAFE
from proxy.terms import Charge, Decision, Facts, Limit, Mode, RuleHit, Verdict

WindowKey = Callable[[str, str, int], str]


def total(rule_id: str, name: str) -> str:
    """Return the name by which a total is known everywhere: `policy/name`."""
    return f"{rule_id.partition('/')[0]}/{name}"


def counter(name: str, key: str, window: str) -> tuple[str, str]:
    """Return what a total is counted under; keys may name customers, so only their digest is kept."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"total:{name}:{digest}", window


def told(name: str, session_id: str, window_key: WindowKey) -> tuple[str, str]:
    """Return the counter of what one conversation adds to a total."""
    return counter(name, session_id, window_key(CONVERSATION, "UTC", 0))


def charge(rule: Rule, quota: Quota, taken: tuple[int, str], facts: Facts, window_key: WindowKey) -> Charge:
    """Return what a call adds to a total; `taken` is the amount, and whose total it is."""
    nano, key = taken
    name = total(rule.id, quota.name)
    scope, window = counter(name, key, window_key(quota.window, quota.timezone, facts.at_ms))
    return Charge(
        total=name,
        amount_nano=nano,
        limit=Limit(
            rule=rule.id,
            scope=scope,
            window=window,
            cap_nanousd=quota.limit_nano,
            message=rule.message,
            on_deny=rule.on_deny,
        ),
        told=told(name, facts.session.id, window_key),
        action=rule.action,
        mode=rule.mode,
        severity=rule.severity,
        approval=rule.approval,
        returns=bool(quota.failed),
    )


def beside(decision: Decision, used: Mapping[str, int]) -> Decision:
    """Return the decision where so much was added to the totals before, for policy tests: the store is not asked."""
    for one in decision.charges:
        if used.get(one.total, 0) + one.amount_nano > one.limit.cap_nanousd:
            decision = refused(decision, one)
            if one.mode is Mode.ENFORCE:
                break
    return decision


def refused(decision: Decision, missed: Charge) -> Decision:
    """Return the decision on a call that a total has no room for."""
    message = missed.limit.message or SAFE[missed.action]
    hit = RuleHit(
        id=missed.limit.rule, action=missed.action, mode=missed.mode, severity=missed.severity, message=message
    )
    rules = (*decision.rules, hit)
    if missed.mode is Mode.SHADOW:
        shadow = max(decision.shadow_verdict, missed.action, key=lambda verdict: verdict.weight)
        return replace(decision, rules=rules, shadow_verdict=shadow)
    return replace(
        decision,
        verdict=missed.action,
        reason="quota",
        rules=rules,
        message=message,
        rule=hit.id,
        on_deny=missed.limit.on_deny,
        approval=missed.approval if missed.action is Verdict.REQUIRE_APPROVAL else None,
    )
