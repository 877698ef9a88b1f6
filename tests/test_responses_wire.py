"""Owns the proof of the Responses API on the wire: what comes back passes byte for byte, and is read once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy import responses_wire
from proxy.framing import LIMIT_BYTES
from proxy.gate import Gate
from proxy.terms import Delta, End, Fault, Message, Reply, Request, ToolCall, Usage
from tests.responded import THOUGHT, call, events, framed, message, refusal, response
from tests.streams import decoded

ASKED: dict[str, Any] = {"model": "m", "input": "Hi", "stream": True}
STREAMED = Request(
    dialect="responses",
    model="m",
    messages=(Message(role="user", text="Hi"),),
    stream=True,
    body=ASKED,
    raw=json.dumps(ASKED).encode(),
)
UNSTREAMED = replace(STREAMED, stream=False)
CUSTOM = {
    "id": "ct_1",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "call_2",
    "name": "sql",
    "input": "select 1",
}
SHELL = {"id": "sh_1", "type": "shell_call", "status": "completed", "call_id": "call_3", "action": {"commands": ["ls"]}}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"query": "x"}}
FULL = response(THOUGHT, SEARCH, message("Hello there, you."), call("f", '{"a":1}'), CUSTOM, SHELL)
EXPECTED = Reply(
    text="Hello there, you.",
    reasoning="So it is.",
    tool_calls=(
        ToolCall(id="call_1", name="f", arguments='{"a":1}', index=0),
        ToolCall(id="call_2", name="sql", arguments="select 1", index=1),
        ToolCall(id="call_3", name="shell_call", arguments='{"action":{"commands":["ls"]}}', index=2),
    ),
    finish_reason="tool_calls",
    model="m-1",
)
USED = Usage(input_tokens=7, output_tokens=5, cache_read_tokens=3, reasoning_tokens=2)


def heard(deltas: list[Delta]) -> Reply:
    """Return what deltas come to."""
    gate = Gate(hold=True)
    for delta in deltas:
        gate.feed(delta)
    return gate.heard()[0]


def stream(data: bytes, cuts: list[int] | None = None) -> tuple[list[Delta], End | Fault]:
    """Return what comes of a stream."""
    return decoded(data, responses_wire.decoder(STREAMED), cuts)


def test_the_clients_own_bytes_are_sent() -> None:
    """Unless the model is another one, or something was changed."""
    other = json.loads(responses_wire.body(STREAMED, "m-2"))

    assert STREAMED.raw == responses_wire.body(STREAMED, "m")
    assert {**ASKED, "model": "m-2"} == other
    assert ASKED == json.loads(responses_wire.body(replace(STREAMED, raw=b""), "m"))


def test_an_unstreamed_response_is_one_delta() -> None:
    """With all that it says."""
    body = json.dumps(FULL, indent=1).encode()

    (delta,), ended = decoded(body, responses_wire.decoder(UNSTREAMED), [5, 100])

    assert (End(), body, USED, "resp_1", True) == (ended, delta.frame, delta.usage, delta.reply_id, delta.clear)
    assert EXPECTED == replace(heard([delta]), tool_calls=EXPECTED.tool_calls)
    assert [c.id for c in EXPECTED.tool_calls] == [c.id for c in heard([delta]).tool_calls]


def test_a_stream_comes_to_the_same() -> None:
    """Byte for byte, and what is said again is not said twice."""
    data = framed(events(FULL))

    deltas, ended = stream(data)

    assert (End(), data, EXPECTED) == (ended, b"".join(delta.frame for delta in deltas), heard(deltas))
    assert all(delta.clear for delta in deltas)
    assert (USED, "resp_1", True) == (deltas[-1].usage, deltas[-1].reply_id, deltas[-1].final)


@settings(max_examples=30)
@given(st.data())
def test_slicing_changes_nothing(data: st.DataObject) -> None:
    """However the bytes come."""
    bytes_ = framed(events(FULL))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(bytes_)), max_size=8)))

    assert stream(bytes_) == stream(bytes_, cuts)


@pytest.mark.parametrize("kept", ["output_item.done", "completed"])
def test_what_only_a_later_event_says_is_heard(kept: str) -> None:
    """A provider may leave out the small events: whoever reads the large ones gets the same."""
    all_of_it = events(response(THOUGHT, message("Hello"), call("f", "{}")))
    few = [one for one in all_of_it if one["type"].endswith((kept, "completed", "created"))]

    deltas, ended = stream(framed(few))

    assert End() == ended
    assert ("Hello", "So it is.", "f", "{}") == (
        heard(deltas).text,
        heard(deltas).reasoning,
        heard(deltas).tool_calls[0].name,
        heard(deltas).tool_calls[0].arguments,
    )


def test_a_refusal() -> None:
    """Is heard as one, streamed or not."""
    whole = response(refusal("I will not."))

    (delta,), _ = decoded(json.dumps(whole).encode(), responses_wire.decoder(UNSTREAMED))
    streamed, _ = stream(framed(events(whole)))

    assert "I will not." == heard([delta]).refusal == heard(streamed).refusal


def test_what_only_a_part_says_is_heard() -> None:
    """A refusal, a thought."""
    told = events(response(THOUGHT, refusal("I will not.")))
    parts = [one for one in told if one["type"].endswith(("part.done", "completed"))]

    reply = heard(stream(framed(parts))[0])

    assert ("I will not.", "So it is.") == (reply.refusal, reply.reasoning)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"type": "response.output_text.done", "text": "Hullo"}, id="another text"),
        pytest.param({"type": "response.something.new", "delta": "x"}, id="an event that nobody knows"),
        pytest.param({"type": "response.output_text.delta", "Delta": "x", "delta": "y"}, id="a key but for its case"),
        pytest.param(
            {"type": "response.output_item.done", "item": call("g", "{}"), "output_index": 1}, id="another name"
        ),
    ],
)
def test_what_clients_read_differently_is_not_clear(event: dict[str, Any]) -> None:
    """No rule could judge it for all of them."""
    before = events(response(message("Hello"), call("f", "{}")))
    before = [one for one in before if not one["type"].endswith(("done", "completed"))]

    deltas, _ = stream(framed([*before, {"output_index": 0, "content_index": 0, **event}]))

    assert (True, False) == (all(delta.clear for delta in deltas[:-1]), deltas[-1].clear)


def test_an_event_by_another_name_is_not_clear() -> None:
    """Some clients go by the name, some by the type."""
    deltas, _ = stream(b'event: response.created\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n')

    assert not deltas[0].clear


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b": ping\n\n", True, id="a comment"),
        pytest.param(b"data: [DONE]\n\n", True, id="the other dialect's end"),
        pytest.param(b"data: {x\n\n", False, id="no JSON"),
    ],
)
def test_what_says_nothing_passes(data: bytes, said: bool) -> None:
    """Clear, if nobody could find anything in it."""
    (delta,), _ = stream(data)

    assert (data, said) == (delta.frame, delta.clear)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param({"type": "error", "code": "overloaded", "message": "Too much."}, id="an error event"),
        pytest.param({"error": {"code": "overloaded", "message": "Too much."}}, id="an error alone"),
        pytest.param(
            {"type": "response.failed", "response": {"error": {"code": "overloaded", "message": "Too much."}}},
            id="failed",
        ),
    ],
)
def test_a_failure_mid_stream(error: dict[str, Any]) -> None:
    """Ends the reply with the provider's own words."""
    frame = b"data: %b\n\n" % json.dumps(error).encode()
    data = framed(events(response(message("Hello")))[:3]) + frame

    decoder = responses_wire.decoder(STREAMED)
    deltas = decoder.feed(data + frame)
    rest, ended = decoder.close()

    assert isinstance(ended, Fault)
    assert (True, 3, []) == (decoder.over, len(deltas), rest)
    assert ("provider_error", "Too much.", frame) == (ended.code, ended.message, ended.frame)
    assert "overloaded" == json.loads(ended.body)["error"]["code"]


