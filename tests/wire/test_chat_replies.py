"""Owns the proof of the bytes that Handrail changes or says itself in a chat completion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy import framing, openai_json
from proxy.errors import BadRequest, BudgetExceeded
from proxy.openai_json import CallNumbers
from proxy.terms import ChoiceDelta, Delta, End, Fault, Reply, Request, ToolCall, ToolCallDelta, Usage
from proxy.wire import chat_replies
from tests.streams import request

SAFE = Reply(text="I can't — sorry.", model="m")
AT_MS = 1_767_225_600_999


def changed(part: dict[str, Any], *, stream: bool = True, entry: dict[str, Any] | None = None, **now: Any) -> Any:
    """Change a delta that says `part` so that it says what `now` says, and return its one choice as encoded."""
    key = "delta" if stream else "message"
    tree: dict[str, Any] = {"id": "c", "x_new": 1, "choices": [{"index": 0, key: part, **(entry or {})}]}
    piece = ChoiceDelta(**now)
    data = chat_replies.encode(Delta(frame=b"", tree=tree, choices=(piece,)), request(stream=stream))
    sent = json.loads(data.removeprefix(b"data: ") if stream else data)
    assert ("c", 1, 1) == (sent["id"], sent["x_new"], len(sent["choices"]))
    return sent["choices"][0]


def call(index: int, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    """Return a streamed function call."""
    return {"index": index, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def piece(index: int, arguments: str = "{}", position: int = 0) -> ToolCallDelta:
    """Return what is left of a call."""
    return ToolCallDelta(index=index, id="c", name="f", arguments=arguments, position=position)


@pytest.mark.parametrize(
    ("part", "now", "expected"),
    [
        pytest.param({"content": "a"}, {"text": "b"}, {"content": "b"}, id="text"),
        pytest.param({}, {"text": "b"}, {"content": "b"}, id="text where there was none"),
        pytest.param({"content": None}, {}, {"content": None}, id="null stays null"),
        pytest.param({"content": [{"text": "a"}]}, {"text": "a"}, {"content": [{"text": "a"}]}, id="parts stay parts"),
        pytest.param({"audio": {"transcript": "a"}}, {"text": "a"}, {"audio": {"transcript": "a"}}, id="speech stays"),
        pytest.param(
            {"content": None, "audio": {"data": "AA", "transcript": "a"}}, {"text": "b"}, {"content": "b"}, id="speech"
        ),
        pytest.param(
            {"function_call": {"name": "f", "arguments": "a"}},
            {"tool_calls": (ToolCallDelta(index=-1, name="f", arguments="b"),)},
            {"function_call": {"name": "f", "arguments": "b"}},
            id="arguments of a legacy call",
        ),
        pytest.param({"refusal": "a"}, {"refusal": "b"}, {"refusal": "b"}, id="refusal"),
        pytest.param(
            {"reasoning_content": "a"}, {"reasoning": "b"}, {"reasoning_content": "b"}, id="reasoning_content"
        ),
        pytest.param({"reasoning": "a"}, {"reasoning": ""}, {"reasoning": ""}, id="reasoning"),
        pytest.param(
            {"reasoning": "a", "reasoning_details": [{"text": "a", "signature": "x"}]},
            {"reasoning": "b"},
            {"reasoning": "b"},
            id="parts that repeat the reasoning go",
        ),
        pytest.param(
            {"thinking_blocks": [{"thinking": "a"}]}, {"reasoning": "b"}, {"reasoning": "b"}, id="reasoning in parts"
        ),
        pytest.param(
            {"content": [{"thinking": [{"text": "a"}]}, {"text": "c"}]},
            {"text": "c", "reasoning": "b"},
            {"content": "c", "reasoning": "b"},
            id="thinking among the parts",
        ),
        pytest.param({"role": "assistant", "x": {"y": 1}}, {}, {"role": "assistant", "x": {"y": 1}}, id="unknown"),
        pytest.param({"tool_calls": [call(0)]}, {}, {}, id="the call is dropped"),
        pytest.param(
            {"tool_calls": [call(0), call(1)]},
            {"tool_calls": (piece(0, position=1),)},
            {"tool_calls": [call(0)]},
            id="the first of two is dropped",
        ),
        pytest.param(
            {"tool_calls": [None, call(1, x=5)]},
            {"tool_calls": (piece(0, position=1),)},
            {"tool_calls": [call(0, x=5)]},
            id="unknown fields of a call stay",
        ),
        pytest.param(
            {"tool_calls": [call(0, arguments="a")]},
            {"tool_calls": (piece(0, "b"),)},
            {"tool_calls": [call(0, arguments="b")]},
            id="arguments",
        ),
        pytest.param(
            {"tool_calls": [{"index": 1, "custom": {"name": "f", "input": "a", "x": 1}}]},
            {"tool_calls": (piece(0, "b"),)},
            {"tool_calls": [{"index": 0, "custom": {"name": "f", "input": "b", "x": 1}}]},
            id="arguments of a custom tool",
        ),
        pytest.param({"function_call": {"name": "f"}}, {}, {}, id="the legacy call is dropped"),
        pytest.param(
            {"function_call": {"name": "f"}, "tool_calls": [call(0)]},
            {"tool_calls": (piece(openai_json.LEGACY_CALL, ""),)},
            {"function_call": {"name": "f"}},
            id="the legacy call stays",
        ),
    ],
)
def test_what_changes_in_a_part(part: dict[str, Any], now: dict[str, Any], expected: dict[str, Any]) -> None:
    """Only what was changed changes, in a chunk and in a message; fields that are not known stay."""
    assert {"index": 0, "delta": expected} == changed(part, **now)
    assert {"index": 0, "message": expected} == changed(part, stream=False, **now)


def test_calls_of_a_message_have_no_index() -> None:
    """An unstreamed call is found by its place: no index is added."""
    unnumbered = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    left = changed({"tool_calls": [call(0), unnumbered]}, stream=False, tool_calls=(piece(0, position=1),))

    assert {"tool_calls": [unnumbered]} == left["message"]


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        pytest.param("tool_calls", "stop", "stop", id="another"),
        pytest.param("stop", "stop", "stop", id="the same"),
        pytest.param(None, "", None, id="none"),
        pytest.param("stop", "", None, id="taken away"),
    ],
)
def test_finish_reason(was: str | None, now: str, expected: str | None) -> None:
    """The finish reason is what the choice says now."""
    assert expected == changed({}, entry={"finish_reason": was}, finish_reason=now)["finish_reason"]


def test_logprobs_of_a_changed_text_go() -> None:
    """Token probabilities spell out the text that is not to be seen."""
    logprobs = {"logprobs": {"content": [{"token": "a"}]}}

    assert changed({"content": "a"}, entry=logprobs, text="b")["logprobs"] is None
    assert logprobs["logprobs"] == changed({"content": "a"}, entry=logprobs, text="a")["logprobs"]


def test_entries_that_are_no_choices_stay() -> None:
    """What is not an object is passed as it is; what has no delta gets one."""
    tree: dict[str, Any] = {"choices": [5, {"index": 1, "delta": None}]}
    choices = (ChoiceDelta(), ChoiceDelta(index=1, text="b"))

    data = chat_replies.encode(Delta(frame=b"", tree=tree, choices=choices), request())

    assert b'data: {"choices":[5,{"index":1,"delta":{"content":"b"}}]}\n\n' == data


TEXTS = st.text(max_size=4)
CALLS = st.lists(
    st.builds(call, st.just(0), TEXTS, TEXTS, x=st.integers(0, 9)).map(lambda c: {**c, "id": c["function"]["name"]}),
    max_size=3,
).map(lambda listed: [{**one, "index": place} for place, one in enumerate(listed)])
SAID_IN_PARTS = st.lists(st.fixed_dictionaries({}, optional={"text": TEXTS, "thinking": TEXTS}), max_size=3)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXTS | SAID_IN_PARTS,
        "refusal": TEXTS,
        "reasoning": TEXTS,
        "reasoning_details": SAID_IN_PARTS,
        "tool_calls": CALLS,
        "x": TEXTS,
    },
)


@given(PARTS, TEXTS, TEXTS, st.booleans())
def test_what_is_encoded_is_read_again(part: dict[str, Any], text: str, reason: str, stream: bool) -> None:
    """A changed delta, written and read again, says exactly what its choices said."""
    key, read = (
        ("delta", lambda t: openai_json.deltas(t, CallNumbers())) if stream else ("message", openai_json.messages)
    )
    tree: dict[str, Any] = {"choices": [{"index": 0, key: part, "finish_reason": None}]}
    (was,) = read(tree)
    now = ChoiceDelta(
        text=text,
        refusal=was.refusal[:1],
        reasoning=was.reasoning[:1],
        tool_calls=tuple(
            ToolCallDelta(index=i, id=c.id, name=c.name, arguments=c.arguments + "!", position=c.position)
            for i, c in enumerate(was.tool_calls[1:])
        ),
        finish_reason=reason,
    )

    data = chat_replies.encode(Delta(frame=b"", tree=tree, choices=(now,)), request(stream=stream))

    sent = json.loads(data.removeprefix(b"data: ") if stream else data)
    again = [(c.index, c.id, c.name, c.arguments) for c in read(sent)[0].tool_calls]
    assert [(c.index, c.id, c.name, c.arguments) for c in now.tool_calls] == again
    assert (now.text, now.refusal, now.reasoning, now.finish_reason) == (
        read(sent)[0].text,
        read(sent)[0].refusal,
        read(sent)[0].reasoning,
        read(sent)[0].finish_reason,
    )
    assert part.get("x") == sent["choices"][0][key].get("x")


# --- our own words --------------------------------------------------------------------------------------------------


def chunks(parts: list[Delta | End]) -> list[ChatCompletionChunk]:
    """Read streamed parts as OpenAI's own types."""
    frames = b"".join(part.frame for part in parts if isinstance(part, Delta))
    events = framing.EventDecoder().feed(frames)
    return [ChatCompletionChunk.model_validate_json(event.data or b"", strict=True) for event in events]


