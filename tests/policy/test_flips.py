"""Owns the proof that no key is without effect: for each key of the schema there are two policies that differ in it
alone, and they behave differently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from proxy.policy import PolicyProblems, PolicySet, Source
from proxy.policy.compile import schema
from proxy.terms import (
    Candidate,
    Chunk,
    Level,
    Message,
    Outcome,
    Phase,
    Reply,
    Result,
    Session,
    Spend,
    Target,
    ToolCall,
    ToolSpec,
    Totals,
    Usage,
)
from tests.policy.written import BROKEN, at_level, compiled, facts, found, request

SCHEMA: dict[str, Any] = json.loads(schema("schema.json"))
FIXED = {
    "apiVersion": "it has one value",
    "kind": "it has one value",
    "metadata": "it is needed, and so are its keys",
    "spec": "it is needed; what stands in it are the other keys",
}
"""Keys that cannot be left out or changed."""

REPLY = Reply(text="Mail a@b.example. Two. It is $5", finish_reason="stop")
SAID = facts(
    request=request(
        messages=(
            Message(role="user", text="refund A1 to ann@example.org"),
            Message(role="assistant", tool_calls=(ToolCall(id="c0", name="look", arguments="{}"),)),
            Message(role="tool", text="sk-1 of x@y.example: $5", tool_call_id="c0"),
            Message(role="user", text="now"),
        ),
        tools=(ToolSpec(name="refund", schema={"type": "object"}), ToolSpec(name="transfer_now", schema={})),
    ),
    guards={
        **found("medical", 0.7),
        **found("de", guard="language"),
    },
    spend=Spend(est_nanousd=10**9, max_nanousd=2 * 10**9, conversation=Totals(nanousd=2 * 10**9)),
    user="u1",
    session=Session(id="se_1", tools={"refund": "another definition"}),
    tool=ToolCall(id="c1", name="refund", arguments='{"amount": 80}'),
    response=REPLY,
    result=Result(tool="look", call_id="c0", text="sk-1 of x@y.example", message=2),
    chunk=Chunk(text=REPLY.text, end=len(REPLY.text)),
    candidates=(Candidate(target=Target(alias="small", provider="openai", model="small")),),
    outcome=Outcome(usage=Usage(), nanousd=1, status=200, ttft_ms=1.0, total_ms=1.0, guard_ms=0.0),
)
SITUATIONS = (
    SAID,
    msgspec.structs.replace(SAID, caller=at_level(Level.ASSIST)),
    msgspec.structs.replace(SAID, guards={}, response=None),
)
OTHER = Source(
    path="other.yaml",
    text="""\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: z, version: 1.0.0}
