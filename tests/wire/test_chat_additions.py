"""Owns the proof of what is added to a chat request: settings, instructions, and what became of the calls."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.terms import Json, Message, RawRequest, Reply, Request, ToolCall
from proxy.wire.chat import decode
from proxy.wire.chat_additions import with_settings, with_turn

CALL = ToolCall(id="c1", name="refund", arguments='{"a": 1}')


def request(**fields: Any) -> Request:
    """Decode a request of one user message, with other fields."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode(
        RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=msgspec.json.encode(body), peer="")
    )


def messages(*roles: str) -> list[dict[str, str]]:
    """Return one message of each role."""
    return [{"role": role, "content": role} for role in roles]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (messages("user"), ["system:new", "user:user"]),
        (messages("system", "user"), ["system:system", "system:new", "user:user"]),
        (
            messages("developer", "user", "system"),
            ["developer:developer", "developer:new", "user:user", "system:system"],
        ),
        (messages("system"), ["system:system", "system:new"]),
    ],
    ids=["none", "after the system's", "as a developer's", "nothing else"],
)
def test_instructions_come_after_the_clients_own(given: list[dict[str, str]], expected: list[str]) -> None:
    """They have the last word among those that open the conversation, in a role that the model knows from it."""
    changed = with_settings(request(messages=given), {"instructions": "new"})

    sent: Any = changed.body["messages"]
    assert expected == [f"{message['role']}:{message['content']}" for message in sent]
    assert expected == [f"{message.role}:{message.text}" for message in changed.messages]
    assert b"" == changed.raw


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"max_completion_tokens": 5}),
        ({"max_tokens": 9}, {"max_tokens": 5}),
        ({"max_completion_tokens": 9}, {"max_completion_tokens": 5}),
    ],
    ids=["none", "the old name", "the new name"],
)
def test_the_output_limit_keeps_its_name(given: dict[str, int], expected: dict[str, int]) -> None:
    """A limit is set under the name that the client chose: some providers know only one."""
    changed = with_settings(request(**given), {"max_tokens": 5})

    assert expected == {key: value for key, value in changed.body.items() if key.startswith("max_")}
    assert 5 == changed.max_output_tokens


@pytest.mark.parametrize("value", [0, 0.5], ids=["whole", "fraction"])
def test_a_temperature_is_set(value: Json) -> None:
    """The tree has the number as the rule said it, the noun a float."""
    changed = with_settings(request(temperature=1.5), {"temperature": value})

    assert (value, value) == (changed.body["temperature"], changed.temperature)
    assert isinstance(changed.temperature, float)


def test_without_settings_nothing_changes() -> None:
    """The client's own bytes go upstream."""
    asked = request()

    assert asked is with_settings(asked, {})


def test_the_model_is_told_what_became_of_its_calls() -> None:
    """Its own message comes first, then a result for each call; a choice that was forced is free."""
    asked = request(tool_choice="required", tools=[{"type": "function", "function": {"name": "refund"}}])

    told = with_turn(asked, Reply(tool_calls=(CALL,)), {"c1": "Not done."})

    assert told is not None
    assert [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "refund", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Not done."},
    ] == told.body["messages"]
    assert ("auto", b"") == (told.body["tool_choice"], told.raw)
    assert (
        Message(role="assistant", tool_calls=(CALL,)),
        Message(role="tool", text="Not done.", tool_call_id="c1"),
    ) == told.messages[1:]


def test_a_choice_that_was_not_made_stays_unmade() -> None:
    """Nothing is added that the client did not send."""
    told = with_turn(request(), Reply(text="Let me see.", tool_calls=(CALL,)), {"c1": "Not done."})

    assert told is not None
    assert ("tool_choice" in told.body, told.messages[1].text) == (False, "Let me see.")


@pytest.mark.parametrize(
    ("call", "tools"),
    [
        (ToolCall(id="", name="refund", arguments="{}"), []),
        (ToolCall(id="c2", name="refund", arguments="{}"), []),
        (ToolCall(id="c1", name="shell", arguments="ls"), [{"type": "custom", "custom": {"name": "shell"}}]),
    ],
    ids=["no id", "no result", "no function"],
)
def test_a_turn_that_cannot_be_written_is_none(call: ToolCall, tools: list[Json]) -> None:
    """A provider would refuse it: the denial is then said as any other."""
    fields = {"tools": tools} if tools else {}

    assert with_turn(request(**fields), Reply(tool_calls=(call,)), {"": "x", "c1": "x"}) is None
