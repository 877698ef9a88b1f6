"""Owns the bytes of chat completions that Handrail changes or says itself.

In: a changed Delta, a Reply, a failure. Out: the bytes an OpenAI client expects, streamed or not. Never: a field of the
provider's reply lost where only another one changed.
"""

from __future__ import annotations

from typing import Any

from proxy import framing, openai_json
from proxy.errors import HandrailError
from proxy.openai_json import Tree
from proxy.terms import ChoiceDelta, Delta, End, Fault, Reply, Request, ToolCallDelta, Usage

DONE = b"data: [DONE]\n\n"


class ChatWriter:
    """Writes the reply to one request."""

    def __init__(self, request: Request, *, reply_id: str, at_ms: int) -> None:
        self._request = request
        self._reply_id = reply_id
        self._at_ms = at_ms

    def write(self, delta: Delta, *, native: bool) -> bytes:
        """Return the delta's own bytes, or what it says now that it was changed."""
        return delta.frame or encode(delta, self._request)

    def end(self) -> bytes:
        """Return nothing: the end marker is an event like others."""
        return b""

    def compose(self, reply: Reply, usage: Usage) -> list[Delta | End]:
        """Return a whole reply that Handrail makes itself."""
        return compose(reply, self._request, reply_id=self._reply_id, at_ms=self._at_ms, usage=usage)

    def cut(self, reply: Reply, usage: Usage) -> list[Delta | End]:
        """Return the end of a stream that has begun."""
        return cut(reply, self._request, reply_id=self._reply_id, at_ms=self._at_ms, usage=usage)

    def fault(self, fault: Fault) -> bytes:
        """Return what tells of a failure."""
        return fault_frame(fault, self._request)


def encode(delta: Delta, request: Request) -> bytes:
    """Return the bytes of a delta that was changed: its tree, with what its choices say now."""
    tree: Any = delta.tree
    key = "delta" if request.stream else "message"
    choices = [_changed(entry, key, now) for entry, now in zip(tree["choices"], delta.choices, strict=True)]
    return _framed({**tree, "choices": choices}, request)


def _changed(entry: Any, key: str, now: ChoiceDelta) -> Any:
    if type(entry) is not dict:
        return entry
    part = entry.get(key)
    part = dict(part) if type(part) is dict else {}
    entry = {**entry, key: part}
    if _say(part, now) and "logprobs" in entry:
        entry["logprobs"] = None  # they spell out the text that was there
    _call(part, now.tool_calls)
    if now.finish_reason != openai_json.text(entry.get("finish_reason")):
        entry["finish_reason"] = now.finish_reason or None
    return entry


def _say(part: Tree, now: ChoiceDelta) -> bool:
    """Put the texts in place; tell whether any changed."""
    changed = False
    if now.text != openai_json.words(part):
        part["content"], changed = now.text, True
        part.pop("audio", None)  # it says aloud what was there
    if now.refusal != openai_json.text(part.get("refusal")):
        part["refusal"], changed = now.refusal, True
    if now.reasoning != openai_json.reasoning(part):
        _reason(part, now)
        changed = True
    return changed


def _reason(part: Tree, now: ChoiceDelta) -> None:
    """Put the reasoning in place: where it stands in parts, these go."""
    if type(part.get("content")) is list:
        part["content"] = now.text
    for key in openai_json.REASONING:
        if type(part.get(key)) is list:
            del part[key]
    for key in [key for key in openai_json.REASONING if key in part] or ["reasoning"]:
        part[key] = now.reasoning


def _call(part: Tree, calls: tuple[ToolCallDelta, ...]) -> None:
    """Leave in `part` the tool calls that are left, with their numbers and arguments of now."""
    listed = part.pop("tool_calls", None)
    kept = [_rewritten(listed[call.position], call) for call in calls if call.index != openai_json.LEGACY_CALL]
    if kept:
        part["tool_calls"] = kept
    legacy = next((call.arguments for call in calls if call.index == openai_json.LEGACY_CALL), None)
    if legacy is None:
        part.pop("function_call", None)
    elif legacy != openai_json.arguments(part["function_call"].get("arguments")):
        part["function_call"] = {**part["function_call"], "arguments": legacy}


