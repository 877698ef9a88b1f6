"""Owns what expressions can read of tools: their calls, their results, and what the request offers.

In: Facts. Out: how each of these variables is made. Never: what a rule makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from proxy import cel
from proxy.policy.activation import Activation, Maker
from proxy.policy.arguments import call_digest, conforms, parse, parse_object
from proxy.policy.origins import origins
from proxy.policy.rule import digest_of
from proxy.terms import Result, ToolCall, ToolSpec


def _tool_counts(activation: Activation) -> dict[str, int]:
    counts: dict[str, int] = {}
    for message in activation.facts.request.messages:
        for call in message.tool_calls:
            counts[call.name] = counts.get(call.name, 0) + 1
    return counts


def _tool_results(activation: Activation) -> list[object]:
    return list(_results(activation))


def _results(activation: Activation) -> Iterator[dict[str, object]]:
    called: dict[str, str] = {}
    verified = {result.message: result.age_ms for result in activation.facts.results if result.verified}
    for number, message in enumerate(activation.facts.request.messages):
        for call in message.tool_calls:
            called[call.id] = call.name
        if message.role == "tool":
            name = called.get(message.tool_call_id, "")
            value = _json(message.text, activation.parsing)
            age = {"age_s": verified[number] / 1000} if number in verified else {}
            told = {"tool": name, "call_id": message.tool_call_id, "json": value, "text": message.text}
            yield {**told, "verified": number in verified, **age}


def _json(text: str, parsing: cel.Budget) -> object:
    """Return the value of a result that is strict JSON, else null; what is too much to read is an error."""
    try:
        return parse(text, parsing)
    except cel.CelError as error:
        if error.kind == "budget":
            raise
        return None


def _result(activation: Activation) -> Result:
    if activation.facts.result is None:
        raise cel.CelError("no_such_variable", "there is no tool result to judge")
    return activation.facts.result


def _tool(activation: Activation) -> ToolCall:
    if activation.facts.tool is None:
        raise cel.CelError("no_such_variable", "there is no tool call to judge")
    return activation.facts.tool


def _valid_json(activation: Activation) -> bool:
    try:
        activation["tool.args"]
    except cel.CelError:
        return False
    return True


def _call_digest(activation: Activation) -> str:
    return call_digest(_tool(activation).name, activation["tool.args"])


def _registered(activation: Activation) -> bool:
    return any(spec.name == _tool(activation).name for spec in activation.facts.request.tools)


def _schema_ok(activation: Activation) -> bool:
    call, specs = _tool(activation), activation.facts.request.tools
    schemas = [spec.schema for spec in specs if spec.name == call.name]
    arguments = cast("dict[str, object]", activation["tool.args"])
    return bool(schemas) and all(conforms(arguments, call.arguments, schema) for schema in schemas)


def definitions(tools: Sequence[ToolSpec]) -> dict[str, str]:
    """Return a digest of what is said of each tool: its description and its schema, twice if it is offered twice."""
    said: dict[str, list[object]] = {}
    for spec in tools:
        said.setdefault(spec.name, []).append([spec.description, spec.schema])
    return {name: digest_of([name, all_of_it]) for name, all_of_it in said.items()}


def changed(tools: Sequence[ToolSpec], first: Mapping[str, str]) -> list[str]:
    """Return the tools that were first offered with another definition."""
    return sorted(name for name, digest in definitions(tools).items() if first.get(name, digest) != digest)


def _changed(activation: Activation) -> list[str]:
    return changed(activation.facts.request.tools, activation.facts.session.tools)


def _digest(activation: Activation) -> str:
    name = _tool(activation).name
    digest = definitions([spec for spec in activation.facts.request.tools if spec.name == name]).get(name)
    if digest is None:
        raise cel.CelError("no_such_field", f"no such field: digest (the request does not offer {name})")
    return digest


def _origin(activation: Activation) -> object:
    return origins(activation["tool.args"], activation.facts, activation.parsing)


TOOL_MAKERS: Mapping[str, Maker] = {
    "conversation.tool_counts": _tool_counts,
    "conversation.tool_results": _tool_results,
    "result.tool": lambda a: _result(a).tool,
    "result.call_id": lambda a: _result(a).call_id,
    "result.text": lambda a: _result(a).text,
    "result.json": lambda a: _json(_result(a).text, a.parsing),
    "result.verified": lambda a: _result(a).verified,
    "result.new": lambda a: _result(a).new,
    "result.bytes": lambda a: len(_result(a).text.encode("utf-8", "surrogatepass")),
    "tool.name": lambda a: _tool(a).name,
    "tool.id": lambda a: _tool(a).id,
    "tool.index": lambda a: _tool(a).index,
    "tool.args": lambda a: parse_object(_tool(a).arguments, a.parsing),
    "tool.args_raw": lambda a: _tool(a).arguments,
    "tool.call_digest": _call_digest,
    "tool.valid_json": _valid_json,
    "tool.registered": _registered,
    "tool.schema_ok": _schema_ok,
    "tool.origin": _origin,
    "tool.digest": _digest,
    "tool.changed": lambda a: _tool(a).name in _changed(a),
    "request.tools_changed": _changed,
}
"""How each variable is made."""