def composed(asked: Request, reply: Reply = SAFE) -> list[Delta | End]:
    """Compose a reply to a request."""
    return chat_replies.compose(reply, asked, reply_id="ex_1", at_ms=AT_MS, usage=Usage(output_tokens=3))


def test_a_composed_message() -> None:
    """Unstreamed: one delta that OpenAI's own type accepts, and an end without bytes."""
    delta, end = composed(request(stream=False))

    said = ChatCompletion.model_validate_json(delta.frame, strict=True)
    assert End() == end
    assert ("ex_1", 1_767_225_600, "m", "I can't — sorry.") == (
        said.id,
        said.created,
        said.model,
        said.choices[0].message.content,
    )
    assert ("content_filter", "assistant") == (said.choices[0].finish_reason, said.choices[0].message.role)
    assert said.usage is not None
    assert (0, 3, 3) == (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens)


def test_a_composed_stream() -> None:
    """Streamed: role, text, finish reason, end marker, as OpenAI streams them."""
    parts = composed(request())

    said = chunks(parts)
    assert ["assistant", None, None] == [chunk.choices[0].delta.role for chunk in said]
    assert ["", "I can't — sorry.", None] == [chunk.choices[0].delta.content for chunk in said]
    assert [None, None, "content_filter"] == [chunk.choices[0].finish_reason for chunk in said]
    assert {("ex_1", 1_767_225_600, "m")} == {(chunk.id, chunk.created, chunk.model) for chunk in said}
    assert End(frame=b"data: [DONE]\n\n") == parts[-1]


