"""Owns the dialect `responses`: OpenAI's Responses API as clients speak it.

In: a RawRequest; nouns to say. Out: a Request over the untouched body. Never: a field of the body lost, or a call
decoded in a way in which its provider could read it differently. Follows OpenAI's API reference, "Create a model
response".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from proxy import responses_json
from proxy.errors import BadRequest
from proxy.stretches import reworded
from proxy.terms import Cover, Json, Message, RawRequest, Reply, Request, ToolCall, ToolSpec
from proxy.wire import strict
from proxy.wire.chat_edits import edited
from proxy.wire.chat_replies import error_body
from proxy.wire.fields import bad_field, check_keys
from proxy.wire.responses_chat import as_chat
from proxy.wire.responses_replies import ResponsesWriter

__all__ = [
    "as_chat",
    "decode",
    "error_body",
    "strip_tools",
    "with_max_output",
    "with_reasoning",
    "with_settings",
    "with_texts",
    "with_turn",
    "writer",
]

_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Place: TypeAlias = "int | str"
"""Where a message stands in a body: the number of its item, or the name of its field."""


class _Format(msgspec.Struct):
    type: str = "text"


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str | None = None
    parameters: Any = None
    description: Any = None
    server_label: str | None = None


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    id: str | None = None
    call_id: str | None = None
    approval_request_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: str | list[_Part] | None = None
    output: Any = None
    """Of kinds that are not known it may be anything."""


class _Responses(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]  # it is kept in every record
    input: str | list[_Item] | None = None
    instructions: str | None = None
    tools: list[_Tool] | None = None
    stream: bool | None = None
    max_output_tokens: _Positive | None = None
    temperature: float | None = None
    text: _Text | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    previous_response_id: str | None = None
    background: bool | None = None


_TOP = frozenset({*_Responses.__struct_fields__, "tool_choice", "parallel_tool_calls", "conversation", "prompt"})
_OF_ITEM = frozenset({*_Item.__struct_fields__, "input", "summary", "encrypted_content"})
_OF_PART = frozenset(_Part.__struct_fields__)
_OF_TOOL = frozenset(_Tool.__struct_fields__)
UNSEEN = {
    "background": "a reply that is fetched later would leave unjudged",
    "conversation": "a history that the provider keeps would be read unjudged",
    "prompt": "a prompt that the provider keeps would be read unjudged",
}
"""What cannot be governed, and why."""


def decode(raw: RawRequest) -> Request:
    """Return the request; raise BadRequest naming the field at fault."""
    body = strict.read(raw.body)
    try:
        asked = msgspec.convert(body, _Responses)
    except msgspec.ValidationError as error:
        raise bad_field(error) from None
    _check_spelling(body)
    for param, why in UNSEEN.items():
        if body.get(param):
            raise BadRequest(f"{param}: {why}.", code="unsupported_parameter", param=param)
    return Request(
        dialect="responses",
        model=asked.model,
        messages=tuple([message for _, message in placed(body)]),
        tools=tuple(map(_spec, asked.tools or ())),
        stream=bool(asked.stream),
        usage_asked=True,
        max_output_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        structured=bool(asked.text and asked.text.format and asked.text.format.type != "text"),
        metadata={key: value for key, value in (asked.metadata or {}).items() if type(value) is str},
        user=asked.user or asked.safety_identifier or "",
        previous=asked.previous_response_id or "",
        body=body,
        raw=raw.body,
    )


def _check_spelling(body: dict[str, Any]) -> None:
    """Refuse keys that differ from one the lens reads only in case."""
    check_keys(body, _TOP)
    for item in _items(body):
        check_keys(item, _OF_ITEM)
        for part in _objects(item.get("content")):
            check_keys(part, _OF_PART)
    for tool in body.get("tools") or ():
        check_keys(tool, _OF_TOOL)


def _items(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = body.get("input")
    return listed if type(listed) is list else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if type(entry) is dict] if type(value) is list else []


# --- messages -------------------------------------------------------------------------------------------------------


def placed(body: Mapping[str, Any]) -> Iterator[tuple[Place, Message]]:
    """Yield the messages of a body, each with its place; reasoning that is brought back is none."""
    if body.get("instructions"):
        yield "instructions", Message(role="system", text=body["instructions"])
    if type(body.get("input")) is str:
        yield "input", Message(role="user", text=body["input"])
    for number, item in enumerate(_items(body)):
        if item.get("type") != "reasoning":
            yield number, _message(item)


def _message(item: dict[str, Any]) -> Message:
    kind = item.get("type") or "message"
    if responses_json.is_call(item):
        call = ToolCall(
            id=responses_json.call_id(item), name=responses_json.name(item), arguments=responses_json.arguments(item)
        )
        return Message(role="assistant", tool_calls=(call,))
    if kind in responses_json.ANSWERS:
        text, media = _said(item.get(responses_json.ANSWERS[kind]))
        return Message(role="tool", text=text, media=media, tool_call_id=responses_json.call_id(item))
    if kind == "message":
        text, media = _said(item.get("content"))
        return Message(role=item.get("role") or "", text=text, media=media)
    # What the provider's own tools did, or refers to what only the provider has.
    text, media = _said(item.get("output"))
    return Message(role="assistant", text=text, media=(kind, *media))


def _said(content: Any) -> tuple[str, tuple[str, ...]]:
    """Return the words of a content, and the kinds of its parts that are more than words."""
    if type(content) is not list:
        return (content, ()) if type(content) is str else ("", () if content is None else (type(content).__name__,))
    parts = _objects(content)
    texts = [part[key] for part in parts for key in ("text", "refusal") if type(part.get(key)) is str and part[key]]
    media = [str(part.get("type") or "") for part in parts if not {"text", "refusal"} & part.keys()]
    return "\n".join(texts), tuple(media)


def _spec(tool: _Tool) -> ToolSpec:
    description = tool.description if isinstance(tool.description, str) else ""
    return ToolSpec(
        name=_name(tool.type, tool.name, tool.server_label), schema=tool.parameters, description=description
    )


def _name(kind: Any, name: Any, label: Any) -> str:
    """Return what a tool is called: one that the provider runs by its kind, one of a server by that as well."""
    if kind in ("function", "custom"):
        return str(name or "")
    return f"{kind}.{label}" if label else str(kind)


def _tool_name(tool: Any) -> str:
    return _name(tool.get("type"), tool.get("name"), tool.get("server_label")) if type(tool) is dict else str(tool)


# --- changes --------------------------------------------------------------------------------------------------------


def strip_tools(request: Request, names: Collection[str]) -> Request:
    """Return the request without these tools; a choice among tools that are gone goes as well."""
    body = dict(request.body)
    listed = cast("list[Any]", body.get("tools") or [])
    kept = [tool for tool in listed if _tool_name(tool) not in names]
    choice: Any = body.get("tool_choice")
    if kept:
        body["tools"] = kept
        named = choice.get("tools") or [choice] if type(choice) is dict else []
        if any(_tool_name(tool) in names for tool in named):
            body["tool_choice"] = "auto"
    elif listed:
        for key in ("tools", "tool_choice", "parallel_tool_calls"):
            body.pop(key, None)
    return replace(request, body=body, raw=b"", tools=tuple(tool for tool in request.tools if tool.name not in names))


def with_texts(
    request: Request, texts: Mapping[int, Sequence[Cover]], arguments: Mapping[tuple[int, int], str]
) -> Request:
    """Return the request with stretches of its messages' texts covered, by message, and with other arguments in calls
    of its history, by (message, place among its calls)."""
    body: dict[str, Any] = dict(request.body)
    if type(body.get("input")) is list:
        body["input"] = list(body["input"])
    places = [place for place, _ in placed(body)]
    for number, covers in texts.items():
        _cover(body, places[number], covers)
    for (number, _), said in arguments.items():
        item = body["input"][places[number]]
        key = responses_json.ARGUMENTS.get(item["type"])
        if key:
            body["input"][places[number]] = {**item, key: said}
    return replace(request, body=body, raw=b"", messages=tuple([message for _, message in placed(body)]))


def _cover(body: dict[str, Any], place: Place, covers: Sequence[Cover]) -> None:
    holder: Any = body["input"] if type(place) is int else body
    spot: Any = place
    said = holder[spot]
    if type(said) is str:
        holder[spot] = edited({"content": said}, covers, {})["content"]
        return
    key = responses_json.ANSWERS.get(said.get("type"), "content" if "content" in said else "output")
    holder[spot] = {**said, key: edited({"content": said[key]}, covers, {})["content"]}


def with_reasoning(request: Request, say: Callable[[str], str]) -> Request:
    """Return the request with what `say` makes of the reasoning that its history brings back."""
    listed = _items(request.body)
    changed = [_reasoned(item, say) if item.get("type") == "reasoning" else item for item in listed]
    return request if changed == listed else replace(request, body={**request.body, "input": changed}, raw=b"")


def _reasoned(item: dict[str, Any], say: Callable[[str], str]) -> dict[str, Any]:
    keys = ("summary", "content")
    return {
        key: reworded(value, lambda at, text: say(text) if at.endswith("/text") else text) if key in keys else value
        for key, value in item.items()
    }


def with_settings(request: Request, settings: Mapping[str, Json]) -> Request:
    """Return the request with `instructions` after its own, and with other `max_tokens` or `temperature`."""
    body: dict[str, Any] = dict(request.body)
    changes: dict[str, Any] = {}
    if "instructions" in settings:
        body["instructions"] = "\n\n".join(
            filter(None, (body.get("instructions"), cast("str", settings["instructions"])))
        )
        changes["messages"] = tuple([message for _, message in placed(body)])
    if "max_tokens" in settings:
        body["max_output_tokens"] = changes["max_output_tokens"] = settings["max_tokens"]
    if "temperature" in settings:
        body["temperature"] = settings["temperature"]
        changes["temperature"] = float(cast("float", settings["temperature"]))
    return replace(request, body=body, raw=b"", **changes) if settings else request


def with_turn(request: Request, reply: Reply, results: Mapping[str, str]) -> Request | None:
    """Return None: a model that has reasoned wants back what it thought before a call, which is not said again."""
    return None


def with_max_output(request: Request, tokens: int) -> Request:
    """Return the request with an output limit, where the client gave none."""
    if request.max_output_tokens is not None:
        return request
    return replace(request, body={**request.body, "max_output_tokens": tokens}, raw=b"", max_output_tokens=tokens)


def writer(request: Request, *, reply_id: str, at_ms: int) -> ResponsesWriter:
    """Return what gives the reply to this request its bytes."""
    return ResponsesWriter(request, reply_id=reply_id, at_ms=at_ms)
