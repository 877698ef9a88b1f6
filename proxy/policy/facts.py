"""Owns what expressions can read: every variable by its dotted name, made from Facts the first time a rule reads it.

In: Facts. Out: an activation for CEL. Never: work for a variable that no rule reads; a default for what is not known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import cast

from proxy import cel
from proxy.policy.activation import Activation, Maker
from proxy.policy.arguments import Arguments
from proxy.policy.tool_facts import TOOL_MAKERS
from proxy.terms import (
    Candidate,
    Chunk,
    GuardResult,
    Level,
    Message,
    Outcome,
    Phase,
    Reply,
    Request,
    ToolCall,
    Totals,
)

NANO = 10**9
CREDENTIALS = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key"))
"""Headers that no rule may read."""
ROOTS: Mapping[str, tuple[Phase, ...]] = {
    **dict.fromkeys(("request", "agent", "caller", "conversation", "spend", "now"), tuple(Phase)),
    # Guards judge whole texts; what they find in a step is had by `kinds`, pii() and secrets().
    "guards": tuple(phase for phase in Phase if phase not in (Phase.ROUTE, Phase.CHUNK, Phase.POST)),
    **dict.fromkeys(("policy", "params", "vars"), tuple(Phase)),
    "result": (Phase.TOOL_RESULT,),
    "chunk": (Phase.CHUNK,),
    "tool": (Phase.TOOL_CALL,),
    "response": (Phase.RESPONSE,),
    "candidates": (Phase.ROUTE,),
    **dict.fromkeys(("usage", "cost", "latency"), (Phase.POST,)),
}
"""Every root, and the phases in which it is there."""
FINDING = ("finding.kind", "finding.text", "finding.score")
"""What `allow` can read of the one finding that it is about."""
_RANK = {level: level.rank for level in Level}
GUARD_FIELDS = ("flagged", "label", "score", "spans", "reason")


def makers(guards: Collection[str]) -> dict[str, Maker]:
    """Return how each variable is made, for these configured guards."""
    return {**_MAKERS, **{name: maker for guard in guards for name, maker in _of_guard(guard)}}


def user_text(request: Request) -> str:
    """Return what the user said last: the text of the newest run of user messages."""
    said: list[str] = []
    for message in reversed(request.messages):
        if message.role == "user":
            said.append(message.text)
        elif said:
            break
    return "\n".join(reversed(said))


def _given(value: object, name: str) -> object:
    if value is None:
        raise cel.CelError("no_such_field", f"no such field: {name}")
    return value


# --- request ----------------------------------------------------------------------------------------------------------


def _system(activation: Activation) -> str:
    messages = activation.facts.request.messages
    return "\n".join(message.text for message in messages if message.role in ("system", "developer"))


def _messages(activation: Activation) -> list[object]:
    messages = activation.facts.request.messages
    last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return [
        {"index": number, "new": number > last, **_message(message, activation.parsing)}
        for number, message in enumerate(messages)
    ]


def _message(message: Message, parsing: cel.Budget) -> dict[str, object]:
    return {
        "role": message.role,
        "text": message.text,
        "tool_calls": _calls(message.tool_calls, parsing),
        "tool_call_id": message.tool_call_id,
    }


def _calls(calls: tuple[ToolCall, ...], parsing: cel.Budget) -> list[object]:
    return [{"id": call.id, "name": call.name, "args": Arguments(call.arguments, parsing)} for call in calls]


def _tokens_est(activation: Activation) -> int:
    return -(-sum(len(message.text) for message in activation.facts.request.messages) // 4)


# --- caller, conversation ---------------------------------------------------------------------------------------------


def _listed(activation: Activation, claim: str) -> list[str]:
    """Return the entries of a claim that lists several, separated by commas."""
    entries = activation.facts.caller.claims.get(claim, "").split(",")
    return [entry.strip() for entry in entries if entry.strip()]


# --- chunk, response -------------------------------------------------------------------------------------------------


def _chunk(activation: Activation) -> Chunk:
    if activation.facts.chunk is None:
        raise cel.CelError("no_such_variable", "there is no step of a text to judge")
    return activation.facts.chunk


def _response(activation: Activation) -> Reply:
    if activation.facts.response is None:
        raise cel.CelError("no_such_variable", "there is no response to judge")
    return activation.facts.response


# --- money ------------------------------------------------------------------------------------------------------------


def _usd(nanousd: int | None, name: str) -> float:
    if nanousd is None:
        raise cel.CelError("no_such_field", f"no such field: {name} (no price is known for this call)")
    return nanousd / NANO


def _totals(totals: Totals) -> dict[str, object]:
    return {"usd": (totals.nanousd + totals.reserved_nanousd) / NANO, "tokens": totals.tokens, "calls": totals.calls}


def _user(activation: Activation) -> Totals:
    totals = activation.facts.spend.user
    if totals is None:
        raise cel.CelError("no_such_field", "no such field: user (the request does not say who its user is)")
    return totals


def _remaining(activation: Activation) -> float:
    remaining = activation.facts.spend.remaining_nanousd
    if remaining is None:
        raise cel.CelError("no_such_field", "no such field: remaining (no spend limit applies)")
    return remaining / NANO


def _of_request(activation: Activation) -> dict[str, object]:
    spend = activation.facts.spend
    amounts = {"est_usd": spend.est_nanousd, "max_usd": spend.max_nanousd}
    return {name: _usd(amount, name) for name, amount in amounts.items() if amount is not None}


# --- where a call can go, and what came of it -------------------------------------------------------------------------


def _candidates(activation: Activation) -> list[object]:
    return [_candidate(candidate) for candidate in activation.facts.candidates]


def _candidate(candidate: Candidate) -> dict[str, object]:
    """Return what is known of a target: what is not known is not there."""
    known: dict[str, float | None] = {
        "in_usd_m": None if candidate.input_nanousd is None else candidate.input_nanousd / NANO,
        "out_usd_m": None if candidate.output_nanousd is None else candidate.output_nanousd / NANO,
        "context": candidate.target.context or None,
        "p50_ms": candidate.p50_ms,
    }
    target = candidate.target
    told = {"model": target.alias, "provider": target.provider, "tags": list(target.tags), "healthy": candidate.healthy}
    return {**told, **{name: value for name, value in known.items() if value is not None}}


def _outcome(activation: Activation) -> Outcome:
    if activation.facts.outcome is None:
        raise cel.CelError("no_such_variable", "nothing has come of the call yet")
    return activation.facts.outcome


# --- guards -----------------------------------------------------------------------------------------------------------


def _of_guard(guard: str) -> Iterator[tuple[str, Maker]]:
    whole = f"guards.{guard}"
    yield whole, lambda activation: _finding(guard, activation.facts.guards.get(guard))
    for field in GUARD_FIELDS:
        yield f"{whole}.{field}", _field(whole, field)


def _field(whole: str, field: str) -> Maker:
    def make(activation: Activation) -> object:
        return cast("dict[str, object]", activation[whole])[field]

    return make


def _finding(guard: str, result: GuardResult | None) -> dict[str, object]:
    if result is None or not result.ran:
        raise cel.CelError("guard", f"the guard {guard} did not run")
    if result.error:
        raise cel.CelError("guard", f"the guard {guard} failed: {result.error}")
    best = max(result.findings, key=lambda finding: finding.score, default=None)
    return {
        "flagged": best is not None,
        "label": best.label if best else "",
        "score": best.score if best else 0.0,
        "spans": [{"label": f.label, "start": f.start, "end": f.end} for f in result.findings],
        "reason": best.reason if best else "",
    }


_MAKERS: dict[str, Maker] = {
    "now": lambda a: cel.Timestamp(a.facts.at_ms * 1_000_000),
    "agent.id": lambda a: a.facts.caller.agent,
    "agent.level": lambda a: str(a.facts.caller.level),
    "agent.rank": lambda a: _RANK[a.facts.caller.level],
    "caller.id_hash": lambda a: hashlib.blake2b(a.facts.caller.principal.encode(), digest_size=16).hexdigest(),
    "caller.known_pii": lambda a: _listed(a, "known_pii"),
    "caller.user": lambda a: _given(a.facts.user or None, "user"),
    "caller.tenant": lambda a: a.facts.caller.tenant,
    "caller.tier": lambda a: a.facts.caller.claims.get("tier", ""),
    "caller.roles": lambda a: _listed(a, "roles"),
    "caller.claims": lambda a: dict(a.facts.caller.claims),
    "conversation.id": lambda a: a.facts.session.id,
    "conversation.channel": lambda a: a.facts.request.metadata.get("channel", ""),
    "conversation.turn": lambda a: a.facts.session.turn,
    "conversation.labels": lambda a: list(a.facts.labels),
    "conversation.escalated": lambda a: a.facts.session.escalation != "",
    "request.model": lambda a: a.facts.request.model,
    "request.stream": lambda a: a.facts.request.stream,
    "request.max_tokens": lambda a: _given(a.facts.request.max_output_tokens, "max_tokens"),
    "request.temperature": lambda a: _given(a.facts.request.temperature, "temperature"),
    "request.messages": _messages,
    "request.system": _system,
    "request.user_text": lambda a: user_text(a.facts.request),
    "request.tools": lambda a: [{"name": tool.name, "schema": tool.schema} for tool in a.facts.request.tools],
    "request.tool_names": lambda a: [tool.name for tool in a.facts.request.tools],
    "request.metadata": lambda a: dict(a.facts.request.metadata),
    "request.structured": lambda a: a.facts.request.structured,
    "request.tokens_est": _tokens_est,
    "request.headers": lambda a: dict(a.facts.headers),
    "chunk.text": lambda a: _chunk(a).text,
    "chunk.offset": lambda a: _chunk(a).offset,
    "chunk.final": lambda a: _chunk(a).final,
    "response.text": lambda a: _response(a).text,
    "response.model": lambda a: _response(a).model,
    "response.finish_reason": lambda a: _response(a).finish_reason,
    "response.refusal": lambda a: _response(a).refusal,
    "response.reasoning": lambda a: _response(a).reasoning,
    "response.tool_calls": lambda a: _calls(_response(a).tool_calls, a.parsing),
    "candidates": _candidates,
    "usage.input": lambda a: _outcome(a).usage.input_tokens,
    "usage.output": lambda a: _outcome(a).usage.output_tokens,
    "usage.cache_read": lambda a: _outcome(a).usage.cache_read_tokens,
    "usage.reasoning": lambda a: _outcome(a).usage.reasoning_tokens,
    "cost.usd": lambda a: _usd(_outcome(a).nanousd, "usd"),
    "latency.ttft_ms": lambda a: _outcome(a).ttft_ms,
    "latency.total_ms": lambda a: _outcome(a).total_ms,
    "latency.guard_ms": lambda a: _outcome(a).guard_ms,
    "spend.request": _of_request,
    "spend.request.est_usd": lambda a: _usd(a.facts.spend.est_nanousd, "est_usd"),
    "spend.request.max_usd": lambda a: _usd(a.facts.spend.max_nanousd, "max_usd"),
    "spend.conversation": lambda a: _totals(a.facts.spend.conversation),
    "spend.conversation.usd": lambda a: _totals(a.facts.spend.conversation)["usd"],
    "spend.conversation.tokens": lambda a: a.facts.spend.conversation.tokens,
    "spend.conversation.calls": lambda a: a.facts.spend.conversation.calls,
    "spend.user": lambda a: _totals(_user(a)),
    "spend.user.usd": lambda a: _totals(_user(a))["usd"],
    "spend.user.tokens": lambda a: _user(a).tokens,
    "spend.user.calls": lambda a: _user(a).calls,
    "spend.tenant": lambda a: _totals(a.facts.spend.tenant),
    "spend.tenant.usd": lambda a: _totals(a.facts.spend.tenant)["usd"],
    "spend.tenant.tokens": lambda a: a.facts.spend.tenant.tokens,
    "spend.tenant.calls": lambda a: a.facts.spend.tenant.calls,
    "spend.remaining": lambda a: {"usd": _remaining(a)},
    "spend.remaining.usd": _remaining,
    "spend.agent": lambda a: _totals(a.facts.spend.agent),
    "spend.agent.usd": lambda a: _totals(a.facts.spend.agent)["usd"],
    "spend.agent.tokens": lambda a: a.facts.spend.agent.tokens,
    "spend.agent.calls": lambda a: a.facts.spend.agent.calls,
    **TOOL_MAKERS,
}
