"""Owns the section `spend`: hard limits that the budget store holds, and soft ones that only route or annotate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering, seconds
from proxy.policy.rule import NANO, Lowered, nanousd
from proxy.terms import Fit, Mode, Phase, Verdict

TOTALS = {
    ("request", ""): "spend.request",
    ("conversation", "conversation"): "spend.conversation",
    ("user", "day"): "spend.user",
    ("agent", "day"): "spend.agent",
    ("tenant", "day"): "spend.tenant",
}
"""Where Facts carry the running total of a (scope, window), in UTC."""


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """One entry is a hard limit, a soft one, or both."""
    scope, window = _counter(policy, entry, at)
    limit, soft = _usd(policy, entry, at, "limitUSD"), _usd(policy, entry, at, "softUSD")
    if "limitUSD" not in entry and "softUSD" not in entry:
        policy.wrong(at, "give `limitUSD`, `softUSD` or both")
    if limit is not None and soft is not None and soft >= limit:
        policy.wrong((*at, "softUSD"), "`softUSD` must be below `limitUSD`")
    if ("softUSD" in entry) != ("onSoft" in entry):
        policy.wrong(at, "`softUSD` and `onSoft` come together")
    for key in ("message", "onDeny", "fit"):
        if "limitUSD" not in entry and key in entry:
            policy.wrong((*at, key), f"`{key}` changes nothing without `limitUSD`")
    if limit is not None:
        yield _limit(policy, entry, at, scope, window, limit)
    if soft is not None and "onSoft" in entry:
        yield _soft(policy, entry, at, scope, window, soft)


def _counter(policy: Lowering, entry: Mapping[str, Any], at: Path) -> tuple[str, str]:
    scope = entry.get("scope", "key" if "key" in entry else "")
    window = entry.get("window", "conversation" if scope == "conversation" else "")
    if ("scope" in entry) == ("key" in entry):
        policy.wrong(at, "give `scope` or `key`, one of them")
    elif scope == "request" and window:
        policy.wrong((*at, "window"), "the scope `request` is one call and has no window")
    elif scope in ("user", "agent", "tenant", "key") and window in ("", "conversation"):
        policy.wrong(at, f"a limit by {scope} needs a `window`: minute, hour, day, week or month")
    if "timezone" in entry and window in ("", "conversation", "minute", "hour"):
        policy.wrong((*at, "timezone"), "`timezone` changes nothing here: only a day, week or month has one")
    return scope, window


def _usd(policy: Lowering, entry: Mapping[str, Any], at: Path, key: str) -> int | None:
    if key not in entry:
        return None
    amount = nanousd(entry[key])
    if amount is None:
        policy.wrong((*at, key), f"`{key}` has more than nine decimals")
    return amount


def _limit(policy: Lowering, entry: Mapping[str, Any], at: Path, scope: str, window: str, limit: int) -> Lowered:
    denial = {"onDeny": entry.get("onDeny", policy.spec.get("onDeny", "error"))}
    common: dict[str, Any] = {"name": entry["id"], "phase": Phase.REQUEST, "action": Verdict.DENY}
    if policy.mode(entry) is not Mode.SHADOW:
        return policy.lowered(
            {**entry, **denial},
            at,
            (*at, "key"),
            when=entry.get("key", ""),
            cap_nanousd=limit,
            scope=scope,
            window=window,
            timezone=entry.get("timezone", "UTC"),
            fit=_fit(policy, entry, at, scope),
            **common,
        )
    if "fit" in entry:
        policy.wrong((*at, "fit"), "`fit` changes nothing in mode shadow")
    total = _total(policy, entry, at, scope, window, "a limit in mode shadow")
    most = "spend.request.max_usd" if scope == "request" else f"{total}.usd + spend.request.max_usd"
    return policy.lowered({**entry, **denial}, at, at, when=f"{most} > {limit / NANO!r}", **common)


def _fit(policy: Lowering, entry: Mapping[str, Any], at: Path, scope: str) -> Fit | None:
    if "fit" not in entry:
        return None
    fit = entry["fit"]
    if scope == "request" and "wait" in fit:
        policy.wrong((*at, "fit", "wait"), "`wait` changes nothing here: no other call holds what one call may cost")
    return Fit(least_tokens=fit.get("leastTokens", 0), wait_s=seconds(fit.get("wait", "0s")))


def _soft(policy: Lowering, entry: Mapping[str, Any], at: Path, scope: str, window: str, soft: int) -> Lowered:
    total, to = _total(policy, entry, at, scope, window, "`softUSD`"), entry["onSoft"]
    when = f"{total}.{'est_usd' if scope == 'request' else 'usd'} >= {soft / NANO!r}"
    rule_id = f"{entry['id']}.soft"
    common: dict[str, Any] = {"name": rule_id, "phase": Phase.REQUEST, "when": when}
    if to == "annotate":
        notes = {f"spend.{entry['id']}": "soft"}
        return policy.lowered({}, at, at, action=Verdict.ANNOTATE, annotations=notes, **common)
    way = policy.way({"to": to["route"]}, rule_id)
    return policy.lowered({}, at, at, action=Verdict.ROUTE, way=way, **common)


def _total(policy: Lowering, entry: Mapping[str, Any], at: Path, scope: str, window: str, what: str) -> str:
    total = TOTALS.get((scope, window))
    if total is None or entry.get("timezone", "UTC") != "UTC":
        policy.wrong(at, f"{what} is possible per request, per conversation, and per user, agent or tenant and UTC day")
    return total or "spend.conversation"
