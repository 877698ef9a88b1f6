"""Owns the proof that a call's tokens are counted as OpenAI's chat format writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from proxy.accounting import TokenCounter, asked_tokens, said_tokens, token_counter
from proxy.accounting.bounds import MESSAGE_TOKENS, REPLY_TOKENS
from proxy.accounting.chat_tokens import (
    CALL_TOKENS,
    DEEPEST,
    MEDIA_TOKENS,
    NEWER_TOOLS_TOKENS,
    PARALLEL_TOKENS,
    SAMPLE_CHARS,
    SAMPLES,
    TOOLS_TOKENS,
)
from proxy.terms import Message, Reply, Request, ToolCall, ToolSpec

ONE = ToolCall(id="c", name="refund", arguments="{}")
USER = REPLY_TOKENS + MESSAGE_TOKENS


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    """A counter with both vocabularies."""
    counter = token_counter()
    counter.load("cl100k_base")
    counter.load("o200k_base")
    return counter


def ask(*messages: Message, **body: Any) -> Request:
    """Make a request."""
    tools = tuple(ToolSpec(name="f") for _ in body.get("tools") or body.get("functions") or ())
    return Request(dialect="chat", model="m", messages=messages, tools=tools, body=body, raw=b"")


def words(text: str) -> tuple[int, bool]:
    """Count words."""
    return len(text.split()), True


def test_messages_are_counted_by_openais_formula(counter: TokenCounter) -> None:
    """The cookbook's example of six messages is 129 tokens for gpt-3.5 and gpt-4, 124 for gpt-4o."""
    messages = [
        Message(
            role="system",
            text="You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        ),
        Message(role="system", name="example_user", text="New synergies will help drive top-line growth."),
        Message(role="system", name="example_assistant", text="Things working well together will increase revenue."),
        Message(
            role="system",
            name="example_user",
            text="Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        Message(
            role="system",
            name="example_assistant",
            text="Let's talk later when we're less busy about how to do better.",
        ),
        Message(
            role="user",
            text="This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ]

    counts: list[Callable[[str], tuple[int, bool]]] = [
        partial(counter.count, encoding=name) for name in ("cl100k_base", "o200k_base")
    ]
    assert [(129, True), (124, True)] == [asked_tokens(ask(*messages), "m", count) for count in counts]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(Message(role="assistant", tool_calls=(ONE,)), 3 + CALL_TOKENS, id="one call"),
        pytest.param(Message(role="assistant", tool_calls=(ONE, ONE)), 5 + 2 * PARALLEL_TOKENS, id="two calls"),
        pytest.param(Message(role="user", text="see", media=("image_url",)), 2 + MEDIA_TOKENS, id="a picture"),
    ],
)
def test_calls_and_pictures_have_frames(message: Message, expected: int) -> None:
    """What is not text of a message counts as well; of a picture nobody knows exactly."""
    assert (USER + expected, not message.media) == asked_tokens(ask(message), "m", words)


def schema(**parameters: Any) -> dict[str, Any]:
    """Make a tool."""
    return {"name": "f", "description": "It looks", "parameters": {"type": "object", **parameters}}


DECLARED = """namespace functions {

// It looks
type f = (
_: {
id: string,
// Which kind
kind?: "a" | "b", // default: a
who?: {
name?: string | null,
}[],
n?: number | null,
any?: any,
}
) => any;

one: any
} // namespace functions"""
WHOLE = schema(
    properties={
        "id": {"type": "string"},
        "kind": {"enum": ["a", "b"], "description": "Which kind", "default": "a"},
        "who": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}},
        "n": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "any": {},
    },
    required=["id"],
    **{"$defs": {"one": True}},
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"tools": [{"type": "function", "function": WHOLE}]}, id="tools"),
        pytest.param({"functions": [WHOLE]}, id="functions"),
    ],
)
def test_tools_are_counted_as_declarations(body: dict[str, Any]) -> None:
    """A tool counts as what declares it in TypeScript, which is what OpenAI's models are shown."""
    seen: list[str] = []

    def count(text: str) -> tuple[int, bool]:
        seen.append(text)
        return 100, False

    assert (REPLY_TOKENS + TOOLS_TOKENS + 100, False) == asked_tokens(ask(**body), "m", count)
    assert [DECLARED] == seen


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"name": "f", "parameters": "x"}, id="no schema"),
        pytest.param(schema(properties=[1], required=7), id="no properties"),
        pytest.param({"type": "custom", "custom": {}}, id="another kind"),
        pytest.param("f", id="no tool"),
    ],
)
def test_whatever_is_offered_is_counted(tool: object) -> None:
    """An agent can send any JSON as a tool; counting it never fails."""
    tokens, _ = asked_tokens(ask(tools=[tool]), "m", words)

    assert tokens >= REPLY_TOKENS + TOOLS_TOKENS


def test_a_schema_for_the_reply_counts() -> None:
    """The model is shown the format that it is asked for."""
    assert (REPLY_TOKENS + 1, True) == asked_tokens(ask(response_format={"type": "json_object"}), "m", words)


def test_a_deep_schema_is_written_out_so_far() -> None:
    """However deep a schema is, counting it ends."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        deep = {"type": "object", "properties": {"x": deep}}

    tokens, _ = asked_tokens(ask(tools=[{"function": schema(properties={"x": deep})}]), "m", words)

    assert tokens < REPLY_TOKENS + TOOLS_TOKENS + 40 + 4 * DEEPEST


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        pytest.param((), 0, id="nothing"),
        pytest.param((Reply(text="a b", reasoning="c", refusal="d"),), 4, id="texts"),
        pytest.param((Reply(tool_calls=(ONE,)),), 2 + CALL_TOKENS, id="one call"),
        pytest.param((Reply(tool_calls=(ONE, ONE)), Reply(text="a")), 5 + 2 * PARALLEL_TOKENS, id="calls, two choices"),
    ],
)
def test_replies_are_counted(replies: tuple[Reply, ...], expected: int) -> None:
    """All that a model wrote counts, whether or not the agent gets it."""
    assert (expected, True) == said_tokens(replies, words)


def test_newer_models_are_told_more() -> None:
    """What a model is told besides where there are tools depends on the model."""
    body = {"tools": [{"function": schema()}]}

    counts = [asked_tokens(ask(**body), model, words)[0] for model in ("gpt-4o", "gpt-5-mini")]

    assert NEWER_TOOLS_TOKENS["gpt-5"] == counts[1] - counts[0]


@pytest.mark.parametrize("messages", [pytest.param(1, id="one text"), pytest.param(400, id="many")])
def test_of_long_texts_a_part_is_counted(messages: int, counter: TokenCounter) -> None:
    """What it comes to is near what all of it does, is not taken for exact, and costs what a part costs."""
    said = [f"Line {number}: where is order {number * 7919}? " * 5 for number in range(1600)]
    texts = ["".join(said[start::messages]) for start in range(messages)]
    asked = ask(*(Message(role="user", text=text) for text in texts))
    counted = list[str]()

    def count(text: str) -> tuple[int, bool]:
        counted.append(text)
        return counter.count(text)

    tokens, exact = asked_tokens(asked, "gpt-4o", count)
    whole = REPLY_TOKENS + sum(MESSAGE_TOKENS + 1 + counter.count(text).tokens for text in texts)

    assert not exact
    assert SAMPLES * SAMPLE_CHARS == sum(map(len, counted))
    assert 0.97 < tokens / whole < 1.05
