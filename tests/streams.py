"""Owns small replies in the OpenAI chat format, written by hand: what vendors send, and what each adds up to."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec

from proxy.gate import Gate
from proxy.ports import Decoder
from proxy.providers import openai
from proxy.terms import Delta, End, Fault, Message, ProviderSettings, Reply, Request, ToolCall, Usage

PROVIDER = openai.create(ProviderSettings(name="primary", base_url="https://api.example.invalid/v1/"))
DONE = b"data: [DONE]\n\n"


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded-like stream and the replies and usage it carries."""

    data: bytes
    replies: tuple[Reply, ...]
    usage: Usage | None = None
    choices: int = 1
    fault: str = ""
    """Code of the fault it ends in, if it does."""


def request(*, stream: bool = True, choices: int = 1, usage_asked: bool = False) -> Request:
    """Return the request that the streams answer."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return Request(
        dialect="chat",
        model="m",
        messages=(Message(role="user", text="hi"),),
        stream=stream,
        usage_asked=usage_asked,
        choices=choices,
        body=body,
        raw=json.dumps(body).encode(),
    )


def chunk(delta: dict[str, Any], finish: str | None = None, *, index: int = 0, **more: Any) -> bytes:
    """Return one event of one choice."""
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more})


def event(fields: dict[str, Any]) -> bytes:
    """Return one event of any fields, in a chunk's envelope."""
    tree = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-2026", **fields}
    return b"data: " + json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def called(*pieces: dict[str, Any]) -> dict[str, Any]:
    """Return a delta with pieces of tool calls."""
    return {"tool_calls": list(pieces)}


