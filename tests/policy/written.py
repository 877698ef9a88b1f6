"""Owns the short policies and facts that the policy tests are written with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from proxy.policy import Functions, PolicyProblems, PolicySet, Rule, Source, load
from proxy.terms import (
    Caller,
    Decision,
    Facts,
    Finding,
    GuardResult,
    Level,
    Message,
    Phase,
    Reply,
    Request,
    Session,
    ToolCall,
    ToolSpec,
    Verdict,
)

AT_MS = 1_767_606_000_000
GUARDS = {"topics": ("orders", "medical", "other"), "pii": ()}
ROUTES = ("large", "small", "cheap")


def window_key(window: str, zone: str, at_ms: int) -> str:
    """Name a window by what it is made from; only UTC and Europe/Madrid are known."""
    if zone not in ("UTC", "Europe/Madrid"):
        raise ValueError(f"{zone!r} is not a known time zone")
    return window if window == "conversation" else f"{window}:{zone}:{at_ms}"


def find(text: str) -> list[Finding]:
    """Find words with an @ as `email` (guard pii) and words that begin with sk- as `api_key` (guard secrets)."""
    kinds = {"email": ("pii", r"\S+@\S+"), "api_key": ("secrets", r"\bsk-\S+")}
    return [
        Finding(guard=guard, label=label, start=match.start(), end=match.end())
        for label, (guard, pattern) in kinds.items()
        for match in re.finditer(pattern, text)
    ]


def claims(text: str) -> list[Finding]:
    """Take each word with a $ for a claim (guard grounding)."""
    return [
        Finding(guard="grounding", label="money", score=0.9, start=match.start(), end=match.end(), reason=match[0])
        for match in re.finditer(r"\$\S+", text)
    ]


def ungrounded(text: str, evidence: Sequence[str]) -> list[Finding]:
    """Return the claims that stand in no evidence text."""
    return [claim for claim in claims(text) if not any(claim.reason in one for one in evidence)]


FUNCTIONS = Functions(
    tokens=lambda text: len(text.split()),
    window_key=window_key,
    find=find,
    find_us=len,
    kinds={"email": (8, 64), "api_key": (4, 40)},
    ungrounded=ungrounded,
    claims=claims,
    read_us=len,
)
"""Searching takes a microsecond for each character."""


def source(spec: str, *, name: str = "p", version: str = "1.0.0", path: str = "p.yaml") -> Source:
    """Wrap a `spec` (indented by two) into a whole document: its first line is line 5."""
    head = "apiVersion: handrail.dev/v1alpha1\nkind: AgentPolicy\n"
    return Source(
        path=path, text=f"{head}metadata: {{name: {name}, version: {version}}}\nspec:\n{spec.lstrip(chr(10))}"
    )


def compiled(*specs: str | Source, **options: Any) -> PolicySet:
    """Load one or more policies."""
    sources = [source(spec) if isinstance(spec, str) else spec for spec in specs]
    return load(sources, **{"functions": FUNCTIONS, "guards": GUARDS, "routes": ROUTES, **options})


def problems(*specs: str | Source, **options: Any) -> list[str]:
    """Load policies that are wrong; return what is wrong with them."""
    try:
        compiled(*specs, **options)
    except PolicyProblems as error:
        return error.problems
    return []


def rule(**keys: Any) -> str:
    """Write a policy of one rule, `r`: phase request, action deny, unless said otherwise."""
    entry = {"id": "r", "phase": "request", "action": "deny", **keys}
    return f"  rules: [{json.dumps(entry)}]"


def request(*said: str, **fields: Any) -> Request:
    """Make a request: what is said alternates between user and assistant, the user first."""
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[number % 2], text=text) for number, text in enumerate(said or ("hello",)))
    given = {"dialect": "chat", "model": "large", "messages": messages, "body": {}, "raw": b"", **fields}
    return Request(**given)


def facts(**fields: Any) -> Facts:
    """Make facts: a caller at level execute, one message, whatever else is given."""
    caller = Caller(agent="support-web", level=Level.EXECUTE, principal="someone", tenant="acme")
    known = Facts(at_ms=AT_MS, caller=caller, request=request(), session=Session(id="se_1"))
    return replace(known, **fields)


def called(name: str, arguments: str = "{}", **fields: Any) -> Facts:
    """Make the facts of a tool call, its tool offered without a schema."""
    call = ToolCall(id="c1", name=name, arguments=arguments)
    return facts(tool=call, **{"request": request(tools=(ToolSpec(name=name, schema={}),)), **fields})


def replied(text: str, **fields: Any) -> Facts:
    """Make the facts of a reply."""
    return facts(response=Reply(text=text, finish_reason="stop", model="gpt"), **fields)


def found(label: str, score: float = 1.0, guard: str = "topics") -> Mapping[str, GuardResult]:
    """Make the result of one guard."""
    return {guard: GuardResult(name=guard, version="1", findings=(Finding(guard=guard, label=label, score=score),))}


def at_level(level: Level) -> Caller:
    """Make a caller at another level."""
    return Caller(agent="support-web", level=level, principal="someone", tenant="acme")


def decided(policies: PolicySet | str, known: Facts, phase: Phase = Phase.REQUEST) -> Decision:
    """Decide on facts."""
    policies = compiled(policies) if isinstance(policies, str) else policies
    return policies.decide(phase, known, "ex_1-request")


def verdict(policies: PolicySet | str, known: Facts, phase: Phase = Phase.REQUEST) -> Verdict:
    """Decide on facts; return the verdict."""
    return decided(policies, known, phase).verdict


def value(expression: str, known: Facts, phase: Phase = Phase.REQUEST) -> Verdict:
    """Evaluate an expression as the condition of a denying rule."""
    return verdict(rule(when=expression, phase=phase), known, phase)


BROKEN = "request.metadata.nothing == 'x'"
DEAR = "request.messages.all(m, request.messages.all(n, request.messages.all(o, m.index + n.index + o.index >= 0)))"
OFFERED = request(tools=(ToolSpec(name="drop_a"), ToolSpec(name="drop_b"), ToolSpec(name="look")))


def policy(*entries: dict[str, Any], **spec: Any) -> str:
    """Write a policy of rules `r0`, `r1`, …: phase request, action deny, unless said otherwise."""
    rules = [{"id": f"r{n}", "phase": "request", "action": "deny", **entry} for n, entry in enumerate(entries)]
    return "\n".join(f"  {key}: {json.dumps(value)}" for key, value in {**spec, "rules": rules}.items())


def annotate(when: str = "true", **notes: str) -> dict[str, Any]:
    """Write a rule that annotates."""
    return {"action": "annotate", "when": when, "annotations": notes or {"a": "b"}}


ALLOW: dict[str, Any] = {"action": "allow", "when": "true"}
ANNOTATE = annotate()
ROUTE: dict[str, Any] = {"action": "route", "when": "true", "to": "small"}
STRIP: dict[str, Any] = {"action": "strip_tools", "when": "true", "tools": ["drop_*"]}
DENY: dict[str, Any] = {"action": "deny", "when": "true", "message": "no"}
HEAVIEST = [ALLOW, ANNOTATE, ROUTE, STRIP, DENY]


def lowered(spec: str) -> list[tuple[Any, ...]]:
    """Return of each rule what tells it from the others."""
    rules = compiled(spec).rules
    return [(_name(r), r.phase, r.action, r.when, r.require, r.tools) for r in rules]


def only(spec: str) -> Rule:
    """Return the one rule of a policy."""
    (found,) = compiled(spec).rules
    return found


def _name(lowered_rule: Rule) -> str:
    return lowered_rule.id.partition("/")[2].rpartition("@")[0]


def entry(section: str, **keys: Any) -> str:
    """Write a policy with one entry in one section."""
    return f"  {section}: [{json.dumps({'id': 'e', **keys})}]"


def topics(**keys: Any) -> str:
    """Write a policy that bounds topics."""
    return f"  topics: {json.dumps({'minScore': 0.6, 'uncertain': 'allow', 'message': 'no', **keys})}"
