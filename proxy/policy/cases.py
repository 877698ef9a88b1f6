"""Owns the cases of policy tests: what a person wrote as `given` and `mocks` becomes Facts.

In: checked AgentPolicyTest documents. Out: Cases. Never: a fact that the case does not give, beyond named defaults.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from proxy.documents import Path, Problems, Text
from proxy.policy.patterns import compiled
from proxy.policy.rule import nanousd
from proxy.policy.tool_facts import definitions
from proxy.terms import (
    Caller,
    Candidate,
    Chunk,
    Facts,
    Finding,
    GuardResult,
    Json,
    Level,
    Message,
    Outcome,
    Phase,
    Reply,
    Request,
    Result,
    Session,
    Spend,
    Target,
    ToolCall,
    ToolSpec,
    Totals,
    Usage,
)

NOW = "2026-01-05T10:00:00Z"
AGENT, MODEL, PROVIDER, PRINCIPAL, SESSION = "agent", "model", "provider", "tester", "conversation"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One case, with one choice of every matrix row."""

    name: str
    position: str
    phase: Phase
    facts: Facts
    expect: Mapping[str, Any]
    gate: bool
    """No set serves that does not pass it."""
    chunks: tuple[str, ...]
    """The pieces of a streamed reply, where it is one that is judged."""
    mocked: frozenset[str]
    """Guards that were mocked to fail."""


def cases(text: Text, problems: Problems) -> list[Case]:
    """Return all cases of a document; what cannot be turned into facts goes on the list."""
    tree: Any = text.value
    spec, found = tree["spec"], []
    for number, case in enumerate(spec["cases"]):
        for choice, given in _variants(merged(spec.get("defaults", {}), case.get("given", {})), case.get("matrix", {})):
            mocks = merged(spec.get("mocks", {}), case.get("mocks", {}))
            made = _case(case, given, mocks, text, ("spec", "cases", number), problems)
            found += [msgspec.structs.replace(made, name=f"{made.name}{choice}")] if made else []
    return found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree over another; lists and scalars are replaced whole."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _variants(given: dict[str, Any], matrix: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each combination of the matrix, with a name that tells it from the others."""
    for values in itertools.product(*matrix.values()):
        choice, variant = dict(zip(matrix, values, strict=True)), given
        for path, value in choice.items():
            variant = merged(variant, _nested(path.split("."), value))
        yield f" [{', '.join(f'{path}={value}' for path, value in choice.items())}]" if choice else "", variant


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    return {path[0]: _nested(path[1:], value) if path[1:] else value}


def _case(
    case: Mapping[str, Any], given: dict[str, Any], mocks: Mapping[str, Any], text: Text, at: Path, problems: Problems
) -> Case | None:
    phase = Phase(case["phase"])
    subject = {
        Phase.TOOL_RESULT: "result",
        Phase.CHUNK: "chunk",
        Phase.TOOL_CALL: "tool",
        Phase.RESPONSE: "response",
    }
    try:
        needed = subject.get(phase)
        chunks = tuple(given.get("chunks", ())) if phase is Phase.CHUNK else ()
        if chunks:
            given = {**given, "chunk": {"text": "".join(chunks)}}
        elif streamed := sorted({"released", "text"} & case["expect"].keys()):
            raise ValueError(f"`expect.{streamed[0]}` needs `given.chunks`, in phase chunk")
        if needed and needed not in given:
            raise ValueError(f"a case of phase {phase} needs `given.{needed}`")
        compiled(case["expect"].get("messageMatches", ""))
        facts = _facts(given, mocks)
    except ValueError as error:
        problems.add(text.at(at), str(error))
        return None
    failing = frozenset(name for name, mock in mocks.get("guards", {}).items() if "error" in mock)
    return Case(
        name=case["name"],
        position=text.at(at),
        phase=phase,
        facts=facts,
        expect=case["expect"],
        gate=case.get("gate", False),
        chunks=chunks,
        mocked=failing,
    )


