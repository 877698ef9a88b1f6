"""Owns a request of the Responses API said as a chat completion, for providers that do not speak the former.

In: a decoded request. Out: the same as a chat request. Never: a field or an item lost in silence: what chat completions
cannot say is refused by name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy import openai_json, responses_json
from proxy.errors import BadRequest
from proxy.terms import Request

_SAME = (
    "metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "stream", "temperature",
    "top_logprobs", "top_p", "user",
)  # fmt: skip
_FREE = frozenset({"include", "prompt_cache_retention", "store", "stream_options", "truncation"})
"""What only says how OpenAI keeps or sends a reply."""
_TAKEN = frozenset({"input", "instructions", "max_output_tokens", "model", "reasoning", "text", "tool_choice", "tools"})
SEALED = "handrail:"
"""What begins a reasoning's `encrypted_content` that holds what another provider wants back."""


def as_chat(request: Request) -> Request:
    """Return the request as a chat completion; raise BadRequest naming what that cannot say."""
    body = request.body
    for key, value in body.items():
        if value not in (None, [], {}) and key not in _SAME and key not in _FREE and key not in _TAKEN:
            raise _cannot(key)
    chat: dict[str, Any] = {"model": request.model, "messages": list(_messages(body))}
    chat |= {key: body[key] for key in _SAME if body.get(key) is not None}
    if request.max_output_tokens is not None:
        chat["max_completion_tokens"] = request.max_output_tokens
    if request.stream:
        chat["stream_options"] = {"include_usage": True}
    if body.get("top_logprobs"):
        chat["logprobs"] = True
    chat |= _thought(body) | _formatted(body) | _tooled(body)
    return replace(request, dialect="chat", body=chat, raw=b"")


def _cannot(param: str) -> BadRequest:
    message = f"{param}: a provider that does not speak the Responses API has no way to say it."
    return BadRequest(message, code="unsupported_parameter", param=param)


def _thought(body: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = body.get("reasoning") or {}
    return {"reasoning_effort": reasoning["effort"]} if reasoning.get("effort") else {}


def _formatted(body: Mapping[str, Any]) -> dict[str, Any]:
    text = body.get("text") or {}
    chat = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    wanted = text.get("format") or {}
    if wanted.get("type") == "json_schema":
        schema = {key: value for key, value in wanted.items() if key != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    return chat


# --- tools ----------------------------------------------------------------------------------------------------------


def _tooled(body: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(body["tools"])]
    if (choice := body.get("tool_choice")) is not None:
        chat["tool_choice"] = choice if type(choice) is str else _choice(choice)
    return chat


def _tool(tool: Mapping[str, Any], param: str) -> dict[str, Any]:
    kind = tool.get("type")
    if kind not in openai_json.ARGUMENTS:
        raise _cannot(param)
    return {"type": kind, kind: {key: value for key, value in tool.items() if key != "type" and value is not None}}


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    if choice.get("type") == "allowed_tools":
        tools = [_choice(tool) for tool in choice.get("tools") or ()]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": tools}}
    if choice.get("type") not in openai_json.ARGUMENTS:
        raise _cannot("tool_choice")
    return {"type": choice["type"], choice["type"]: {"name": choice.get("name")}}


# --- messages -------------------------------------------------------------------------------------------------------


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the messages; calls that stand side by side are one turn, with what was thought and said before them."""
    if body.get("instructions"):
        yield {"role": "system", "content": body["instructions"]}
    if type(body.get("input")) is str:
        yield {"role": "user", "content": body["input"]}
        return
    turn: dict[str, Any] = {}
    for number, item in enumerate(body.get("input") or ()):
        role, said = _read(item, f"input[{number}]")
        if role != "assistant" or (turn and said.get("content") and turn.get("content")):
            yield from [turn] if turn else []
            turn = {}
        if role != "assistant":
            yield said
            continue
        turn = turn or {"role": "assistant", "content": None}
        turn["tool_calls"] = [*turn.get("tool_calls", ()), *said.pop("tool_calls", ())]
        turn |= said
        if not turn["tool_calls"]:
            del turn["tool_calls"]
    yield from [turn] if turn else []


def _read(item: Mapping[str, Any], param: str) -> tuple[str, dict[str, Any]]:
    """Return the role of an item and what it says; of an assistant's without the role."""
    kind = item.get("type") or "message"
    if kind in responses_json.ARGUMENTS:
        return "assistant", {"tool_calls": [_call(item, kind)]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        content = _content(item.get("output"), f"{param}.output")
        return "tool", {"role": "tool", "tool_call_id": responses_json.call_id(dict(item)), "content": content}
    if kind == "reasoning":
        return "assistant", _reasoning(item)
    if kind != "message":
        raise _cannot(param)
    role, content = str(item.get("role") or ""), _content(item.get("content"), f"{param}.content")
    return role, {"content": content} if role == "assistant" else {"role": role, "content": content}


def _call(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a call as messages have it."""
    chat_kind = "function" if kind == "function_call" else "custom"
    said = {"name": item.get("name"), openai_json.ARGUMENTS[chat_kind]: item.get(responses_json.ARGUMENTS[kind])}
    return {"id": item.get("call_id"), "type": chat_kind, chat_kind: said}


def _reasoning(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was thought; what another provider wants back of it was kept by us where OpenAI's own is sealed."""
    sealed = str(item.get("encrypted_content") or "")
    if sealed.startswith(SEALED):
        try:
            blocks = msgspec.json.decode(base64.b64decode(sealed.removeprefix(SEALED), validate=True))
        except (msgspec.DecodeError, binascii.Error):
            return {}
        return {"thinking_blocks": blocks}
    parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
    text = "".join(part.get("text") or "" for part in parts if type(part) is dict)
    return {"reasoning_content": text} if text else {}


def _content(content: Any, param: str) -> Any:
    if type(content) is not list:
        return content
    parts = [_part(part, f"{param}[{number}]") for number, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts) if len(parts) != 1 else parts[0]["text"]
    return parts


def _part(part: Mapping[str, Any], param: str) -> dict[str, Any]:
    kind = str(part.get("type"))
    made = _PARTS[kind](part) if kind in _PARTS else None
    if made is None:
        raise _cannot(param)
    return made


def _image(part: Mapping[str, Any]) -> dict[str, Any] | None:
    if not part.get("image_url"):
        return None
    detail = {"detail": part["detail"]} if part.get("detail") else {}
    return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}


def _file(part: Mapping[str, Any]) -> dict[str, Any] | None:
    if not part.get("file_data"):
        return None
    return {"type": "file", "file": {key: part[key] for key in ("filename", "file_data") if part.get(key)}}


def _text(key: str) -> Callable[[Mapping[str, Any]], dict[str, Any] | None]:
    return lambda part: {"type": "text", "text": part.get(key) or ""}


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
    "input_text": _text("text"),
    "output_text": _text("text"),
    "text": _text("text"),
    "refusal": _text("refusal"),
    "input_image": _image,
    "input_file": _file,
    "input_audio": lambda part: {"type": "input_audio", "input_audio": part.get("input_audio")},
}