def opens(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    """Return the first piece of a function call."""
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def goes_on(index: int, arguments: str) -> dict[str, Any]:
    """Return a further piece of a function call."""
    return {"index": index, "function": {"arguments": arguments}}


def says(text: str, finish: str = "stop", choice: int = 0) -> Reply:
    """Return a reply of text only."""
    return Reply(choice=choice, text=text, finish_reason=finish, model="m-2026")


def calls(*made: ToolCall, text: str = "", finish: str = "tool_calls") -> Reply:
    """Return a reply with tool calls."""
    return Reply(text=text, tool_calls=made, finish_reason=finish, model="m-2026")


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
ROLE = {"role": "assistant", "content": ""}
TEXT = chunk(ROLE) + chunk({"content": "Grüß "}) + chunk({"content": "Gott 👋"}) + chunk({}, "stop")
CALL = (
    chunk({"role": "assistant", "content": None})
    + chunk(called(opens(0, "refund")))
    + chunk(called(goes_on(0, '{"order"')))
    + chunk(called(goes_on(0, ': "A1"}')))
    + chunk({}, "tool_calls")
)
REFUND = ToolCall(id="call_0", name="refund", arguments='{"order": "A1"}')
LOOKUP = ToolCall(id="call_1", name="lookup", arguments="{}", index=1)
TWO_CALLS = (
    chunk(ROLE)
    + chunk({"content": "One moment."})
    + chunk(called(opens(0, "refund"), opens(1, "lookup")))
    + chunk(called(goes_on(1, "{"), goes_on(0, '{"order": ')))
    + chunk(called(goes_on(0, '"A1"}')))
    + chunk(called(goes_on(1, "}")))
    + chunk({}, "tool_calls")
)

STREAMS = {
    "text": Stream(data=TEXT + DONE, replies=(says("Grüß Gott 👋"),)),
    "no end marker": Stream(data=TEXT, replies=(says("Grüß Gott 👋"),)),
    "unterminated end marker": Stream(data=TEXT + b"data: [DONE]", replies=(says("Grüß Gott 👋"),)),
    "usage": Stream(
        data=TEXT + event({"choices": [], "usage": USAGE}) + DONE,
        replies=(says("Grüß Gott 👋"),),
        usage=Usage(input_tokens=9, output_tokens=4),
    ),
    "a call in pieces": Stream(data=CALL + DONE, replies=(calls(REFUND),)),
    "parallel calls": Stream(data=TWO_CALLS + DONE, replies=(calls(REFUND, LOOKUP, text="One moment."),)),
    "calls without index": Stream(
        data=chunk(called({"id": "call_0", "function": {"name": "refund", "arguments": '{"order": "A1"}'}}))
        + chunk(called({"id": "call_1", "function": {"name": "lookup", "arguments": "{"}}))
        + chunk(called({"function": {"arguments": "}"}}), "tool_calls")
        + DONE,
        replies=(calls(REFUND, LOOKUP),),
    ),
    "two choices": Stream(
        data=chunk(ROLE)
        + chunk(ROLE, index=1)
        + chunk({"content": "b"}, index=1)
        + chunk({"content": "a"})
        + chunk({}, "stop")
        + chunk({}, "length", index=1)
        + DONE,
        replies=(says("a"), says("b", "length", 1)),
        choices=2,
    ),
    "refusal": Stream(
        data=chunk({"refusal": "I "}) + chunk({"refusal": "cannot."}) + chunk({}, "stop") + DONE,
        replies=(Reply(refusal="I cannot.", finish_reason="stop", model="m-2026"),),
    ),
    "reasoning": Stream(
        data=chunk({"reasoning_content": "Hm"})
        + chunk({"reasoning": ", yes."})
        + chunk({"content": "Yes."}, "stop")
        + DONE,
        replies=(Reply(reasoning="Hm, yes.", text="Yes.", finish_reason="stop", model="m-2026"),),
    ),
    "legacy function": Stream(
        data=chunk({"function_call": {"name": "refund", "arguments": ""}})
        + chunk({"function_call": {"arguments": "{}"}})
        + chunk({}, "function_call")
        + DONE,
        replies=(calls(ToolCall(id="", name="refund", arguments="{}", index=-1), finish="function_call"),),
    ),
    "custom tool": Stream(
        data=chunk(called({"index": 0, "id": "c", "type": "custom", "custom": {"name": "sql", "input": "drop "}}))
        + chunk(called({"index": 0, "custom": {"input": "table"}}), "tool_calls")
        + DONE,
        replies=(calls(ToolCall(id="c", name="sql", arguments="drop table")),),
    ),
    "unknown kind of call": Stream(
        data=chunk(called({"index": 0, "id": "c", "type": "computer", "computer": {"click": 1}}), "tool_calls") + DONE,
        replies=(calls(ToolCall(id="c", name="computer", arguments='{"click":1}')),),
    ),
    "CRLF, comments, other fields": Stream(
        data=b": ping\r\n\r\n" + TEXT.replace(b"\n", b"\r\n") + b"id: 7\r\nretry: 5\r\n\r\n" + b"data:[DONE]\r\n\r\n",
        replies=(says("Grüß Gott 👋"),),
    ),
    "CR": Stream(data=(TEXT + DONE).replace(b"\n", b"\r"), replies=(says("Grüß Gott 👋"),)),
    "BOM and data in several lines": Stream(
        data=b"\xef\xbb\xbf" + TEXT.replace(b',"choices"', b'\ndata: ,"choices"') + DONE,
        replies=(says("Grüß Gott 👋"),),
    ),
    "broken JSON in between": Stream(
        data=chunk({"content": "a"}) + b"data: {broken\n\ndata: []\n\n" + chunk({"content": "b"}, "stop") + DONE,
        replies=(says("ab"),),
    ),
    "error": Stream(
        data=chunk({"content": "a"})
        + b'data: {"error":{"message":"boom","type":"server_error","code":"x"}}\n\n'
        + DONE,
        replies=(says("a", ""),),
        fault="provider_error",
    ),
    "nothing but the end": Stream(data=DONE, replies=()),
}


def decoded(data: bytes, decoder: Decoder, cuts: list[int] | None = None) -> tuple[list[Delta], End | Fault]:
    """Feed bytes cut at these offsets and return all that comes out."""
    deltas: list[Delta] = []
    edges = [0, *(cuts or []), len(data)]
    for start, end in pairwise(edges):
        deltas += decoder.feed(data[start:end])
    rest, ended = decoder.close()
    return deltas + rest, ended


def through(stream: Stream, gate: Gate, cuts: list[int] | None = None) -> tuple[list[Delta], End | Fault]:
    """Send a stream through decoder and gate and return what leaves at once."""
    deltas, ended = decoded(stream.data, PROVIDER.decoder(request(choices=stream.choices), {}, 0), cuts)
    return [out for delta in deltas for out in passed(gate, delta)], ended


def passed(gate: Gate, delta: Delta) -> list[Delta]:
    """Feed one delta, find nothing in any step that is due, and return what leaves."""
    gate.feed(delta)
    assert all(chunk.text for chunk in gate.due())
    return gate.leaving()
