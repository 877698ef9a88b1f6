"""Owns the proof of the dialect `responses`: what is read of a request, and what it says after a change."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.errors import BadRequest
from proxy.terms import Cover, Message, RawRequest, Reply, Request, ToolCall, ToolSpec
from proxy.wire import responses

ITEMS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hi,"}, {"type": "input_text", "text": "you"}],
    },
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "x"},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
    {"type": "custom_tool_call", "call_id": "c2", "name": "sql", "input": "select"},
    {"type": "function_call_output", "call_id": "c1", "output": "done"},
    {
        "type": "custom_tool_call_output",
        "call_id": "c2",
        "output": [{"type": "input_text", "text": "rows"}, {"type": "input_image"}],
    },
    {"type": "mcp_call", "id": "m", "name": "g", "arguments": "{}", "output": "theirs"},
    {"type": "item_reference", "id": "msg_1"},
    {"type": "mcp_approval_response", "approval_request_id": "a1", "approve": True},
    {"role": "assistant", "content": [{"type": "output_text", "text": "Yes."}, {"type": "refusal", "refusal": "No."}]},
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]},
]
MESSAGES = (
    Message(role="system", text="In short."),
    Message(role="system", text="Be kind."),
    Message(role="user", text="Hi,\nyou"),
    Message(role="assistant", tool_calls=(ToolCall(id="c1", name="f", arguments='{"a":1}'),)),
    Message(role="assistant", tool_calls=(ToolCall(id="c2", name="sql", arguments="select"),)),
    Message(role="tool", text="done", tool_call_id="c1"),
    Message(role="tool", text="rows", tool_call_id="c2", media=("input_image",)),
    Message(role="assistant", text="theirs", media=("mcp_call",)),
    Message(role="assistant", media=("item_reference",)),
    Message(role="tool", media=("bool",), tool_call_id="a1"),
    Message(role="assistant", text="Yes.\nNo."),
    Message(role="user", media=("input_image",)),
)
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}, "description": "Does."},
    {"type": "custom", "name": "sql"},
    {"type": "web_search"},
    {"type": "mcp", "server_label": "shop", "server_url": "https://shop.example.invalid"},
]


def decode(**body: Any) -> Request:
    """Decode a request."""
    return responses.decode(
        RawRequest(
            method="POST", path="/v1/responses", headers={}, body=msgspec.json.encode({"model": "m", **body}), peer="p"
        )
    )


def test_what_is_read() -> None:
    """Everything that rules know, over the untouched body."""
    request = decode(
        input=ITEMS,
        instructions="In short.",
        tools=TOOLS,
        stream=True,
        max_output_tokens=9,
        temperature=1,
        text={"format": {"type": "json_schema", "name": "x"}},
        metadata={"session_id": "s", "n": 5},
        safety_identifier="u",
        previous_response_id="resp_1",
    )

    assert MESSAGES == request.messages
    assert ["f", "sql", "web_search", "mcp.shop"] == [tool.name for tool in request.tools]
    assert ToolSpec(name="f", schema={"type": "object"}, description="Does.") == request.tools[0]
    assert ("responses", "m", True, True, 9, 1.0, True) == (
        request.dialect, request.model, request.stream, request.usage_asked, request.max_output_tokens,
        request.temperature, request.structured,
    )  # fmt: skip
    assert ({"session_id": "s"}, "u", "resp_1") == (request.metadata, request.user, request.previous)
    assert json.loads(request.raw) == request.body


def test_little_is_needed() -> None:
    """A text; not even that."""
    request = decode(input="Hi")

    assert ((Message(role="user", text="Hi"),), False, False) == (request.messages, request.stream, request.structured)
    assert () == decode().messages
    assert not decode(input="Hi", text={"format": {"type": "text"}}).structured


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param({"input": 5}, "invalid_value", "input", id="type"),
        pytest.param(
            {"input": [{"type": "function_call", "arguments": {}}]},
            "invalid_value",
            "input[0].arguments",
            id="inside",
        ),
        pytest.param({"Input": "x"}, "ambiguous_key", "Input", id="case"),
        pytest.param({"input": [{"Role": "user"}]}, "ambiguous_key", "Role", id="case of an item's"),
        pytest.param({"input": [{"content": [{"Text": "x"}]}]}, "ambiguous_key", "Text", id="case of a part's"),
        pytest.param({"tools": [{"type": "function", "Name": "x"}]}, "ambiguous_key", "Name", id="case of a tool's"),
        pytest.param({"background": True}, "unsupported_parameter", "background", id="background"),
        pytest.param({"conversation": "conv_1"}, "unsupported_parameter", "conversation", id="conversation"),
        pytest.param({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt", id="prompt"),
    ],
)
def test_what_is_refused(body: dict[str, Any], code: str, param: str) -> None:
    """By name: what could be read in two ways, and what could not be judged."""
    with pytest.raises(BadRequest) as failure:
        decode(**body)

    assert (code, param) == (failure.value.code, failure.value.param)


def test_covered_texts() -> None:
    """Each where it stands; nothing else changes, and no raw bytes are left."""
    before = decode(input=ITEMS, instructions="In short.")
    covers = {
        0: [Cover(start=3, end=8, text="long")],
        2: [Cover(start=2, end=5, text="-")],
        5: [Cover(start=0, end=4, text="X")],
        7: [Cover(start=0, end=6, text="ours")],
    }

    after = responses.with_texts(before, covers, {(3, 0): "{}", (4, 0): "drop"})

    texts = [message.text for message in after.messages]
    assert ["In long.", "Be kind.", "Hi-\nou"] == texts[:3]
    assert ("X", "ours") == (texts[5], texts[7])
    assert ["{}", "drop"] == [call.arguments for message in after.messages for call in message.tool_calls]
    assert (b"", ITEMS[8:], "done") == (after.raw, after.body["input"][8:], ITEMS[5]["output"])  # type: ignore[index] # Json
    assert (
        "ello" == responses.with_texts(decode(input="Hello"), {0: [Cover(start=0, end=1, text="")]}, {}).body["input"]
    )


def test_arguments_of_a_kind_without_them_stay() -> None:
    """There is no one text to put others in."""
    before = decode(input=[{"type": "shell_call", "call_id": "c", "action": {}}])

    assert before.body == responses.with_texts(before, {}, {(0, 0): "{}"}).body


def test_reasoning_that_is_brought_back() -> None:
    """Only its words are changed."""
    before = decode(input=ITEMS)
    after = responses.with_reasoning(before, str.upper)

    assert {**ITEMS[2], "summary": [{"type": "summary_text", "text": "HM."}]} == after.body["input"][2]  # type: ignore[index] # Json
    assert before is responses.with_reasoning(before, str)
    plain = decode(input="Hi")
    assert plain is responses.with_reasoning(plain, str.upper)


@pytest.mark.parametrize(
    ("names", "choice", "left", "chosen"),
    [
        pytest.param({"f"}, {"type": "function", "name": "f"}, ["custom", "web_search", "mcp"], "auto", id="chosen"),
        pytest.param(
            {"f"}, {"type": "web_search"}, ["custom", "web_search", "mcp"], {"type": "web_search"}, id="another"
        ),
        pytest.param({"f"}, "required", ["custom", "web_search", "mcp"], "required", id="any"),
        pytest.param(
            {"web_search", "mcp.shop"},
            {"type": "allowed_tools", "tools": [{"type": "mcp", "server_label": "shop"}]},
            ["function", "custom"],
            "auto",
            id="allowed",
        ),
        pytest.param({"f", "sql", "web_search", "mcp.shop"}, "auto", None, None, id="all"),
    ],
)
def test_tools_that_are_taken_out(names: set[str], choice: Any, left: list[str] | None, chosen: Any) -> None:
    """Are not offered, and not chosen."""
    after = responses.strip_tools(decode(input="Hi", tools=TOOLS, tool_choice=choice), names)

    tools: Any = after.body.get("tools")
    assert left == (tools and [tool["type"] for tool in tools])
    assert (chosen, names & {tool.name for tool in after.tools}) == (after.body.get("tool_choice"), set())
    assert () == responses.strip_tools(decode(input="Hi"), {"f"}).tools


def test_settings() -> None:
    """Instructions come after the client's own."""
    before = decode(input="Hi", instructions="Be kind.")
    after = responses.with_settings(before, {"instructions": "Be short.", "max_tokens": 5, "temperature": 0})

    assert ("Be kind.\n\nBe short.", 5, 0) == tuple(
        after.body[key] for key in ("instructions", "max_output_tokens", "temperature")
    )
    assert ("Be kind.\n\nBe short.", 5, 0.0) == (after.messages[0].text, after.max_output_tokens, after.temperature)
    assert (
        "Be short." == responses.with_settings(decode(input="Hi"), {"instructions": "Be short."}).body["instructions"]
    )
    assert before is responses.with_settings(before, {})


def test_an_output_limit() -> None:
    """Only where there is none."""
    assert 5 == responses.with_max_output(decode(input="Hi"), 5).body["max_output_tokens"]
    assert 3 == responses.with_max_output(decode(input="Hi", max_output_tokens=3), 5).max_output_tokens


def test_a_turn_is_not_written() -> None:
    """What a model has thought before a call cannot be said for it."""
    assert None is responses.with_turn(decode(input="Hi"), Reply(), {})