def _facts(given: Mapping[str, Any], mocks: Mapping[str, Any]) -> Facts:
    agent, conversation = given.get("agent", {}), given.get("conversation", {})
    request, result = given.get("request", {}), _result(given["result"]) if "result" in given else None
    earlier, before = conversation.get("tool_results", ()), len(request.get("messages", ()))
    told = _told(request.get("messages", ()))
    if result:
        # The one that is judged stands where its message does, if there is one.
        place = next((number for number, one in enumerate(told) if one.call_id == result.call_id), len(told))
        message = told[place].message if told[place:] else result.message
        result = msgspec.structs.replace(result, message=message)
        told = (*told[:place], result, *told[place + 1 :])
    return Facts(
        at_ms=_at_ms(given.get("now", NOW)),
        caller=Caller(
            agent=agent.get("id", AGENT),
            level=Level(agent.get("level", Level.EXECUTE)),
            principal=PRINCIPAL,
            tenant=given.get("caller", {}).get("tenant", ""),
            claims=_claims(given.get("caller", {})),
        ),
        request=_request(request, earlier),
        session=Session(
            id=conversation.get("id", SESSION),
            turn=conversation.get("turn", 1),
            tools=definitions(_tools(conversation.get("tools", ()))),
            escalation="given" if conversation.get("escalated") else "",
        ),
        labels=tuple(conversation.get("labels", ())),
        # Each stands after the call that it answers.
        results=(*(_result(one, before + 2 * n + 1) for n, one in enumerate(earlier)), *told),
        result=result,
        chunk=_chunk(given["chunk"]) if "chunk" in given else None,
        headers=request.get("headers", {}),
        guards={name: _guard(name, mock) for name, mock in mocks.get("guards", {}).items()},
        spend=_spend(mocks.get("spend", {})),
        totals={name: _nano(used) or 0 for name, used in mocks.get("totals", {}).items()},
        tool=_call(given["tool"], 0) if "tool" in given else None,
        response=_reply(given["response"]) if "response" in given else None,
        candidates=tuple(map(_candidate, given.get("candidates", ()))),
        outcome=_outcome(given),
    )


def _claims(caller: Mapping[str, Any]) -> dict[str, str]:
    tier = {"tier": caller["tier"]} if "tier" in caller else {}
    roles = {"roles": ",".join(caller["roles"])} if "roles" in caller else {}
    return {**caller.get("claims", {}), **tier, **roles}


def _result(given: Mapping[str, Any], message: int = 0) -> Result:
    return Result(
        message=message,
        age_ms=int(given.get("age_s", 0) * 1000),
        tool=given["tool"],
        call_id=given.get("call_id", "call-0"),
        text=_answer(given),
        verified=given.get("verified", False),
        new=given.get("new", True),
    )


