"""Owns the proof of the chat dialect's intake: the lens reads what the body says, and nothing of the body is lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.terms import Message, RawRequest, Request, ToolCall, ToolSpec
from proxy.wire import chat

HI = [{"role": "user", "content": "hi"}]


def raw(body: bytes) -> RawRequest:
    """Return the HTTP request with this body."""
    return RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=body, peer="test")


def decode(**fields: Any) -> Request:
    """Decode a request that has these fields."""
    return chat.decode(raw(json.dumps({"model": "m", "messages": HI, **fields}).encode()))


def message(**fields: Any) -> Message:
    """Decode one message that has these fields."""
    return decode(messages=[{"role": "user", **fields}]).messages[0]


def function(name: str) -> dict[str, Any]:
    """Return a function tool."""
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def test_the_smallest_request() -> None:
    """A model and a message are enough; the body is the tree, and the raw bytes are the client's."""
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'

    expected = Request(
        dialect="chat", model="m", messages=(Message(role="user", text="hi"),), body=json.loads(body), raw=body
    )
    assert expected == chat.decode(raw(body))


@pytest.mark.parametrize(
    ("fields", "lens"),
    [
        pytest.param({"stream": True}, {"stream": True, "usage_asked": False}, id="stream"),
        pytest.param({"stream": None}, {"stream": False}, id="stream null"),
        pytest.param(
            {"stream": True, "stream_options": {"include_usage": True}}, {"usage_asked": True}, id="usage asked for"
        ),
        pytest.param(
            {"stream": True, "stream_options": {"include_usage": False}}, {"usage_asked": False}, id="usage not wanted"
        ),
        pytest.param({"stream_options": {"include_usage": True}}, {"usage_asked": False}, id="usage without a stream"),
        pytest.param({"max_tokens": 5}, {"max_output_tokens": 5}, id="max_tokens"),
        pytest.param({"max_completion_tokens": 5}, {"max_output_tokens": 5}, id="max_completion_tokens"),
        pytest.param({"max_tokens": 5, "max_completion_tokens": 7}, {"max_output_tokens": 7}, id="the larger limit"),
        pytest.param({"max_tokens": None}, {"max_output_tokens": None}, id="no limit"),
        pytest.param({"n": 3}, {"choices": 3}, id="n"),
        pytest.param({"n": None}, {"choices": 1}, id="n null"),
        pytest.param({"temperature": 1}, {"temperature": 1.0}, id="temperature"),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {}}}, {"structured": True}, id="schema"
        ),
        pytest.param({"response_format": {"type": "json_object"}}, {"structured": True}, id="JSON mode"),
        pytest.param({"response_format": {"type": "text"}}, {"structured": False}, id="text format"),
        pytest.param({"metadata": {"a": "b", "c": 1}}, {"metadata": {"a": "b"}}, id="metadata that is text"),
        pytest.param({"user": "u"}, {"user": "u"}, id="user"),
        pytest.param({"safety_identifier": "u"}, {"user": "u"}, id="safety_identifier"),
        pytest.param({"user": "u", "safety_identifier": "v"}, {"user": "u"}, id="user before safety_identifier"),
        pytest.param(
            {"tools": [function("f"), {"type": "custom", "custom": {"name": "c"}}, {"type": "web_search"}]},
            {
                "tools": (
                    ToolSpec(name="f", schema={"type": "object"}),
                    ToolSpec(name="c"),
                    ToolSpec(name="web_search"),
                )
            },
            id="tools of every kind",
        ),
        pytest.param(
            {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
            {"tools": (ToolSpec(name="f", schema={"type": "object"}),)},
            id="a tool without the object around it",
        ),
        pytest.param(
            {
                "functions": [{"name": "f", "description": "Finds."}, {"name": "g", "description": 5}],
                "tools": [{"type": "function", "name": "h", "description": "Helps."}],
            },
            {
                "tools": (
                    ToolSpec(name="h", description="Helps."),
                    ToolSpec(name="f", description="Finds."),
                    ToolSpec(name="g"),
                )
            },
            id="what is said of tools, legacy functions as well",
        ),
        pytest.param({"tools": []}, {"tools": ()}, id="no tools"),
    ],
)
def test_what_the_lens_reads(fields: dict[str, Any], lens: dict[str, Any]) -> None:
    """Each field that a policy can ask for is read."""
    request = decode(**fields)

    assert lens == {name: getattr(request, name) for name in lens}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"content": "a"}, Message(role="user", text="a"), id="text"),
        pytest.param({"content": None}, Message(role="user"), id="null"),
        pytest.param({}, Message(role="user"), id="no content"),
        pytest.param(
            {"content": [{"type": "text", "text": "a"}, {"text": "b"}, {"type": "refusal", "refusal": "c"}]},
            Message(role="user", text="a\nb\nc"),
            id="parts",
        ),
        pytest.param(
            {"content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "a"}, {}]},
            Message(role="user", text="a", media=("image_url", "")),
            id="media",
        ),
        pytest.param(
            {"content": [{"type": "image_url", "text": "a"}, {"text": "b", "refusal": "c"}]},
            Message(role="user", text="a\nb\nc", media=("image_url",)),
            id="an image that says something",
        ),
        pytest.param(
            {"role": "assistant", "content": "a", "refusal": "b"}, Message(role="assistant", text="a\nb"), id="both"
        ),
        pytest.param({"content": [{"type": "text", "text": ""}]}, Message(role="user"), id="an empty part"),
        pytest.param(
            {"role": "assistant", "refusal": "no", "name": "n"},
            Message(role="assistant", text="no", name="n"),
            id="refusal",
        ),
        pytest.param(
            {"role": "tool", "tool_call_id": "c", "content": "r"},
            Message(role="tool", text="r", tool_call_id="c"),
            id="tool result",
        ),
        pytest.param(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "custom", "custom": {"name": "c", "input": "x"}},
                    {"type": "mcp"},
                ],
            },
            Message(
                role="assistant",
                tool_calls=(
                    ToolCall(id="a", name="f", arguments="{}"),
                    ToolCall(id="b", name="c", arguments="x", index=1),
                    ToolCall(id="", name="mcp", arguments="", index=2),
                ),
            ),
            id="calls of every kind",
        ),
        pytest.param(
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            Message(role="assistant", tool_calls=(ToolCall(id="", name="f", arguments="{}", index=-1),)),
            id="legacy call",
        ),
    ],
)
def test_what_a_message_says(fields: dict[str, Any], expected: Message) -> None:
    """All text, all calls and all other media of a message are seen."""
    assert expected == message(**fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"model": None}, "model", id="no model"),
        pytest.param({"model": ""}, "model", id="empty model"),
        pytest.param({"messages": []}, "messages", id="no messages"),
        pytest.param({"messages": "hi"}, "messages", id="messages no list"),
        pytest.param({"messages": [*HI, "hi"]}, "messages[1]", id="message no object"),
        pytest.param({"messages": [{"content": "hi"}]}, "messages[0].role", id="no role"),
        pytest.param({"messages": [{"role": 1}]}, "messages[0].role", id="role no string"),
        pytest.param({"messages": [*HI, *HI, {"role": "user", "content": 1}]}, "messages[2].content", id="content"),
        pytest.param({"messages": [{"role": "u", "content": ["a"]}]}, "messages[0].content[0]", id="part no object"),
        pytest.param(
            {"messages": [{"role": "u", "content": [{"text": ["a"]}]}]}, "messages[0].content[0].text", id="part's text"
        ),
        pytest.param(
            {"messages": [{"role": "a", "tool_calls": [{"function": {"arguments": {}}}]}]},
            "messages[0].tool_calls[0].function.arguments",
            id="arguments no string",
        ),
        pytest.param({"tools": {}}, "tools", id="tools no list"),
        pytest.param({"tools": [{"function": {}}]}, "tools[0].function.name", id="tool without name"),
        pytest.param({"functions": [{"name": 1}]}, "functions[0].name", id="function's name"),
        pytest.param({"stream": "yes"}, "stream", id="stream"),
        pytest.param({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", id="include_usage"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="no tokens"),
        pytest.param({"max_tokens": -1}, "max_tokens", id="negative tokens"),
        pytest.param({"max_tokens": 1.5}, "max_tokens", id="half a token"),
        pytest.param({"max_completion_tokens": 2**31}, "max_completion_tokens", id="too many tokens"),
        pytest.param({"n": 0}, "n", id="no choice"),
        pytest.param({"n": 129}, "n", id="too many choices"),
        pytest.param({"n": True}, "n", id="n a boolean"),
        pytest.param({"temperature": "hot"}, "temperature", id="temperature"),
        pytest.param({"response_format": {"type": 1}}, "response_format.type", id="format"),
        pytest.param({"metadata": []}, "metadata", id="metadata"),
        pytest.param({"user": 1}, "user", id="user"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(fields: dict[str, Any], param: str) -> None:
    """The caller learns which field is at fault."""
    with pytest.raises(BadRequest) as caught:
        decode(**fields)

    assert (400, "invalid_value", param) == (caught.value.status, caught.value.code, caught.value.param)
    assert caught.value.message.startswith(f"{param}: ")


def test_a_missing_field_is_named() -> None:
    """A body without model or messages says which it lacks."""
    with pytest.raises(BadRequest) as caught:
        chat.decode(raw(b'{"messages":[{"role":"user"}]}'))

    assert ("model", "model: object missing required field `model`.") == (caught.value.param, caught.value.message)


def test_a_body_that_is_read_in_two_ways_is_refused() -> None:
    """Strict intake stands before everything else."""
    with pytest.raises(BadRequest, match="'model' appears twice"):
        chat.decode(raw(b'{"model":"a","\\u006dodel":"b","messages":[{"role":"user"}]}'))


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        pytest.param({"Model": "x"}, "Model", id="top"),
        pytest.param({"TOOLS": []}, "TOOLS", id="a field that is absent"),
        pytest.param({"me\u017f\u017fages": []}, "me\u017f\u017fages", id="long s"),
        pytest.param({"messages": [{"role": "user", "Content": "x"}]}, "Content", id="message"),
        pytest.param({"messages": [{"role": "user", "content": [{"Text": "x"}]}]}, "Text", id="part"),
        pytest.param({"tools": [{"Function": {}}]}, "Function", id="tool"),
        pytest.param({"tools": [{"function": {"name": "f", "Name": "g"}}]}, "Name", id="tool's function"),
        pytest.param({"functions": [{"name": "f", "NAME": "g"}]}, "NAME", id="legacy function"),
    ],
)
def test_a_key_that_differs_only_in_case_is_refused(fields: dict[str, Any], key: str) -> None:
    """Providers written in Go would take it for the field itself: judged as one thing, served as another."""
    with pytest.raises(BadRequest) as caught:
        decode(**fields)

    assert ("ambiguous_key", key) == (caught.value.code, caught.value.param)


def test_unknown_keys_pass_wherever_they_are() -> None:
    """Only a key that is like one of the lens is in doubt: every other one survives in the body."""
    fields = {
        "reasoning_effort": "low",
        "X-New": 1,
        "messages": [{"role": "user", "content": [{"text": "a", "cache": 1}], "weight": 0}],
        "tools": [{**function("f"), "strict": True}, {"type": "x", "deep": {"Type": 1}}],
    }

    assert {"model": "m", **fields} == decode(**fields).body


# --- changes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        pytest.param({"tools": [function("f"), function("g")]}, {"tools": [function("g")]}, id="one of two"),
        pytest.param({"tools": [function("f")]}, {}, id="the last"),
        pytest.param(
            {"tools": [function("f")], "tool_choice": "required", "parallel_tool_calls": True},
            {},
            id="the last, with what chooses among them",
        ),
        pytest.param(
            {"tools": [function("f"), function("g")], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tools": [function("g")], "tool_choice": "auto"},
            id="the chosen one",
        ),
        pytest.param(
            {"tools": [function("f"), function("g")], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            {"tools": [function("g")], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            id="not the chosen one",
        ),
        pytest.param(
            {
                "tools": [function("f"), function("g")],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{"function": {"name": "f"}}]}},
            },
            {"tools": [function("g")], "tool_choice": "auto"},
            id="an allowed one",
        ),
        pytest.param(
            {"tools": [function("f"), function("g")], "tool_choice": {"type": "allowed_tools", "allowed_tools": "?"}},
            {"tools": [function("g")], "tool_choice": {"type": "allowed_tools", "allowed_tools": "?"}},
            id="a choice nobody understands",
        ),
        pytest.param(
            {"tools": [{"type": "custom", "custom": {"name": "f"}}, {"type": "mcp"}, {"function": {"name": "g"}}]},
            {"tools": [{"type": "mcp"}, {"function": {"name": "g"}}]},
            id="custom",
        ),
        pytest.param(
            {"functions": [{"name": "f"}, {"name": "g"}], "function_call": {"name": "f"}},
            {"functions": [{"name": "g"}], "function_call": "auto"},
            id="legacy",
        ),
        pytest.param({"functions": [{"name": "f"}], "function_call": "auto"}, {}, id="the last legacy one"),
        pytest.param({"tools": None}, {"tools": None}, id="no tools"),
    ],
)
def test_strip_tools(fields: dict[str, Any], left: dict[str, Any]) -> None:
    """The tool goes, from list and choice; the client's bytes, which still offer it, are not kept."""
    stripped = chat.strip_tools(decode(**fields), ["f"])

    assert {"model": "m", "messages": HI, **left} == stripped.body
    assert (b"", ["f"]) == (stripped.raw, [*{"f"} - {tool.name for tool in stripped.tools}])


