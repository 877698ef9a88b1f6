"""Owns the proof of a Responses request said as a chat completion: nothing is lost, or it is refused by name."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from proxy.errors import BadRequest
from proxy.wire import responses
from tests.wire.test_responses import decode

SEALED = "handrail:" + base64.b64encode(b'[{"type":"thinking","signature":"s"}]').decode()


def chat(**body: Any) -> dict[str, Any]:
    """Return the chat request that a Responses request comes to."""
    request = responses.as_chat(decode(**body))
    assert ("chat", b"") == (request.dialect, request.raw)
    return request.body


def messages(*items: dict[str, Any]) -> Any:
    """Return the messages that items come to."""
    return chat(input=list(items))["messages"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"input": "Hi"}, {"messages": [{"role": "user", "content": "Hi"}]}, id="a text"),
        pytest.param(
            {"instructions": "Be kind."},
            {"messages": [{"role": "system", "content": "Be kind."}]},
            id="instructions alone",
        ),
        pytest.param(
            {"max_output_tokens": 5, "temperature": 0, "top_p": 1, "user": "u", "metadata": {"a": "b"}, "store": True},
            {
                "max_completion_tokens": 5,
                "temperature": 0,
                "top_p": 1,
                "user": "u",
                "metadata": {"a": "b"},
                "messages": [],
            },
            id="settings",
        ),
        pytest.param(
            {"stream": True, "top_logprobs": 2, "include": ["x"]},
            {
                "stream": True,
                "stream_options": {"include_usage": True},
                "top_logprobs": 2,
                "logprobs": True,
                "messages": [],
            },
            id="streamed",
        ),
        pytest.param(
            {
                "reasoning": {"effort": "low", "summary": "auto"},
                "text": {"verbosity": "low", "format": {"type": "json_object"}},
            },
            {"reasoning_effort": "low", "verbosity": "low", "response_format": {"type": "json_object"}, "messages": []},
            id="thought and form",
        ),
        pytest.param(
            {"reasoning": {}, "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}},
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
                "messages": [],
            },
            id="a schema",
        ),
        pytest.param(
            {
                "tools": [{"type": "function", "name": "f", "strict": None}, {"type": "custom", "name": "c"}],
                "tool_choice": "none",
            },
            {
                "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}],
                "tool_choice": "none",
                "messages": [],
            },
            id="tools",
        ),
        pytest.param(
            {"tool_choice": {"type": "function", "name": "f"}},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}, "messages": []},
            id="a tool",
        ),
        pytest.param(
            {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "c"}]}},
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "c"}}]},
                },
                "messages": [],
            },
            id="some tools",
        ),
    ],
)
def test_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every field in its place."""
    assert {"model": "m", **expected} == chat(**body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"previous_response_id": "resp_1"}, "previous_response_id", id="a history that is elsewhere"),
        pytest.param({"max_tool_calls": 3}, "max_tool_calls", id="a field"),
        pytest.param({"tools": [{"type": "web_search"}]}, "tools[0]", id="a tool that the provider runs"),
        pytest.param({"tool_choice": {"type": "web_search"}}, "tool_choice", id="its choice"),
        pytest.param({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]", id="a reference"),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0]",
            id="image",
        ),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0]",
            id="file",
        ),
        pytest.param({"input": [{"role": "user", "content": [{"type": "other"}]}]}, "input[0].content[0]", id="a part"),
    ],
)
def test_what_cannot_be_said(body: dict[str, Any], param: str) -> None:
    """Is refused with its place."""
    with pytest.raises(BadRequest) as failure:
        chat(**body)

    assert ("unsupported_parameter", param) == (failure.value.code, failure.value.param)


def test_a_conversation() -> None:
    """Calls that stand side by side are one turn, with what was thought and said before them."""
    said = messages(
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "content": None},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "c", "input": "x"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
    )

    assert [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "c", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": "No more."},
    ] == said


def test_parts() -> None:
    """Texts alone are one text; with others each has its own place."""
    parts = [
        {"type": "input_text", "text": "See:"},
        {"type": "input_image", "image_url": "data:image/png;base64,x", "detail": "low"},
        {"type": "input_image", "image_url": "https://example.invalid/x.png"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,x"},
        {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
    ]

    (said,) = messages({"role": "user", "content": parts})

    assert [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.invalid/x.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,x"}},
        {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
    ] == said["content"]
    assert (
        "a\nb"
        == messages({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})[0][
            "content"
        ]
    )


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param(
            {"encrypted_content": SEALED}, {"thinking_blocks": [{"type": "thinking", "signature": "s"}]}, id="kept"
        ),
        pytest.param({"encrypted_content": "handrail:!"}, {}, id="broken"),
        pytest.param({"encrypted_content": "handrail:" + base64.b64encode(b"{").decode()}, {}, id="no JSON"),
        pytest.param({"encrypted_content": "gAAAA", "summary": []}, {}, id="OpenAI's own"),
    ],
)
def test_what_a_provider_wants_back(item: dict[str, Any], expected: dict[str, Any]) -> None:
    """Of what its model thought, it gets as it was; what only OpenAI can read is left out."""
    (said,) = messages({"type": "reasoning", **item})

    assert {"role": "assistant", "content": None, **expected} == said
