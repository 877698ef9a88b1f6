"""Owns the proof of proxy/wire/chat_edits.py and of `chat.with_texts`, which uses it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.terms import Cover, RawRequest, Request
from proxy.wire import chat
from proxy.wire.chat_edits import edited


def decoded(*messages: dict[str, Any]) -> Request:
    """Return a request with these messages and an unknown field."""
    body = json.dumps({"model": "m", "messages": messages, "unknown": 1}).encode()
    return chat.decode(RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=body, peer=""))


@pytest.mark.parametrize(
    ("content", "cover", "expected"),
    [
        pytest.param("I am Ann.", (5, 8), "I am X.", id="text"),
        pytest.param(
            [{"type": "text", "text": "I am Ann."}, {"type": "image_url", "image_url": {"url": "u"}}],
            (5, 8),
            [{"type": "text", "text": "I am X."}, {"type": "image_url", "image_url": {"url": "u"}}],
            id="part",
        ),
        pytest.param(
            [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            (4, 7),
            [{"type": "text", "text": "one"}, {"type": "text", "text": "X"}],
            id="second part",
        ),
        pytest.param(
            [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            (2, 5),
            [{"type": "text", "text": "onX"}, {"type": "text", "text": "wo"}],
            id="over two parts",
        ),
        pytest.param(
            [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            (3, 7),
            [{"type": "text", "text": "one"}, {"type": "text", "text": "X"}],
            id="from the line break on",
        ),
        pytest.param(
            [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            (3, 4),
            [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            id="the line break alone",
        ),
        pytest.param(
            [{"type": "text", "text": ""}, {"type": "text", "text": "two"}],
            (0, 3),
            [{"type": "text", "text": ""}, {"type": "text", "text": "X"}],
            id="an empty part counts nothing",
        ),
    ],
)
def test_covers_count_in_the_text_that_rules_saw(content: Any, cover: tuple[int, int], expected: Any) -> None:
    """The words are covered where they stand, in texts and in parts; nothing else changes."""
    request = decoded({"role": "user", "content": content, "more": True})
    before = copy.deepcopy(request.body)

    after = chat.with_texts(request, {0: [Cover(start=cover[0], end=cover[1], text="X")]}, {})

    body: Any = after.body
    assert {"role": "user", "content": expected, "more": True} == body["messages"][0]
    assert (1, b"", before) == (body["unknown"], after.raw, request.body)


@given(st.lists(st.text("ab", max_size=4), min_size=1, max_size=4), st.data())
def test_the_covered_message_reads_as_the_covered_text(parts: list[str], data: st.DataObject) -> None:
    """Where no cover reaches over a part's end, decoding again gives the text with its covers."""
    request = decoded({"role": "user", "content": [{"type": "text", "text": part} for part in parts]})
    text = request.messages[0].text
    at = data.draw(st.integers(0, max(0, len(text) - 1)))
    covers = [Cover(start=at, end=at + 1, text="X")] if text and text[at] != "\n" else []

    after = chat.with_texts(request, {0: covers}, {})

    expected = text[:at] + "X" + text[at + 1 :] if covers else text
    assert expected == after.messages[0].text


def test_a_refusal_is_a_text_as_well() -> None:
    """What the assistant refused with is covered behind its content."""
    message = {"role": "assistant", "content": "one", "refusal": "two"}

    after = edited(message, [Cover(start=4, end=7, text="X")], {})

    assert {"role": "assistant", "content": "one", "refusal": "X"} == after


def test_arguments_of_the_history_are_replaced() -> None:
    """Calls of functions, custom tools and the legacy kind get what is given for their place."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "custom", "custom": {"name": "c", "input": "old"}},
        {"id": "d", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    request = decoded(
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "assistant", "content": None, "function_call": {"name": "h", "arguments": "{}"}},
    )

    after = chat.with_texts(request, {}, {(0, 0): '{"x":1}', (0, 1): "new", (1, 0): '{"y":2}'})

    assert [['{"x":1}', "new", "{}"], ['{"y":2}']] == [[c.arguments for c in m.tool_calls] for m in after.messages]


def test_a_message_without_words_stays() -> None:
    """A message that has no content gets none."""
    assert {"role": "assistant"} == edited({"role": "assistant"}, [], {})


REASONED = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": [{"text": "a"}]}, {"type": "text", "text": "a"}, {"thinking": "a"}],
    "reasoning_content": "a",
    "reasoning_details": [{"type": "reasoning.text", "text": "a"}],
    "name": "a",
}


def test_reasoning_of_the_history_is_said_anew() -> None:
    """Wherever vendors put reasoning, what is said of it stands there; all else is as it was."""
    request = decoded({"role": "user", "content": "a"}, REASONED)

    after = chat.with_reasoning(request, str.upper)

    messages: Any = after.body["messages"]
    assert ({"role": "user", "content": "a"}, b"") == (messages[0], after.raw)
    assert {
        **REASONED,
        "content": [
            {"type": "thinking", "thinking": [{"text": "A"}]},
            {"type": "text", "text": "a"},
            {"thinking": "A"},
        ],
        "reasoning_content": "A",
        "reasoning_details": [{"type": "REASONING.TEXT", "text": "A"}],
    } == messages[1]


def test_a_history_without_reasoning_stays() -> None:
    """Where there is none, the request keeps its bytes."""
    request = decoded({"role": "user", "content": [{"type": "text", "text": "a"}]})

    assert request is chat.with_reasoning(request, str.upper)
