"""Owns the count of what a call used where its provider does not say: OpenAI's chat format, written out and counted.

In: a request, replies, a way to count texts. Out: tokens, and whether a tokenizer counted them. Never: a price.

How OpenAI writes messages is published; how it writes tools is not, but their declarations in TypeScript come to the
same count, within some tokens. Of recorded calls `bench/token_estimates.py` shows how near this comes to the bill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from proxy.accounting.bounds import MESSAGE_TOKENS, NAME_TOKENS, REPLY_TOKENS
from proxy.terms import Json, Reply, Request, ToolCall

Count: TypeAlias = Callable[[str], tuple[int, bool]]
Schema: TypeAlias = Mapping[str, Any]

CALL_TOKENS = 8
"""What frames the only tool call of a message, beyond its name and arguments (recorded calls: 7 or 8)."""
PARALLEL_TOKENS = 14
"""What frames each of several (10 to 14)."""
TOOLS_TOKENS = 10
"""What frames all declarations of tools (1 to 10)."""
NEWER_TOOLS_TOKENS = {"gpt-5": 80}
"""What models whose names begin so are told besides where there are tools (75 to 87)."""
MEDIA_TOKENS = 765
"""What a part that is no text is taken for: a picture of 1024 x 1024 in detail (OpenAI's images and vision page)."""
COUNTED_CHARS = 65_536
"""Of longer texts together a part is counted, spread over all of it: some 5 ms of a tokenizer either way."""
SAMPLES, SAMPLE_CHARS = 64, 512
DEEPEST = 8
"""How deep declarations are written out."""


def asked_tokens(request: Request, model: str, count: Count) -> tuple[int, bool]:
    """Return what a request comes to at a model."""
    messages = request.messages
    fixed = REPLY_TOKENS + sum(MESSAGE_TOKENS + (NAME_TOKENS if message.name else 0) for message in messages)
    told = (text for message in messages for text in (message.role, message.text, message.name))
    called = (part for message in messages for part in _calls(message.tool_calls))
    words, exact = _counted((*told, *called, *_offers(request.body)), count)
    frames = sum(_frames(len(message.tool_calls)) for message in messages)
    if request.tools:
        frames += TOOLS_TOKENS + sum(more for name, more in NEWER_TOOLS_TOKENS.items() if model.startswith(name))
    media = sum(len(message.media) for message in messages)
    return fixed + words + frames + MEDIA_TOKENS * media, exact and not media


def said_tokens(replies: Iterable[Reply], count: Count) -> tuple[int, bool]:
    """Return what replies come to, as far as they were heard."""
    total, exact = 0, True
    for reply in replies:
        said, sure = _counted((reply.text, reply.reasoning, reply.refusal, *_calls(reply.tool_calls)), count)
        total += said + _frames(len(reply.tool_calls))
        exact = exact and sure
    return total, exact


def _counted(texts: Sequence[str], count: Count) -> tuple[int, bool]:
    if (length := sum(map(len, texts))) > COUNTED_CHARS:
        joined, step = "".join(texts), length // SAMPLES
        sample = [count(joined[start : start + SAMPLE_CHARS]) for start in range(0, step * SAMPLES, step)]
        return -(-sum(tokens for tokens, _ in sample) * length // (SAMPLES * SAMPLE_CHARS)), False
    counts = [count(text) for text in texts if text]
    return sum(tokens for tokens, _ in counts), all(exact for _, exact in counts)


def _calls(calls: Iterable[ToolCall]) -> Iterator[str]:
    for call in calls:
        yield call.name
        yield call.arguments


def _frames(calls: int) -> int:
    return CALL_TOKENS if calls == 1 else PARALLEL_TOKENS * calls


# --- what is offered ------------------------------------------------------------------------------------------------


def _offers(body: Mapping[str, Json]) -> Iterator[str]:
    """Yield the texts that the tools and the schema of a request come to."""
    functions = [*_functions(body.get("tools"), "function"), *_functions(body.get("functions"), "")]
    if functions:
        lines = [line for function in functions for line in _function(function)]
        yield "\n".join(["namespace functions {", "", *lines, "} // namespace functions"])
    if "response_format" in body:
        yield msgspec.json.encode(body["response_format"]).decode()


def _functions(offers: Json, key: str) -> Iterator[Schema]:
    for offer in offers if isinstance(offers, list) else ():
        function = offer.get(key, offer) if isinstance(offer, dict) else None
        if isinstance(function, dict):
            yield function


def _function(function: Schema) -> Iterator[str]:
    parameters, name = _object(function.get("parameters")), function.get("name", "")
    yield from _comment(function)
    properties = list(_properties(parameters, DEEPEST))
    taken = ("_: {", *properties, "}") if properties else ()
    yield "\n".join((f"type {name} = (", *taken, ") => any;", ""))
    for place in ("$defs", "definitions"):
        # They are written out where they are used, which is mostly once.
        for defined, schema in _object(parameters.get(place)).items():
            yield f"{defined}: {_type(schema, DEEPEST)}"


def _properties(schema: Schema, depth: int) -> Iterator[str]:
    needed = schema.get("required")
    for name, value in _object(schema.get("properties")).items():
        yield from _comment(_object(value))
        mark = "" if isinstance(needed, list) and name in needed else "?"
        default = f" // default: {value['default']}" if "default" in _object(value) else ""
        yield f"{name}{mark}: {_type(value, depth - 1)},{default}"


def _comment(schema: Schema) -> Iterator[str]:
    if schema.get("description"):
        yield f"// {schema['description']}"


def _type(schema: object, depth: int) -> str:
    """Write a schema as a type."""
    if not isinstance(schema, dict) or depth < 0:
        return "any"
    if isinstance(values := schema.get("enum"), list):
        return " | ".join(f'"{value}"' for value in values)
    if isinstance(others := schema.get("anyOf"), list):
        return " | ".join(_type(other, depth - 1) for other in others)
    match schema.get("type"):
        case "array":
            return f"{_type(schema.get('items'), depth - 1)}[]"
        case "object":
            return "\n".join(["{", *_properties(schema, depth), "}"])
        case list() as types:
            return " | ".join(map(str, types))
        case str() as plain:
            return plain
    return "any"


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