def test_usage_is_streamed_to_who_asked_for_it() -> None:
    """The usage chunk has no choices and is marked, so that it can be hidden."""
    parts = composed(request(usage_asked=True))

    last = chunks(parts)[-1]
    assert [False, False, False, True] == [part.usage_only for part in parts if isinstance(part, Delta)]
    assert last.usage is not None
    assert ([], 3) == (last.choices, last.usage.completion_tokens)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
def test_every_choice_says_it(stream: bool) -> None:
    """A client that asked for several choices finds them all."""
    parts = composed(request(stream=stream, choices=3))

    first = parts[0].frame.removeprefix(b"data: ")
    assert [0, 1, 2] == [choice["index"] for choice in json.loads(first)["choices"]]


def test_a_reply_keeps_its_own_end_and_model() -> None:
    """Where the reply says how it ends and who said it, that is what is written."""
    delta, _ = composed(request(stream=False), Reply(text="a", finish_reason="stop", model=""))

    said = json.loads(delta.frame)
    assert ("stop", "m") == (said["choices"][0]["finish_reason"], said["model"])


def test_cut_goes_on_where_a_stream_stands() -> None:
    """A stream that has begun is ended without a second role: text, finish reason, end marker."""
    parts = chat_replies.cut(SAFE, request(), reply_id="ex_1", at_ms=AT_MS, usage=Usage())

    assert parts == composed(request())[1:]


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            BadRequest("n: too many.", code="invalid_value", param="n"),
            {"message": "n: too many.", "type": "invalid_request_error", "param": "n", "code": "invalid_value"},
            id="with a field",
        ),
        pytest.param(
            BudgetExceeded("Spent."),
            {"message": "Spent.", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"},
            id="without a field",
        ),
    ],
)
def test_error_body(error: Any, expected: dict[str, Any]) -> None:
    """An error is OpenAI's error object."""
    assert {"error": expected} == json.loads(chat_replies.error_body(error))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
def test_fault_frame(stream: bool) -> None:
    """A failure in mid-reply is an error object, as an event where events are read, and no end marker."""
    fault = Fault(status=502, type="upstream_error", code="stream_cut", message="Cut.")

    data = chat_replies.fault_frame(fault, request(stream=stream))

    said = {"error": {"message": "Cut.", "type": "upstream_error", "param": None, "code": "stream_cut"}}
    assert said == json.loads(data.removeprefix(b"data: ") if stream else data)
    assert (stream, stream) == (data.startswith(b"data: "), data.endswith(b"\n\n"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_of_our_own_can_be_a_call(stream: bool) -> None:
    """The agent's own hand-off tool is called as its model would call it."""
    call = ToolCall(id="call_1", name="transfer", arguments='{"queue":"q"}')
    reply = Reply(tool_calls=(call,), finish_reason="tool_calls")

    parts = composed(request(stream=stream), reply)

    body = b"".join(part.frame for part in parts)
    assert (True, True) == (b'"finish_reason":"tool_calls"' in body, b'"name":"transfer"' in body)
    assert stream == (b'"index":0,"id":"call_1"' in body)