def test_a_stream_without_its_end_is_cut() -> None:
    """At every event; a last event may lack its blank line."""
    told = events(response(message("Hello")))

    assert all(isinstance(stream(framed(told[:n]))[1], Fault) for n in range(len(told)))
    assert End() == stream(framed(told)[:-1])[1]
    assert isinstance(stream(framed(told)[:-9])[1], Fault)


def test_an_event_without_end() -> None:
    """Is not read on."""
    decoder = responses_wire.decoder(STREAMED)
    decoder.feed(b"data: " + b"x" * (LIMIT_BYTES + 10))

    _, ended = decoder.close()

    assert isinstance(ended, Fault)
    assert (True, "event_too_large") == (decoder.over, ended.code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"output":[', "stream_cut", id="cut"),
        pytest.param(b'{"error":{"message":"No.","type":"t"}}', "provider_error", id="an error"),
        pytest.param(
            json.dumps({"status": "failed", "error": "no"}).encode(), "provider_error", id="an error in a word"
        ),
    ],
)
def test_a_body_that_is_no_response(body: bytes, code: str) -> None:
    """Is a fault."""
    deltas, ended = decoded(body, responses_wire.decoder(UNSTREAMED))

    assert isinstance(ended, Fault)
    assert ([], code) == (deltas, ended.code)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_make_it_raise(data: bytes, streamed: bool) -> None:
    """Whatever a provider sends, the reply ends."""
    _, ended = decoded(data, responses_wire.decoder(STREAMED if streamed else UNSTREAMED))

    assert isinstance(ended, End | Fault)


@pytest.mark.parametrize(
    "value", [None, 5, "x", [], [5], {}, [{"type": 5}], -1, [{"type": "message", "content": 5}]], ids=repr
)
@pytest.mark.parametrize("kind", sorted(responses_wire.READ))
def test_no_types_make_it_raise(kind: str, value: Any) -> None:
    """Nor do values of any type, wherever an event has one."""
    names = ("item", "part", "response", "delta", "text", "output_index", "content_index", "summary_index", "arguments")
    event = {"type": kind, **dict.fromkeys(names, value)}
    nested = {"type": kind, "response": {"output": value}, "item": {"type": "message", "content": value}}

    deltas, _ = stream(framed([event, nested]))

    assert 2 == len(deltas)
