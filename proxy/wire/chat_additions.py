"""Owns what Handrail adds to a chat request: settings, instructions, and the turn that tells the model of its calls.

In: a request, and what rules say. Out: another request, its tree and its nouns alike. Never: a message of the client's
changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec.structs import replace

from proxy.terms import Json, Message, Reply, Request

_SYSTEM = ("system", "developer")
_LIMITS = ("max_completion_tokens", "max_tokens")
"""What the output limit is called, now and before; a request may have both."""


def with_settings(request: Request, settings: Mapping[str, Json]) -> Request:
    """Return the request with `instructions` after its own, and with other `max_tokens` or `temperature`."""
    changed = request
    for name, value in settings.items():
        changed = _SETTERS[name](changed, value)
    return replace(changed, raw=b"") if settings else request


def _instructed(request: Request, value: Json) -> Request:
    listed: list[Json] = list(cast("list[Json]", request.body["messages"]))
    place = next((n for n, message in enumerate(request.messages) if message.role not in _SYSTEM), len(listed))
    role = request.messages[place - 1].role if place else "system"
    said = cast("str", value)
    messages = (*request.messages[:place], Message(role=role, text=said), *request.messages[place:])
    listed.insert(place, {"role": role, "content": said})
    return replace(request, body={**request.body, "messages": listed}, messages=messages)


def _limited(request: Request, value: Json) -> Request:
    limit = cast("int", value)
    given = [key for key in _LIMITS if key in request.body] or [_LIMITS[0]]
    return replace(request, body={**request.body, **dict.fromkeys(given, limit)}, max_output_tokens=limit)


def _tempered(request: Request, value: Json) -> Request:
    return replace(request, body={**request.body, "temperature": value}, temperature=float(cast("float", value)))


_SETTERS = {"instructions": _instructed, "max_tokens": _limited, "temperature": _tempered}


def with_turn(request: Request, reply: Reply, results: Mapping[str, str]) -> Request | None:
    """Return the request with the model's own message and what became of each of its calls; the model may choose freely
    what to do then. None where such a turn cannot be written: a call without an id, or one that is no function."""
    customs = {tool["custom"]["name"] for tool in _tools(request) if isinstance(tool.get("custom"), dict)}
    if any(call.id not in results or not call.id or call.name in customs for call in reply.tool_calls):
        return None
    calls: list[Json] = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.tool_calls
    ]
    turn: list[Json] = [{"role": "assistant", "content": reply.text or None, "tool_calls": calls}]
    turn += [{"role": "tool", "tool_call_id": call.id, "content": results[call.id]} for call in reply.tool_calls]
    body = {**request.body, "messages": [*cast("list[Json]", request.body["messages"]), *turn]}
    if "tool_choice" in body:
        body["tool_choice"] = "auto"
    answers = (Message(role="tool", text=results[call.id], tool_call_id=call.id) for call in reply.tool_calls)
    spoken = Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls)
    return replace(request, body=body, raw=b"", messages=(*request.messages, spoken, *answers))


def _tools(request: Request) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", request.body.get("tools") or [])