def test_a_tool_without_a_name_is_stripped_by_its_type() -> None:
    """What the lens calls a vendor's own tool is how it is stripped."""
    stripped = chat.strip_tools(
        decode(tools=[{"type": "mcp"}, {"function": None, "type": "x"}, {}]), ["mcp", "function"]
    )

    assert ([{"function": None, "type": "x"}], (ToolSpec(name="x"),)) == (stripped.body["tools"], stripped.tools)


def test_with_max_output() -> None:
    """A limit is set where the client gave none, in the body that will be sent."""
    limited = chat.with_max_output(decode(), 50)

    assert (50, 50, b"") == (limited.max_output_tokens, limited.body["max_completion_tokens"], limited.raw)


def test_the_clients_own_limit_stands() -> None:
    """A request that has a limit is left as it is."""
    request = decode(max_tokens=5)

    assert request is chat.with_max_output(request, 50)


NAMED = st.fixed_dictionaries({"name": st.sampled_from("fgh")})
KIND: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional={"type": st.sampled_from("fgh")})
TOOL: st.SearchStrategy[dict[str, Any]] = (
    KIND
    | st.builds(
        lambda tool, named, ways: {**tool, **dict.fromkeys(ways, named)},
        KIND,
        NAMED,
        st.sets(st.sampled_from(["function", "custom"])),
    )
    | st.builds(dict, KIND, name=st.sampled_from("fgh"))
)


