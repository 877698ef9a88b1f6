"""Owns how an action bounds calls together, by rate, by totals, by sameness, and what one call may add.

In: an entry of `actions`; the value of an expression. Out: Quotas; billionths, rounded up. Never: money's own limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from msgspec.structs import replace

from proxy import cel
from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.rule import NANO, Quota, nanousd

CONVERSATION = "conversation"
KEYS: Mapping[str, str] = {
    CONVERSATION: "conversation.id",
    "agent": "agent.id",
    "user": "caller.user",
    "tenant": "caller.tenant",
}
"""`per` -> the CEL that tells whose total it is."""
MOST = 1_000_000_000
"""The largest amount that one call can add."""


def quotas(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[tuple[str, str, Path, Quota]]:
    """Yield what an action bounds together: the rule's name, what one call adds (CEL), where that stands, the bound."""
    rule_id = entry["id"]
    if "rate" in entry:
        name, given, path = f"{rule_id}.rate", entry["rate"], (*at, "rate")
        yield name, "1", path, _quota(policy, given, path, name, given["calls"])
    for total, given in entry.get("totals", {}).items():
        path = (*at, "totals", total)
        yield f"{rule_id}.{total}", given["value"], (*path, "value"), _quota(policy, given, path, total, given["limit"])
    if "duplicates" in entry:
        name, given, path = f"{rule_id}.duplicates", entry["duplicates"], (*at, "duplicates")
        quota = _quota(policy, given, path, name, given.get("calls", 1))
        yield name, "1", path, replace(quota, key=f"({quota.key}) + ' ' + tool.call_digest")


def _quota(policy: Lowering, given: Mapping[str, Any], at: Path, name: str, limit: Any) -> Quota:
    window, nano = given.get("window", CONVERSATION), nanousd(limit)
    if "per" in given and "key" in given:
        policy.wrong((*at, "key"), "give `per` or `key`, one of them")
    elif window != CONVERSATION and not {"per", "key"} & given.keys():
        policy.wrong(at, f"say whose calls are counted together: `key`, or `per` with {', '.join(KEYS)}")
    elif window == CONVERSATION and ("key" in given or given.get("per", CONVERSATION) != CONVERSATION):
        policy.wrong(at, "give a `window`: without one the total is that of the conversation")
    if "timezone" in given and window not in ("day", "week", "month"):
        policy.wrong((*at, "timezone"), "`timezone` changes nothing here: only a day, week or month has one")
    if nano is None:
        policy.wrong((*at, "limit"), "`limit` has more than nine decimals")
    return Quota(
        name=name,
        key=given.get("key", KEYS[given.get("per", CONVERSATION)]),
        limit_nano=nano or 0,
        window=window,
        timezone=given.get("timezone", "UTC"),
        failed=given.get("failed", ""),
    )


def in_units(nano: int) -> str:
    """Write billionths as a decimal number."""
    units, rest = divmod(nano, NANO)
    return f"{units}.{rest:09}".rstrip("0").rstrip(".")


def amount(value: object) -> int:
    """Return what a call adds, in billionths and rounded up; raise CelError if it is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise cel.CelError("invalid_argument", f"a call adds a number from 0 to {MOST}", value)
    exact = Decimal(repr(value) if isinstance(value, float) else int(value))
    return int((exact * NANO).to_integral_value(ROUND_CEILING))
