"""Owns the dialect `chat`: OpenAI chat completions as clients speak it.

In: a RawRequest; nouns to say. Out: a Request over the untouched body; bytes for the client. Never: a field of the body
lost, or a call decoded in a way in which its provider could read it differently.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from proxy import openai_json
from proxy.errors import BadRequest
from proxy.terms import Cover, Message, RawRequest, Request, ToolCall, ToolSpec
from proxy.wire import strict
from proxy.wire.chat_additions import with_settings, with_turn
from proxy.wire.chat_edits import edited, reasoned
from proxy.wire.chat_replies import ChatWriter, error_body
from proxy.wire.fields import bad_field, check_keys

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

# What the lens reads of a body, and therefore the types it insists on. Everything else passes unread.
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_TEXTS = frozenset({"text", "input_text", "output_text", "refusal", None})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


class _Named(msgspec.Struct):
    name: str
    parameters: Any = None
    description: Any = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None
    name: str | None = None
    parameters: Any = None
    description: Any = None


class _Called(msgspec.Struct):
    name: str = ""
    arguments: str = ""
    input: str = ""


class _Call(msgspec.Struct):
    id: str | None = None
    type: str = "function"
    function: _Called | None = None
    custom: _Called | None = None


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Called | None = None
    tool_call_id: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Format(msgspec.Struct):
    type: str


class _Chat(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]  # it is kept in every record
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    tools: list[_Tool] | None = None
    functions: list[_Named] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_completion_tokens: _Positive | None = None
    max_tokens: _Positive | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    temperature: float | None = None
    response_format: _Format | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None


_TOP = frozenset({*_Chat.__struct_fields__, "tool_choice", "parallel_tool_calls", "function_call"})
_OF_MESSAGE = frozenset(_Message.__struct_fields__)
_OF_PART = frozenset(_Part.__struct_fields__)
_OF_TOOL = frozenset(_Tool.__struct_fields__)
_OF_NAMED = frozenset(_Named.__struct_fields__)


def decode(raw: RawRequest) -> Request:
    """Return the request; raise BadRequest naming the field at fault."""
    body = strict.read(raw.body)
    try:
        chat = msgspec.convert(body, _Chat)
    except msgspec.ValidationError as error:
        raise bad_field(error) from None
    _check_spelling(body)
    options = chat.stream_options
    limits = [limit for limit in (chat.max_completion_tokens, chat.max_tokens) if limit is not None]
    return Request(
        dialect="chat",
        model=chat.model,
        messages=tuple([_message(said) for said in chat.messages]),
        tools=tuple(_specs(chat)) if chat.tools or chat.functions else (),
        stream=bool(chat.stream),
        usage_asked=bool(chat.stream and options and options.include_usage),
        # Vendors differ in which of the two they obey: the larger bounds what can be spent.
        max_output_tokens=max(limits) if limits else None,
        choices=chat.n or 1,
        temperature=chat.temperature,
        structured=chat.response_format is not None and chat.response_format.type != "text",
        metadata={key: value for key, value in chat.metadata.items() if type(value) is str} if chat.metadata else {},
        user=chat.user or chat.safety_identifier or "",
        body=body,
        raw=raw.body,
    )


def _check_spelling(body: dict[str, Any]) -> None:
    """Refuse keys that differ from one the lens reads only in case: providers written in Go read both as the same."""
    check_keys(body, _TOP)
    for number, message in enumerate(body["messages"]):
        check_keys(message, _OF_MESSAGE)
        _check_role(message["role"], f"messages[{number}].role")
        if type(message.get("content")) is list:
            for part in message["content"]:
                check_keys(part, _OF_PART)
    for number, tool in enumerate(body.get("tools") or ()):
        check_keys(tool, _OF_TOOL)
        named = (tool, tool.get("function") or {}, tool.get("custom") or {})
        if len({each["name"] for each in named if each.get("name")}) > 1:
            message = "A tool has one name: providers differ in which of several they take."
            raise BadRequest(message, code="ambiguous_tool", param=f"tools[{number}]")
        for kind in openai_json.ARGUMENTS:
            check_keys(tool.get(kind) or {}, _OF_NAMED)
    for function in body.get("functions") or ():
        check_keys(function, _OF_NAMED)


def _check_role(role: str, param: str) -> None:
    """Refuse a role that some providers take for one of those that rules know, and others do not."""
    plain = role.strip().casefold()
    if plain in _ROLES and role != plain:
        raise BadRequest(f"The role {role!r} must be written {plain!r}.", code="invalid_value", param=param)


def _message(said: _Message) -> Message:
    content = said.content
    text, media = (content, ()) if type(content) is str and said.refusal is None else _parts(said)
    return Message(
        role=said.role,
        text=text,
        tool_calls=tuple(_calls(said)) if said.tool_calls or said.function_call else (),
        tool_call_id=said.tool_call_id or "",
        name=said.name or "",
        media=media,
    )


def _parts(said: _Message) -> tuple[str, tuple[str, ...]]:
    """Return all words of a message, and the kinds of its parts that are more than words."""
    parts = [_Part(text=said.content)] if isinstance(said.content, str) else said.content or []
    texts = [words for part in (*parts, _Part(refusal=said.refusal)) for words in (part.text, part.refusal) if words]
    media = [part.type or "" for part in parts if part.type not in _TEXTS or _says_nothing(part)]
    return "\n".join(texts), tuple(media)


def _says_nothing(part: _Part) -> bool:
    return part.text is None and part.refusal is None


def _calls(said: _Message) -> Iterable[ToolCall]:
    for index, call in enumerate(said.tool_calls or ()):
        made = call.function or call.custom or _Called(name=call.type)
        yield ToolCall(id=call.id or "", name=made.name, arguments=made.arguments or made.input, index=index)
    if legacy := said.function_call:
        yield ToolCall(id="", name=legacy.name, arguments=legacy.arguments, index=openai_json.LEGACY_CALL)


def _specs(chat: _Chat) -> Iterable[ToolSpec]:
    for tool in chat.tools or ():
        # Some vendors take a tool without the object around it; one that they run themselves has no name but its type.
        bare = _Named(name=tool.name or tool.type, parameters=tool.parameters, description=tool.description)
        yield _spec(tool.function or tool.custom or bare)
    for function in chat.functions or ():
        yield _spec(function)


def _spec(offered: _Named) -> ToolSpec:
    description = offered.description if isinstance(offered.description, str) else ""
    return ToolSpec(name=offered.name, schema=offered.parameters, description=description)


def as_chat(request: Request) -> Request:
    """Return the request: it is a chat completion."""
    return request


def writer(request: Request, *, reply_id: str, at_ms: int) -> ChatWriter:
    """Return what gives the reply to this request its bytes."""
    return ChatWriter(request, reply_id=reply_id, at_ms=at_ms)


# --- changes --------------------------------------------------------------------------------------------------------

_CHOOSING = {"tools": ("tool_choice", "parallel_tool_calls"), "functions": ("function_call",)}


def strip_tools(request: Request, names: Collection[str]) -> Request:
    """Return the request without these tools; a choice among tools that are gone goes as well."""
    body = dict(request.body)
    for offer, choosing in _CHOOSING.items():
        listed: Any = body.get(offer) or []
        kept = [tool for tool in listed if _tool_name(tool) not in names]
        if kept:
            body[offer] = kept
            if _names_any(body.get(choosing[0]), names):
                body[choosing[0]] = "auto"
        elif listed:
            for key in (offer, *choosing):
                body.pop(key, None)
    return replace(request, body=body, raw=b"", tools=tuple(tool for tool in request.tools if tool.name not in names))


def with_texts(
    request: Request, texts: Mapping[int, Sequence[Cover]], arguments: Mapping[tuple[int, int], str]
) -> Request:
    """Return the request with stretches of its messages' texts covered, by message, and with other arguments in calls
    of its history, by (message, place among its calls)."""
    body: dict[str, Any] = request.body
    trees, nouns = list(body["messages"]), list(request.messages)
    for number in sorted({*texts, *(message for message, _ in arguments)}):
        calls = {place: said for (message, place), said in arguments.items() if message == number}
        trees[number] = tree = edited(trees[number], texts.get(number, ()), calls)
        nouns[number] = _message(msgspec.convert(tree, _Message))
    return replace(request, body={**body, "messages": trees}, raw=b"", messages=tuple(nouns))


def with_reasoning(request: Request, say: Callable[[str], str]) -> Request:
    """Return the request with what `say` makes of the reasoning that its history brings back. No rule reads that: it
    came from the provider, and agents send it back since some providers want it."""
    body: dict[str, Any] = request.body
    messages = [reasoned(message, say) for message in body["messages"]]
    return request if messages == body["messages"] else replace(request, body={**body, "messages": messages}, raw=b"")


def with_max_output(request: Request, tokens: int) -> Request:
    """Return the request with an output limit, where the client gave none."""
    if request.max_output_tokens is not None:
        return request
    body = {**request.body, "max_completion_tokens": tokens}
    return replace(request, body=body, raw=b"", max_output_tokens=tokens)


def _tool_name(tool: Any) -> str:
    named = tool.get("function") or tool.get("custom") or tool
    name: str = named.get("name") or tool.get("type", "function")
    return name


def _names_any(choice: Any, names: Collection[str]) -> bool:
    """Tell whether a `tool_choice` or `function_call` names one of these tools."""
    if type(choice) is not dict:
        return False
    allowed = choice.get("allowed_tools")
    listed = allowed.get("tools") if type(allowed) is dict else None
    return any(_tool_name(tool) in names for tool in listed or [choice] if type(tool) is dict)