def _told(messages: Sequence[Mapping[str, Any]]) -> tuple[Result, ...]:
    """Return the results that messages bring."""
    called = {call.get("id", ""): call["name"] for message in messages for call in message.get("tool_calls", ())}
    newest = max((number for number, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    return tuple(
        _result(
            {**message, "call_id": call_id, "tool": called.get(call_id, ""), "new": number > newest}, message=number
        )
        for number, message in enumerate(messages)
        if message["role"] == "tool"
        for call_id in [message.get("tool_call_id", "")]
    )


def _chunk(given: Mapping[str, Any]) -> Chunk:
    text = given["text"]
    return Chunk(text=text, offset=given.get("offset", 0), end=len(text), final=given.get("final", True))


def _answer(given: Mapping[str, Any]) -> str:
    return str(given.get("text", json.dumps(given["json"]) if "json" in given else ""))


def _at_ms(now: str) -> int:
    moment = datetime.datetime.fromisoformat(now)
    if moment.tzinfo is None:
        raise ValueError(f"`now` is {now}, which lacks a time zone: end it with Z")
    return round(moment.timestamp() * 1000)


def _request(given: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Request:
    messages = [*map(_message, given.get("messages", ())), *_history(results)]
    if "user_text" in given:
        messages.append(Message(role="user", text=given["user_text"]))
    return Request(
        dialect="chat",
        model=given.get("model", MODEL),
        messages=tuple(messages),
        tools=_tools(given.get("tools", ())),
        stream=given.get("stream", False),
        max_output_tokens=given.get("max_tokens"),
        temperature=given.get("temperature"),
        structured=given.get("structured", False),
        metadata=given.get("metadata", {}),
        body={},
        raw=b"",
    )


def _message(given: Mapping[str, Any]) -> Message:
    calls = enumerate(given.get("tool_calls", ()))
    return Message(
        role=given["role"],
        text=given.get("text", ""),
        tool_calls=tuple(_call(call, number) for number, call in calls),
        tool_call_id=given.get("tool_call_id", ""),
    )


def _history(results: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    """Yield the call and the answer behind each tool result of the conversation."""
    for number, result in enumerate(results):
        call_id = f"earlier-{number}"
        call = _call({"name": result["tool"], "args": result.get("args", {}), "id": call_id}, 0)
        yield Message(role="assistant", tool_calls=(call,))
        yield Message(role="tool", text=_answer(result), tool_call_id=call_id)


def _tools(given: Sequence[Any]) -> tuple[ToolSpec, ...]:
    tools = [{"name": tool} if isinstance(tool, str) else tool for tool in given]
    return tuple(
        ToolSpec(name=tool["name"], schema=tool.get("schema"), description=tool.get("description", ""))
        for tool in tools
    )


def _call(given: Mapping[str, Any], number: int) -> ToolCall:
    return ToolCall(
        id=given.get("id", f"call-{number}"),
        name=given["name"],
        arguments=given.get("args_raw", json.dumps(given.get("args", {}))),
        index=given.get("index", number),
    )


def _reply(given: Mapping[str, Any]) -> Reply:
    calls = enumerate(given.get("tool_calls", ()))
    texts = {field: given.get(field, "") for field in ("text", "reasoning", "refusal", "model")}
    return Reply(
        tool_calls=tuple(_call(call, number) for number, call in calls),
        finish_reason=given.get("finish_reason", "stop"),
        **texts,
    )


def _candidate(given: Mapping[str, Any]) -> Candidate:
    alias = given["model"]
    return Candidate(
        target=Target(
            alias=alias,
            provider=given.get("provider", PROVIDER),
            model=alias,
            tags=tuple(given.get("tags", ())),
            context=given.get("context", 0),
        ),
        input_nanousd=_nano(given.get("in_usd_m")),
        output_nanousd=_nano(given.get("out_usd_m")),
        healthy=given.get("healthy", True),
        p50_ms=given.get("p50_ms"),
    )


def _outcome(given: Mapping[str, Any]) -> Outcome:
    usage, latency = given.get("usage", {}), given.get("latency", {})
    return Outcome(
        usage=Usage(**{f"{name}_tokens": tokens for name, tokens in usage.items()}),
        nanousd=_nano(given.get("cost", {}).get("usd")),
        status=200,
        **{f"{name}_ms": latency.get(f"{name}_ms", 0.0) for name in ("ttft", "total", "guard")},
    )


def _guard(name: str, mock: Mapping[str, Any]) -> GuardResult:
    told = mock.get("findings") or [{key: mock[key] for key in ("label", "score", "reason") if key in mock}]
    found = tuple(Finding(guard=name, **{"label": "", **finding}) for finding in told)
    silent = "error" in mock or not mock.get("flagged", True)
    return GuardResult(name=name, version="mock", findings=() if silent else found, error=mock.get("error", ""))


def _spend(mocks: Mapping[str, Any]) -> Spend:
    request: Mapping[str, Json] = mocks.get("request", {})
    return Spend(
        est_nanousd=_nano(request.get("est_usd")),
        max_nanousd=_nano(request.get("max_usd")),
        conversation=_totals(mocks.get("conversation", {})),
        agent=_totals(mocks.get("agent", {})),
        user=_totals(mocks["user"]) if "user" in mocks else None,
        tenant=_totals(mocks.get("tenant", {})),
        remaining_nanousd=_nano(mocks.get("remaining", {}).get("usd")),
    )


def _totals(mock: Mapping[str, Any]) -> Totals:
    return Totals(nanousd=_nano(mock.get("usd", 0)) or 0, tokens=mock.get("tokens", 0), calls=mock.get("calls", 0))


def _nano(usd: object) -> int | None:
    if usd is None:
        return None
    amount = nanousd(usd)
    if amount is None:
        raise ValueError(f"{usd} has more than nine decimals")
    return amount