@given(st.lists(TOOL), st.sets(st.sampled_from("fgh")))
def test_the_lens_names_the_tools_that_are_left(tools: list[dict[str, Any]], names: set[str]) -> None:
    """However a tool is written, what is stripped from the body is what is gone from the lens."""
    stripped = chat.strip_tools(decode(tools=tools), names)

    assert chat.decode(raw(json.dumps(stripped.body).encode())).tools == stripped.tools
    assert names.isdisjoint(tool.name for tool in stripped.tools)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
UNKNOWN = st.dictionaries(TEXT.map(lambda key: f"x_{key}"), JSON, max_size=4)


@given(UNKNOWN, UNKNOWN)
def test_unknown_fields_survive_every_change(top: dict[str, Any], inside: dict[str, Any]) -> None:
    """Fields that Handrail does not know pass through decoding, stripping and limiting untouched."""
    fields = {**top, "messages": [{"role": "user", "content": "hi", **inside}], "tools": [function("f"), function("g")]}
    body = msgspec.json.encode({"model": "m", **fields})

    changed = chat.with_max_output(chat.strip_tools(chat.decode(raw(body)), ["f"]), 9)

    expected = {"model": "m", **fields, "tools": [function("g")], "max_completion_tokens": 9}
    assert expected == changed.body == json.loads(msgspec.json.encode(changed.body))


