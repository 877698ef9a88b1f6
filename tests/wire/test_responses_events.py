"""Owns the proof of a streamed response's events: what was taken out of one is in none that repeats it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy import responses_wire
from proxy.chat_wire import decoder
from proxy.terms import ChoiceDelta, Delta, Reply, Usage
from proxy.wire import responses
from proxy.wire.responses_events import Followed, framed
from tests.responded import THOUGHT, call, events, message, put_together, refusal, response, texts
from tests.responded import framed as told
from tests.streams import decoded, request
from tests.test_responses_wire import SEARCH, SHELL, STREAMED
from tests.wire.test_responses import decode


def deltas(said: list[dict[str, Any]]) -> list[Delta]:
    """Return the deltas of events."""
    return decoded(told(said), responses_wire.decoder(STREAMED))[0]


def followed(said: list[Delta]) -> dict[str, Any]:
    """Return what a client puts together of the deltas that leave."""
    follower = Followed()
    trees = [tree for delta in said if (tree := follower.event(delta)) is not None]
    return put_together(b"".join(map(framed, trees)))


def test_what_is_unchanged_is_followed_unchanged() -> None:
    """Every kind of item, to the value."""
    whole = response(THOUGHT, SEARCH, message("Hello there."), call("f", '{"a":1}'), SHELL)
    follower = Followed()

    came = deltas(events(whole))

    assert [delta.tree for delta in came] == [follower.event(delta) for delta in came]


@pytest.mark.parametrize("kept", ["delta", "text.done", "part.done", "item.done"])
def test_words_that_are_changed_are_so_wherever_they_are_repeated(kept: str) -> None:
    """Whichever event says them first."""
    said = events(response(THOUGHT, message("Hello there.")))
    order = ["delta", "text.done", "part.done", "item.done"]
    left = [one for one in said if not one["type"].endswith(tuple(order[: order.index(kept)]))]
    came = [
        replace(delta, choices=tuple(replace(piece, text=piece.text and "*") for piece in delta.choices))
        for delta in deltas(left)
    ]
    follower = Followed()

    last: Any = [follower.event(delta) for delta in came][-1]

    (item,) = [item for item in last["response"]["output"] if item["type"] == "message"]
    assert "Hello" not in json.dumps(last)
    assert {"*"} == set(item["content"][0]["text"])
    assert [] == item["content"][0]["annotations"]


def test_a_call_that_only_the_end_tells() -> None:
    """Is there if it may leave, with its arguments; else it is not."""
    first, last = deltas([events(response(call("f", "{}")))[n] for n in (0, -1)])
    gone = replace(last, choices=(ChoiceDelta(finish_reason="stop"),))

    kept: Any = [Followed().event(one) for one in (first, last)][-1]
    left: Any = [Followed().event(one) for one in (first, gone)][-1]

    assert ([call("f", "{}")], []) == (kept["response"]["output"], left["response"]["output"])


def test_a_call_that_is_gone_has_no_events() -> None:
    """Neither its arguments nor its end."""
    came = [replace(delta, choices=()) for delta in deltas(events(response(call("f", "{}"), SHELL)))]
    follower = Followed()

    kinds = [tree["type"] for delta in came if (tree := follower.event(delta))]

    assert ["response.created", "response.in_progress", "response.completed"] == kinds


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"type": "response.content_part.done", "part": 5}, id="a part that is none"),
        pytest.param({"type": "response.content_part.done", "part": {"type": "other"}}, id="a part without words"),
        pytest.param({"type": "response.output_item.done", "item": 5}, id="an item that is none"),
        pytest.param({"type": "response.output_item.done", "item": {"type": "message", "content": [5]}}, id="parts"),
        pytest.param({"type": "response.completed", "response": {"output": 5}}, id="an output that is none"),
        pytest.param({"type": "response.completed", "response": {"output": [5]}}, id="items that are none"),
        pytest.param({"type": "response.web_search_call.searching", "output_index": 0}, id="what the provider does"),
        pytest.param({"type": "response.output_text.delta", "sequence_number": "x", "delta": "x"}, id="a number"),
    ],
)
def test_what_a_provider_may_send(event: dict[str, Any]) -> None:
    """Passes as it is."""
    (delta,) = deltas([event])

    assert delta.tree == Followed().event(delta)


def test_what_a_provider_wants_back_is_kept() -> None:
    """Of what its model thought: an agent that brings the reasoning back brings this along."""
    block = {"type": "thinking", "thinking": "So.", "signature": "s"}
    chunks = [
        {"choices": [{"index": 0, "delta": {"reasoning_content": "So.", "thinking_blocks": [block]}}]},
        {"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}]},
    ]
    data = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    writer = responses.writer(decode(input="Hi", stream=True), reply_id="ex_1", at_ms=0)

    body = b"".join(writer.write(delta, native=False) for delta in decoded(data, decoder(request()))[0]) + writer.end()

    got = put_together(body)
    again = responses.as_chat(decode(input=got["output"]))
    assert [{"role": "assistant", "content": "Yes.", "thinking_blocks": [block]}] == again.body["messages"]


@pytest.mark.parametrize(
    ("whole", "left"),
    [
        pytest.param(response(message("Hello there.")), "Hell", id="text"),
        pytest.param(response(refusal("I will not.")), "I wi", id="refusal"),
        pytest.param(response(THOUGHT), "So i", id="thought"),
        pytest.param(response(call("f", '{"a":1}')), '{"a"', id="arguments"),
    ],
)
def test_a_stream_that_is_cut_ends_what_it_has_begun(whole: dict[str, Any], left: str) -> None:
    """With as much of it as has left."""
    writer = responses.writer(decode(input="Hi", stream=True), reply_id="ex_1", at_ms=0)
    said = events(whole)
    first = next(n for n, event in enumerate(said) if event["type"].endswith("delta"))
    body = b"".join(writer.write(delta, native=True) for delta in deltas(said[: first + 1]))

    body += b"".join(part.frame for part in writer.cut(Reply(text="Enough."), Usage()))

    begun, own = put_together(body)["output"]
    assert ([left], "incomplete") == (texts(begun), begun["status"])
    assert ["Enough."] == texts(own)