spec: {routing: [{id: r, when: "true", to: large}]}
""",
)
"""What holds beside each policy, so that its priority can matter."""


def rule(**keys: Any) -> dict[str, Any]:
    """Return a spec of one rule."""
    return {"rules": [{"id": "r", "phase": "request", "when": "true", "action": "deny", **keys}]}


def entry(section: str, **keys: Any) -> dict[str, Any]:
    """Return a spec of one entry."""
    return {section: [{"id": "e", **keys}]}


def mask(**keys: Any) -> dict[str, Any]:
    """Return a spec of one rule that takes something out."""
    return {"rules": [{"id": "r", "phase": "request", "action": "mask", **keys}]}


ACT = {"tools": ["refund"], "when": "true"}
ASKS = {"action": "require_approval", "tools": ["refund"], "when": "true"}
LIMIT = {"scope": "agent", "window": "day", "limitUSD": 1}
SOFT = {"scope": "conversation", "softUSD": 1, "onSoft": "annotate"}
DATA = {"direction": "out", "kinds": ["email"], "action": "mask"}
TOPICS = {"allow": ["medical"], "deny": ["orders"], "minScore": 0.6, "uncertain": "allow", "message": "no"}
DENIED = {"deny": ["orders"], "minScore": 0.6, "uncertain": "allow", "message": "no"}
GROUNDED = {"action": "deny", "evidence": {"tools": ["x"]}}
SHARED = {"calls": 1, "window": "day", "per": "agent"}
KEYED = {"calls": 1, "window": "day", "key": "'a'"}
VOICE = {"forbid": ["Two"], "action": "rewrite"}
APPROVAL = {"phase": "tool_call", "action": "require_approval"}
DEAR = entry("spend", **LIMIT)

FLIPS: dict[str, tuple[dict[str, Any], Any]] = {
    "metadata.name": (rule(), "another"),
    "metadata.version": (rule(), "2.0.0"),
    "metadata.labels": (rule(), {"team": "a"}),
    "metadata.annotations": (rule(), {"owner": "ann"}),
    "spec.selector": (rule(), {"agents": ["sales"]}),
    "spec.selector.agents": ({**rule(), "selector": {"agents": ["support-*"]}}, ["sales"]),
    "spec.selector.models": ({**rule(), "selector": {"models": ["large"]}}, ["small"]),
    "spec.selector.tenants": ({**rule(), "selector": {"tenants": ["acme"]}}, ["umbrella"]),
    "spec.selector.when": ({**rule(), "selector": {"when": "true"}}, "false"),
    "spec.mode": (rule(), "off"),
    "spec.onError": (rule(when=BROKEN), "allow"),
    "spec.onDeny": (rule(), "error"),
    "spec.onDisconnect": (rule(), "abort"),
    "spec.priority": (rule(action="route", to="small"), 900),
    "spec.params": ({**rule(when="params.a == 1"), "params": {"a": 1}}, {"a": 2}),
    "spec.variables": (
        {**rule(when="vars.a"), "variables": [{"name": "a", "expression": "true"}]},
        [{"name": "a", "expression": "false"}],
    ),
    "spec.variables.name": ({**rule(when="vars.a"), "variables": [{"name": "a", "expression": "true"}]}, "b"),
    "spec.variables.expression": ({**rule(when="vars.a"), "variables": [{"name": "a", "expression": "true"}]}, "false"),
    "spec.topics": (rule(), {**TOPICS, "deny": ["medical"], "allow": ["orders"]}),
    "spec.topics.allow": ({"topics": TOPICS}, ["other"]),
    "spec.topics.deny": ({"topics": DENIED}, ["medical"]),
    "spec.topics.minScore": ({"topics": {**TOPICS, "allow": ["other"]}}, 0.9),
    "spec.topics.uncertain": ({"topics": {**TOPICS, "minScore": 0.9}}, "deny"),
    "spec.topics.message": ({"topics": {**TOPICS, "allow": ["other"]}}, "never"),
    "spec.actions": (rule(action="allow"), [{"id": "e", **ACT}]),
    "spec.actions.id": (entry("actions", **ACT), "f"),
    "spec.actions.tools": (entry("actions", **ACT), ["look"]),
    "spec.actions.effect": (entry("actions", **{**ACT, "when": "false"}), "write"),
    "spec.actions.minLevel": (entry("actions", **{**ACT, "when": "false"}), "operate"),
    "spec.actions.when": (entry("actions", **ACT), "false"),
    "spec.actions.require": (entry("actions", tools=["refund"], effect="read"), "false"),
    "spec.actions.action": (entry("actions", **ACT), "strip"),
    "spec.actions.approval": (entry("actions", **ASKS), {"ttl": "1m"}),
    "spec.actions.approval.ttl": (entry("actions", **ASKS, approval={"ttl": "1m"}), "2m"),
    "spec.actions.approval.wait": (entry("actions", **ASKS, approval={"ttl": "1m"}), "5s"),
    "spec.actions.approval.group": (entry("actions", **ASKS, approval={"ttl": "1m"}), "leads"),
    "spec.actions.schema": (
        entry("actions", **{**ACT, "when": "false"}),
        {"type": "object", "properties": {"amount": {"maximum": 5}}},
    ),
    "spec.actions.pinned": (entry("actions", **{**ACT, "when": "false"}), True),
    "spec.actions.totals": (
        entry("actions", **{**ACT, "when": "false"}),
        {"usd": {"value": "tool.args.amount", "limit": 5}},
    ),
    **{
        f"spec.actions.{bound}{key}": (entry("actions", tools=["refund"], effect="read", **given), value)
        for bound in ("rate", "duplicates")
        for key, given, value in (
            ("", {}, SHARED),
            (".calls", {bound: SHARED}, 2),
            (".window", {bound: SHARED}, "month"),
            (".per", {bound: SHARED}, "tenant"),
            (".key", {bound: KEYED}, "'b'"),
            (".timezone", {bound: SHARED}, "Europe/Madrid"),
            (".failed", {bound: SHARED}, "!result.verified"),
        )
    },
    "spec.actions.message": (entry("actions", **ACT), "no"),
    "spec.actions.messageExpression": (entry("actions", **ACT), "'no ' + tool.name"),
    "spec.actions.severity": (entry("actions", **ACT), "high"),
    "spec.actions.mode": (entry("actions", **ACT), "shadow"),
    "spec.actions.onError": (entry("actions", **{**ACT, "when": BROKEN}), "allow"),
    "spec.actions.onDeny": (entry("actions", **ACT), "explain"),
    "spec.spend": (rule(), [{"id": "e", **LIMIT}]),
    "spec.spend.id": (DEAR, "f"),
    "spec.spend.scope": (DEAR, "tenant"),
    "spec.spend.key": (entry("spend", key="'a'", window="day", limitUSD=1), "'b'"),
    "spec.spend.window": (DEAR, "month"),
    "spec.spend.timezone": (DEAR, "Europe/Madrid"),
    "spec.spend.limitUSD": (DEAR, 2),
    "spec.spend.softUSD": (entry("spend", **SOFT), 5),
    "spec.spend.onSoft": (entry("spend", **SOFT), {"route": "small"}),
    "spec.spend.onSoft.route": (entry("spend", **{**SOFT, "onSoft": {"route": "small"}}), "cheap"),
    "spec.spend.fit": (DEAR, {"wait": "5s"}),
    "spec.spend.fit.leastTokens": (entry("spend", **LIMIT, fit={"leastTokens": 100}), 200),
    "spec.spend.fit.wait": (entry("spend", **LIMIT, fit={"wait": "5s"}), "6s"),
    "spec.spend.message": (DEAR, "no"),
    "spec.spend.onDeny": (DEAR, "reply"),
    "spec.data": (rule(), [{"id": "e", **DATA}]),
    "spec.data.id": (entry("data", **DATA), "f"),
    "spec.data.direction": (entry("data", **DATA), "in"),
    "spec.data.kinds": (entry("data", **DATA), ["api_key"]),
    "spec.data.action": (entry("data", **DATA), "deny"),
    "spec.data.stream": (entry("data", **DATA), "window"),
    "spec.data.allow": (entry("data", **DATA), "finding.text == 'a@b.example.'"),
    "spec.data.message": (entry("data", **{**DATA, "action": "deny"}), "no"),
    "spec.data.mode": (entry("data", **DATA), "shadow"),
    "spec.data.onError": (entry("data", **DATA, allow="1 / 0 == 1"), "allow"),
    "spec.escalation": (rule(action="allow"), [{"id": "e", "when": "true"}]),
    "spec.escalation.id": (entry("escalation", when="true"), "f"),
    "spec.escalation.when": (entry("escalation", when="true"), "false"),
    "spec.escalation.phase": (entry("escalation", when="true"), "response"),
    "spec.escalation.to": (entry("escalation", when="true"), "gold"),
    "spec.escalation.handoff": (entry("escalation", when="true"), "header"),
    "spec.escalation.tool": (entry("escalation", when="true", handoff="tool", tool="a"), "transfer_*"),
    "spec.escalation.message": (entry("escalation", when="true"), "Soon."),
    "spec.escalation.mode": (entry("escalation", when="true"), "shadow"),
    "spec.escalation.onError": (entry("escalation", when=BROKEN), "allow"),
    "spec.routing": (rule(action="allow"), [{"id": "e", "when": "true", "to": "small"}]),
    "spec.routing.id": (entry("routing", when="true", to="small"), "f"),
    "spec.routing.when": (entry("routing", when="true", to="small"), "false"),
    "spec.routing.to": (entry("routing", when="true", to="small"), "cheap"),
    "spec.routing.to.cheapest": (entry("routing", when="true", to={"cheapest": {"tags": ["a"]}}), {"tags": ["b"]}),
    "spec.routing.to.cheapest.tags": (entry("routing", when="true", to={"cheapest": {"tags": ["a"]}}), ["b"]),
    "spec.routing.fallback": (entry("routing", when="true", to="small"), ["cheap"]),
    "spec.routing.mode": (entry("routing", when="true", to="small"), "shadow"),
    "spec.routing.onError": (entry("routing", when=BROKEN, to="small"), "allow"),
    "spec.grounding": (rule(), GROUNDED),
    "spec.grounding.claims": ({"grounding": GROUNDED}, ["date"]),
    "spec.grounding.evidence": ({"grounding": GROUNDED}, {"tools": ["look"]}),
    "spec.grounding.evidence.tools": ({"grounding": GROUNDED}, ["look"]),
    "spec.grounding.evidence.maxAge": ({"grounding": {**GROUNDED, "evidence": {"tools": ["look"]}}}, "5s"),
    "spec.grounding.evidence.verified": ({"grounding": {**GROUNDED, "evidence": {"tools": ["look"]}}}, True),
    "spec.grounding.facts": ({"grounding": GROUNDED}, ["It is $5."]),
    "spec.grounding.minScore": ({"grounding": {**GROUNDED, "claims": ["money"]}}, 1),
    "spec.grounding.action": ({"grounding": GROUNDED}, "escalate"),
    "spec.grounding.message": ({"grounding": GROUNDED}, "no"),
    "spec.grounding.to": ({"grounding": {**GROUNDED, "action": "escalate"}}, "gold"),
    "spec.grounding.mode": ({"grounding": GROUNDED}, "shadow"),
    "spec.grounding.onError": ({"grounding": GROUNDED}, "allow"),
    "spec.voice": (rule(), VOICE),
    "spec.voice.forbid": ({"voice": VOICE}, ["Mail"]),
    "spec.voice.require": ({"voice": VOICE}, ["Regards"]),
    "spec.voice.maxSentences": ({"voice": VOICE}, 1),
    "spec.voice.language": ({"voice": VOICE}, ["en"]),
    "spec.voice.action": ({"voice": VOICE}, "annotate"),
    "spec.voice.mode": ({"voice": VOICE}, "shadow"),
    "spec.voice.onError": ({"voice": {"language": ["en"], "action": "annotate"}}, "allow"),
    "spec.maturity": (rule(), {"level": "assist"}),
    "spec.maturity.level": ({"maturity": {"level": "assist"}}, "execute"),
    "spec.maturity.overrides": ({"maturity": {"level": "assist"}}, {"faq": "execute"}),
    "spec.maturity.mode": ({"maturity": {"level": "assist"}}, "shadow"),
    "spec.rules": (entry("escalation", when="false"), rule()["rules"]),
    "spec.rules.id": (rule(), "s"),
    "spec.rules.phase": (rule(), "response"),
    "spec.rules.when": (rule(), "false"),
    "spec.rules.require": (mask(kinds=["email"]), "true"),
    "spec.rules.action": (rule(), "allow"),
    "spec.rules.kinds": (mask(kinds=["email"]), ["api_key"]),
    "spec.rules.pattern": (mask(pattern="refund"), "now"),
    "spec.rules.allow": (mask(pattern="now"), "true"),
    "spec.rules.labels": (rule(action="label", labels=["a"]), ["b"]),
    "spec.rules.rewrite": (rule(action="rewrite", rewrite={"max_tokens": "5"}), {"max_tokens": "6"}),
    "spec.rules.level": (rule(phase="post", action="level", level="assist"), "execute"),
    "spec.rules.obligations": (rule(), ["alert"]),
    "spec.rules.handoff": (rule(action="escalate"), "header"),
    "spec.rules.tool": (rule(action="escalate", handoff="tool", tool="a"), "b"),
    "spec.rules.approval": (rule(**APPROVAL), {"ttl": "1m"}),
    "spec.rules.approval.ttl": (rule(**APPROVAL, approval={"ttl": "1m"}), "2m"),
    "spec.rules.approval.wait": (rule(**APPROVAL, approval={"ttl": "1m"}), "5s"),
    "spec.rules.approval.group": (rule(**APPROVAL, approval={"ttl": "1m"}), "leads"),
    "spec.rules.message": (rule(), "no"),
    "spec.rules.messageExpression": (rule(), "'no ' + agent.id"),
    "spec.rules.severity": (rule(), "high"),
    "spec.rules.mode": (rule(), "shadow"),
    "spec.rules.onError": (rule(when=BROKEN), "escalate"),
    "spec.rules.onDeny": (rule(), "error"),
    "spec.rules.stream": (rule(phase="response"), "after"),
    "spec.rules.window": (rule(phase="chunk", when="chunk.text.contains('x')"), 50),
    "spec.rules.to": (rule(action="route", to="small"), "cheap"),
    "spec.rules.to.cheapest": (rule(action="route", to={"cheapest": {"tags": ["a"]}}), {"tags": ["b"]}),
    "spec.rules.to.cheapest.tags": (rule(action="route", to={"cheapest": {"tags": ["a"]}}), ["b"]),
    "spec.rules.fallback": (rule(action="route", to="small"), ["cheap"]),
    "spec.rules.tools": (rule(phase="tool_call", tools=["refund"]), ["look"]),
    "spec.rules.annotations": (rule(), {"a": "b"}),
}
"""Key -> (the spec of a policy, the value that the key gets in another)."""


def keys(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield each key that the schema accepts, list items taken for what they are items of."""
    if "$ref" in node:
        yield from keys(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]], path)
    for name, below in node.get("properties", {}).items():
        yield f"{path}{name}"
        yield from keys(below, f"{path}{name}.")
    if "items" in node:
        yield from keys(node["items"], path)


