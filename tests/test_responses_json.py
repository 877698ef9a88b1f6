"""Owns the proof of the Responses API's shapes: what is a call, how it ended, what was used."""

from __future__ import annotations

from typing import Any

import pytest

from proxy import responses_json
from proxy.terms import Usage
from tests.responded import USAGE, call, message


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param(call("f", "{}"), ("call_1", "f", "{}"), id="function"),
        pytest.param(
            {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "select"},
            ("c", "sql", "select"),
            id="custom",
        ),
        pytest.param(
            {"type": "local_shell_call", "id": "i", "status": "completed", "action": {"command": ["ls"]}},
            ("i", "local_shell_call", '{"action":{"command":["ls"]}}'),
            id="a kind that is its name",
        ),
        pytest.param({"type": "shell_call", "call_id": "c"}, ("c", "shell_call", ""), id="that says nothing"),
        pytest.param({"type": "function_call"}, ("", "", ""), id="without anything"),
        pytest.param({"type": "function_call", "arguments": {"a": 1}}, ("", "", '{"a":1}'), id="an object"),
    ],
)
def test_calls(item: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """Whatever the agent would act on has an id, a name and arguments."""
    found = responses_json.call_id(item), responses_json.name(item), responses_json.arguments(item)

    assert (True, expected) == (responses_json.is_call(item), found)


def test_what_the_provider_runs_is_no_call() -> None:
    """Nor is what is only said."""
    kinds = (
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_call",
        "image_generation_call",
        "reasoning",
    )

    assert not any(responses_json.is_call({"type": kind}) for kind in kinds)
    assert not responses_json.is_call(message("Hello"))


@pytest.mark.parametrize(
    ("tree", "called", "expected"),
    [
        pytest.param({"status": "completed"}, False, "stop", id="stop"),
        pytest.param({"status": "completed"}, True, "tool_calls", id="calls"),
        pytest.param(
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            False,
            "length",
            id="length",
        ),
        pytest.param(
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            True,
            "content_filter",
            id="filter",
        ),
        pytest.param({"status": "incomplete", "incomplete_details": {"reason": "other"}}, False, "other", id="another"),
        pytest.param({"status": "incomplete", "incomplete_details": 5}, False, "length", id="no reason"),
    ],
)
def test_how_it_ended(tree: dict[str, Any], called: bool, expected: str) -> None:
    """In the words of chat completions."""
    assert expected == responses_json.finish_reason(tree, called)


def test_an_end_in_this_dialect() -> None:
    """Only what was cut short is incomplete."""
    assert [
        ("completed", ""),
        ("completed", ""),
        ("incomplete", "max_output_tokens"),
        ("incomplete", "content_filter"),
    ] == [responses_json.ending(finish) for finish in ("stop", "tool_calls", "length", "content_filter")]


def test_usage() -> None:
    """To the token, both ways; what is not there is none."""
    used = Usage(input_tokens=7, output_tokens=5, cache_read_tokens=3, reasoning_tokens=2)

    assert (used, USAGE, None) == (
        responses_json.usage({"usage": USAGE}),
        responses_json.usage_object(used),
        responses_json.usage({}),
    )


def test_objects_of_what_is_no_list() -> None:
    """Are none."""
    assert ([], [{}]) == (responses_json.objects("x"), responses_json.objects([{}, 5]))
