"""Owns the section `actions`: what tools an agent may call, at which level, and with whose approval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.quotas import quotas
from proxy.policy.rule import Lowered
from proxy.policy.schemas import useless
from proxy.terms import Level, Phase, Verdict

_READABLE = "tool.valid_json"
_UNFIT = "!(tool.valid_json && tool.registered && tool.schema_ok)"
"""Arguments that are not one strict JSON object, a tool that the request does not offer, or not by that schema."""
_TOGETHER = frozenset(("rate", "totals", "duplicates"))
_BOUNDS = frozenset(("minLevel", "effect", "schema", "pinned")) | _TOGETHER


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """One entry bounds the calls of its tools."""
    key = policy.condition(entry, at, needed=False)
    if not key and not _BOUNDS & entry.keys():
        bounds = ", ".join(f"`{bound}`" for bound in sorted(_BOUNDS))
        policy.wrong(at, f'say when: give `when`, `require` or one of {bounds} (`when: "true"` means always)')
    if "messageExpression" in entry and entry.get("action") == "strip":
        policy.wrong((*at, "messageExpression"), "a stripped tool needs a `message`, the same for every call of it")
    name, rest = entry["id"], {"tools": tuple(entry["tools"])}
    asks = entry.get("action") == "require_approval"
    drafts = "minLevel" not in entry and entry.get("effect", "read") != "read"
    by_level = drafts and entry.get("action") != "strip"
    if "approval" in entry and not (by_level or (asks and (key or _TOGETHER & entry.keys()))):
        policy.wrong((*at, "approval"), "`approval` changes nothing here: no call of these tools is to be approved")
    yield _call(policy, entry, at, at, f"{name}.args", when=_UNFIT, **rest)
    if "pinned" in entry:
        yield _call(policy, entry, at, at, f"{name}.pinned", when="tool.changed", **rest)
    if "schema" in entry:
        for place, wrong in useless(entry["schema"]):
            policy.wrong((*at, "schema", *place), f"the schema is of no use: {wrong}")
        schema_at = (*at, "schema")
        yield _call(policy, entry, at, schema_at, f"{name}.schema", when=_READABLE, schema=entry["schema"], **rest)
    yield from _level(policy, entry, at, drafts, by_level, rest)
    if key and asks:
        condition = {"when": entry[key], "require": key == "require"}
        yield _call(policy, entry, at, (*at, key), name, **condition, **policy.approval(entry, at), **rest)
    elif key:
        yield from _bar(policy, entry, at, (*at, key), name, when=entry[key], require=key == "require", **rest)
    asked = policy.approval(entry, at) if asks else {}
    for rule_id, value, value_at, quota in quotas(policy, entry, at):
        yield _call(policy, entry, at, value_at, rule_id, when=value, quota=quota, **asked, **rest)


def _level(
    policy: Lowering, entry: Mapping[str, Any], at: Path, drafts: bool, by_level: bool, rest: Mapping[str, Any]
) -> Iterator[Lowered]:
    """Bar the calls that this agent may not make on its own: below a level that is written out, or on `assist` if
    they change something; there a human can still approve them."""
    least = Level.EXECUTE if drafts else Level(entry.get("minLevel", Level.ASSIST))
    name, when = f"{entry['id']}.level", f"agent.rank < {least.rank}"
    if by_level:
        yield _call(policy, entry, at, at, name, when=when, **policy.approval(entry, at), **rest)
    elif least.rank > 1:
        yield from _bar(policy, entry, at, at, name, when=when, **rest)


def _bar(
    policy: Lowering, entry: Mapping[str, Any], at: Path, when_at: Path, name: str, **rest: Any
) -> Iterator[Lowered]:
    """Deny the calls, and first hide the tools if the action is `strip`: a model may call what it was not shown."""
    if entry.get("action") == "strip":
        plain = {key: value for key, value in entry.items() if key != "message"}
        yield policy.lowered(
            plain, at, when_at, name=f"{name}.strip", phase=Phase.REQUEST, action=Verdict.STRIP_TOOLS, **rest
        )
    yield _call(policy, entry, at, when_at, name, **rest)


def _call(policy: Lowering, entry: Mapping[str, Any], at: Path, when_at: Path, name: str, **rest: Any) -> Lowered:
    return policy.lowered(entry, at, when_at, name=name, phase=Phase.TOOL_CALL, **{"action": Verdict.DENY, **rest})