# --- the real thing -------------------------------------------------------------------------------------------------

FILES = ("openai", "azure-openai", "groq", "deepseek", "mistral", "openrouter", "ollama", "others")


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Read the recorded chat completions of every vendor that speaks the dialect."""
    found: list[dict[str, Any]] = []
    for name in FILES:
        with gzip.open(folder / "cassettes" / f"{name}.jsonl.gz") as lines:
            found += [record for record in map(json.loads, lines) if record["endpoint"] == "chat.completions"]
    return found


def excused(record: dict[str, Any], error: BadRequest) -> bool:
    """Say whether a refusal is right: the provider refused as well, or Azure took the model from the URL."""
    by_url = record["provider"] == "azure-openai" and error.param == "model"
    return by_url or '"error"' in record["response"]["body"]


def test_recorded_requests_are_decoded(real_data: Path) -> None:
    """Every recorded request of every vendor is decoded, and its body is what it says."""
    count, wrong = 0, []
    for record in recorded(real_data):
        body = record["request"]["body"].encode()
        try:
            request = chat.decode(raw(body))
        except BadRequest as error:
            wrong += [] if excused(record, error) else [(record["id"], error.message)]
        else:
            count += 1
            wrong += [] if request.body == json.loads(body) else [(record["id"], "another body")]

    assert (True, []) == (count > 400, wrong)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"messages": [{"role": "User", "content": "hi"}]}, "messages[0].role", id="role in another case"),
        pytest.param({"messages": [{"role": " user", "content": "hi"}]}, "messages[0].role", id="role with a space"),
        pytest.param(
            {"tools": [{"type": "custom", "function": {"name": "a"}, "custom": {"name": "b"}}]},
            "tools[0]",
            id="two kinds",
        ),
        pytest.param({"tools": [{"name": "b", "function": {"name": "a"}}]}, "tools[0]", id="two names"),
    ],
)
def test_what_providers_would_take_for_different_things(fields: dict[str, Any], param: str) -> None:
    """A role or a tool that rules would know as one thing and a provider as another is refused."""
    assert "critic" == message(role="critic").role
    with pytest.raises(BadRequest) as caught:
        decode(**fields)

    assert param == caught.value.param


def test_a_model_has_a_name_and_no_book() -> None:
    """The name of a model is bounded: it is written into every record."""
    assert 512 == len(decode(model="m" * 512).model)
    with pytest.raises(BadRequest):
        decode(model="m" * 513)
