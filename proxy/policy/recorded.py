"""Owns what was kept of a call as policy tests: each check becomes a case that expects what was decided.

In: what was kept. Out: the tree of an AgentPolicyTest. Never: a text beyond what was kept; a decision made anew.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.policy.charges import beside
from proxy.policy.rule import NANO
from proxy.terms import (
    Candidate,
    Checked,
    Decision,
    Facts,
    GuardResult,
    Kept,
    Message,
    Outcome,
    Reply,
    Request,
    Result,
    Spend,
    ToolCall,
    ToolSpec,
    Totals,
)

NO_FINDING: Mapping[str, Any] = {"flagged": False}


def recorded(kept: Iterable[Kept], policies: Iterable[str]) -> dict[str, Any]:
    """Return the tests that calls make; `policies` are paths as the file of the tests will name them."""
    cases = [_case(check) for one in kept for check in one.checks]
    return {
        "apiVersion": "handrail.dev/v1alpha1",
        "kind": "AgentPolicyTest",
        "spec": {"policies": list(policies), "cases": cases},
    }


def _case(check: Checked) -> dict[str, Any]:
    facts = check.facts
    decision = beside(check.decision, facts.totals)
    mocks = _filled(
        guards={name: _guard(result) for name, result in facts.guards.items()},
        spend=_spend(facts.spend),
        totals={name: used / NANO for name, used in facts.totals.items()},
    )
    return {
        "name": decision.id,
        "phase": str(decision.phase),
        "given": _given(facts),
        **_filled(mocks=mocks),
        "expect": _expected(decision),
    }


def _filled(**values: Any) -> dict[str, Any]:
    """Return what says something: what is empty is what a case has by default."""
    return {name: value for name, value in values.items() if value not in (None, "", (), [], {}, False)}


def _expected(decision: Decision) -> dict[str, Any]:
    way = decision.way
    shadow = str(decision.shadow_verdict)
    return {
        "verdict": str(decision.verdict),
        "reason": decision.reason,
        "redactions": sorted({span.kind for span in decision.spans}),
        "labels": sorted(decision.labels),
        "strip": sorted(decision.strip),
        "obligations": sorted(map(str, decision.obligations)),
        "shadowVerdict": shadow,
        **_filled(
            rule=decision.rule.rpartition("@")[0],
            to=way and (way.to or f"cheapest:{','.join(way.tags)}"),
            annotations=dict(decision.annotations),
            level=str(decision.level or ""),
            queue=decision.escalation.queue if decision.escalation else "",
        ),
    }


# --- what is given --------------------------------------------------------------------------------------------------


def _given(facts: Facts) -> dict[str, Any]:
    caller, session = facts.caller, facts.session
    conversation = _filled(labels=list(facts.labels), escalated=bool(session.escalation))
    return {
        "now": datetime.datetime.fromtimestamp(facts.at_ms / 1000, datetime.UTC).isoformat(),
        "agent": {"id": caller.agent, "level": str(caller.level)},
        "conversation": {"id": session.id, "turn": max(1, session.turn), **conversation},
        "request": _request(facts),
        **_filled(
            caller=_filled(tenant=caller.tenant, claims=dict(caller.claims)),
            result=facts.result and {**_result(facts.result), "call_id": facts.result.call_id},
            chunk=facts.chunk and {"text": facts.chunk.text, "final": facts.chunk.final},
            tool=facts.tool and _call(facts.tool),
            response=facts.response and _reply(facts.response),
            candidates=[_candidate(candidate) for candidate in facts.candidates],
            **(_outcome(facts.outcome) if facts.outcome else {}),
        ),
    }


def _request(facts: Facts) -> dict[str, Any]:
    request, results = facts.request, {result.message: result for result in facts.results}
    messages = [_message(message, results.get(number)) for number, message in enumerate(request.messages)]
    return {
        "model": request.model,
        "messages": messages,
        **_settings(request),
        **_filled(
            tools=[_tool(tool) for tool in request.tools],
            metadata=dict(request.metadata),
            headers=dict(facts.headers),
        ),
    }


def _settings(request: Request) -> dict[str, Any]:
    known = {"max_tokens": request.max_output_tokens, "temperature": request.temperature}
    told = {name: value for name, value in known.items() if value is not None}
    return {**told, **_filled(stream=request.stream, structured=request.structured)}


def _message(message: Message, result: Result | None) -> dict[str, Any]:
    return {
        "role": message.role,
        **_filled(
            text=message.text,
            tool_calls=[_call(call) for call in message.tool_calls],
            tool_call_id=message.tool_call_id,
            verified=result is not None and result.verified,
            age_s=result.age_ms / 1000 if result and result.age_ms else 0,
        ),
    }


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = tool.schema if isinstance(tool.schema, dict) else None
    return {
        "name": tool.name,
        **_filled(description=tool.description),
        **({} if schema is None else {"schema": schema}),
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "id": call.id, "index": max(0, call.index), "args_raw": call.arguments}


def _result(result: Result) -> dict[str, Any]:
    return {
        "tool": result.tool,
        "text": result.text,
        "new": result.new,
        **_filled(verified=result.verified, age_s=result.age_ms / 1000),
    }


def _reply(reply: Reply) -> dict[str, Any]:
    calls = [_call(call) for call in reply.tool_calls]
    said = {"text": reply.text, "finish_reason": reply.finish_reason}
    return {**said, **_filled(model=reply.model, refusal=reply.refusal, reasoning=reply.reasoning, tool_calls=calls)}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    target = candidate.target
    prices = {"in_usd_m": candidate.input_nanousd, "out_usd_m": candidate.output_nanousd}
    return {
        "model": target.alias,
        "provider": target.provider,
        "healthy": candidate.healthy,
        **{name: nanousd / NANO for name, nanousd in prices.items() if nanousd is not None},
        **_filled(tags=list(target.tags), context=target.context),
        **({} if candidate.p50_ms is None else {"p50_ms": candidate.p50_ms}),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    return {
        "usage": {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_tokens,
            "reasoning": usage.reasoning_tokens,
        },
        "cost": {} if outcome.nanousd is None else {"usd": outcome.nanousd / NANO},
        "latency": {name: getattr(outcome, name) for name in ("ttft_ms", "total_ms", "guard_ms")},
    }


# --- what is mocked -------------------------------------------------------------------------------------------------


def _guard(result: GuardResult) -> dict[str, Any]:
    if result.error or not result.ran:
        return {"error": result.error or "not_run"}
    found = [
        {"label": f.label, "score": f.score, "start": f.start, "end": f.end, **_filled(reason=f.reason)}
        for f in result.findings
    ]
    return {"findings": found} if found else dict(NO_FINDING)


def _spend(spend: Spend) -> dict[str, Any]:
    amounts = {"est_usd": spend.est_nanousd, "max_usd": spend.max_nanousd}
    counted = {name: _totals(getattr(spend, name)) for name in ("conversation", "agent", "tenant")}
    return _filled(
        request={name: nanousd / NANO for name, nanousd in amounts.items() if nanousd is not None},
        **{name: totals for name, totals in counted.items() if any(totals.values())},
        user=spend.user and _totals(spend.user),
        remaining=None if spend.remaining_nanousd is None else {"usd": spend.remaining_nanousd / NANO},
    )


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "usd": (totals.nanousd + totals.reserved_nanousd) / NANO,
        "tokens": totals.tokens,
        "calls": totals.calls,
    }