def _rewritten(call: Tree, now: ToolCallDelta) -> Tree:
    changed = dict(call)
    if "index" in call:
        changed["index"] = now.index
    for kind, argument in openai_json.ARGUMENTS.items():
        if type(body := call.get(kind)) is dict and openai_json.arguments(body.get(argument)) != now.arguments:
            changed[kind] = {**body, argument: now.arguments}
    return changed


# --- our own words --------------------------------------------------------------------------------------------------


def compose(reply: Reply, request: Request, *, reply_id: str, at_ms: int, usage: Usage) -> list[Delta | End]:
    """Return a whole reply that Handrail makes itself, streamed if the request is; every choice asked for says it."""
    if request.stream:
        role = _chunk(reply, request, reply_id, at_ms, {"role": "assistant", "content": "", "refusal": None})
        return [role, *cut(reply, request, reply_id=reply_id, at_ms=at_ms, usage=usage)]
    message = {"role": "assistant", **_said(reply), "refusal": None}
    tree = _envelope(reply, request, reply_id, at_ms)
    tree["choices"] = _each(request, {"message": message, "logprobs": None, "finish_reason": _finish(reply)})
    tree["usage"] = openai_json.usage_object(usage)
    return [Delta(frame=openai_json.dump(tree)), End()]


def cut(reply: Reply, request: Request, *, reply_id: str, at_ms: int, usage: Usage) -> list[Delta | End]:
    """Return the end of a stream: the text, its finish reason, usage if it was asked for, and the end marker."""
    parts: list[Delta | End] = [
        _chunk(reply, request, reply_id, at_ms, _said(reply, numbered=True)),
        _chunk(reply, request, reply_id, at_ms, {}, finish_reason=_finish(reply)),
    ]
    if request.usage_asked:
        tree = {**_envelope(reply, request, reply_id, at_ms), "choices": [], "usage": openai_json.usage_object(usage)}
        parts.append(Delta(frame=_framed(tree, request), usage_only=True))
    return [*parts, End(frame=DONE)]


def _said(reply: Reply, numbered: bool = False) -> Tree:
    """Return what a reply of our own says: a text, or calls of the agent's own tools."""
    if not reply.tool_calls:
        return {"content": reply.text}
    calls = [
        {
            **({"index": place} if numbered else {}),
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for place, call in enumerate(reply.tool_calls)
    ]
    return {"content": reply.text or None, "tool_calls": calls}


def _chunk(
    reply: Reply, request: Request, reply_id: str, at_ms: int, delta: Tree, finish_reason: str | None = None
) -> Delta:
    tree = _envelope(reply, request, reply_id, at_ms)
    tree["choices"] = _each(request, {"delta": delta, "logprobs": None, "finish_reason": finish_reason})
    return Delta(frame=_framed(tree, request))


def _envelope(reply: Reply, request: Request, reply_id: str, at_ms: int) -> Tree:
    kind = "chat.completion.chunk" if request.stream else "chat.completion"
    return {"id": reply_id, "object": kind, "created": at_ms // 1000, "model": reply.model or request.model}


def _each(request: Request, choice: Tree) -> list[Tree]:
    return [{"index": index, **choice} for index in range(request.choices)]


def _finish(reply: Reply) -> str:
    return reply.finish_reason or "content_filter"


def _framed(tree: Tree, request: Request) -> bytes:
    text = openai_json.dump(tree)
    return framing.encode(text) if request.stream else text


# --- failures -------------------------------------------------------------------------------------------------------


def error_body(error: HandrailError) -> bytes:
    """Return the OpenAI error object."""
    return openai_json.error_object(error.message, error.type, error.code, error.param)


def fault_frame(fault: Fault, request: Request) -> bytes:
    """Return the bytes that tell a client mid-reply that it failed; an end marker never follows, for it did not end."""
    text = openai_json.error_object(fault.message, fault.type, fault.code)
    return framing.encode(text) if request.stream else text