def document(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Wrap a spec."""
    metadata = {"name": "p", "version": "1.0.0"}
    return {"apiVersion": "handrail.dev/v1alpha1", "kind": "AgentPolicy", "metadata": metadata, "spec": dict(spec)}


def changed(tree: Any, path: list[str], value: Any) -> Any:
    """Return a tree with another value at a path, in the first item of every list on the way."""
    if isinstance(tree, list):
        return [changed(tree[0], path, value), *tree[1:]]
    return {**tree, path[0]: changed(tree[path[0]], path[1:], value) if path[1:] else value}


def behaviour(tree: Mapping[str, Any]) -> object:
    """Return all that can be told of a policy from outside: what it decides, limits, lowers and holds in some
    situations, and how it is named; or why it is refused."""
    try:
        policies = compiled(Source(path="p.yaml", text=json.dumps(tree)), OTHER, guards=GUARDS)
    except PolicyProblems as problems:
        return problems.problems
    return msgspec.to_builtins(list(_told(policies)))


GUARDS = {"topics": ("orders", "medical", "other"), "pii": (), "language": ()}


def _told(policies: PolicySet) -> Iterator[object]:
    yield [(document.labels, document.annotations) for document in policies.documents]
    yield (policies.level(()), policies.level(("faq",)), policies.holds_response, policies.explains, policies.reach)
    for known in SITUATIONS:
        yield (policies.limits(known), policies.on_disconnect(known))
        yield from (policies.decide(phase, known, "d") for phase in Phase)


def test_every_key_of_the_schema_has_its_pair() -> None:
    """A key that is accepted and changes nothing would be a promise that nobody keeps."""
    accepted = set(keys(SCHEMA))

    assert set() == accepted - FLIPS.keys() - FIXED.keys()
    assert set() == FLIPS.keys() - accepted


@pytest.mark.parametrize("key", FLIPS)
def test_a_key_changes_what_happens(key: str) -> None:
    """Two policies that differ in this key alone behave differently."""
    spec, value = FLIPS[key]
    tree = document(spec)

    other = changed(tree, key.split("."), value)

    assert tree != other
    assert behaviour(tree) != behaviour(other)
