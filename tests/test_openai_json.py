"""Owns the proof of the OpenAI JSON codec: whatever a client could read is read, and nothing makes it raise."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import openai_json
from proxy.openai_json import CallNumbers
from proxy.terms import ChoiceDelta, ToolCallDelta, Usage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def lies(*fields: str) -> st.SearchStrategy[Any]:
    """Draw objects that have these fields, with anything in them."""
    return st.dictionaries(st.sampled_from(fields), JSON) | JSON


CALL = lies("index", "id", "type", "function", "custom")
PART = lies("content", "refusal", "reasoning", "tool_calls", "function_call")


@pytest.mark.parametrize(
    ("data", "tree"),
    [
        pytest.param(b'{"a":1}', {"a": 1}, id="an object"),
        pytest.param(b'{"a":"\xff"}', {"a": "\ufffd"}, id="broken UTF-8, as JavaScript reads it"),
        pytest.param(b'{"a":"\\ud800"}', {"a": "?"}, id="half a surrogate pair"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', {"a": 1}, id="BOM"),
        pytest.param(b'{"a":1e400}', {"a": float("inf")}, id="beyond a double"),
        pytest.param(b'{"a":Infinity}', {"a": float("inf")}, id="Infinity, as Python reads it"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", {"a": float("inf")}, id="5000 digits"),
        pytest.param(b'{"a":1e400,"index":12}', {"a": float("inf"), "index": 12}, id="integers stay integers"),
        pytest.param(b"[]", None, id="not an object"),
        pytest.param(b"{", None, id="cut"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b'{"a":' * 100_000, None, id="too deep"),
    ],
)
def test_parse(data: bytes, tree: dict[str, Any] | None) -> None:
    """A reply is read as the most lenient client would read it."""
    assert tree == openai_json.parse(data)


@given(st.binary() | st.text().map(str.encode))
def test_parse_never_raises(data: bytes) -> None:
    """Whatever bytes a provider sends, there is an object or there is none."""
    assert isinstance(openai_json.parse(data), dict | None)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param({"content": "a"}, ChoiceDelta(text="a"), id="text"),
        pytest.param({"content": "a", "role": "assistant"}, ChoiceDelta(text="a"), id="text and role"),
        pytest.param({"content": None}, ChoiceDelta(), id="no text"),
        pytest.param(
            {"content": [{"type": "text", "text": "a"}, {"text": "b"}, {"text": ["c"]}, "d", {"type": "thinking"}]},
            ChoiceDelta(text="ab"),
            id="text in parts",
        ),
        pytest.param({"refusal": "no"}, ChoiceDelta(refusal="no"), id="refusal"),
        pytest.param({"reasoning_content": "hm"}, ChoiceDelta(reasoning="hm"), id="reasoning_content"),
        pytest.param({"reasoning": "hm", "reasoning_content": ""}, ChoiceDelta(reasoning="hm"), id="reasoning"),
        pytest.param({"tool_calls": None, "function_call": None}, ChoiceDelta(), id="no calls"),
        pytest.param({"tool_calls": {}, "function_call": "f"}, ChoiceDelta(), id="calls of a wrong type"),
        pytest.param({"tool_calls": ["f"], "content": 5}, ChoiceDelta(), id="wrong types inside"),
    ],
)
def test_what_a_part_says(part: dict[str, Any], expected: ChoiceDelta) -> None:
    """Each field in which a vendor says something is read, in a chunk and in a message."""
    assert (expected,) == openai_json.deltas({"choices": [{"index": 0, "delta": part}]}, CallNumbers())
    assert (expected,) == openai_json.messages({"choices": [{"message": part}]})


@pytest.mark.parametrize(
    ("entry", "name", "arguments"),
    [
        pytest.param({"function": {"name": "f", "arguments": "{}"}}, "f", "{}", id="function"),
        pytest.param({"function": {"name": "f", "arguments": {"a": 1}}}, "f", '{"a":1}', id="arguments as an object"),
        pytest.param({"function": {"name": "f"}}, "f", "", id="no arguments"),
        pytest.param({"function": {"name": 5, "arguments": 5}}, "", "5", id="wrong types"),
        pytest.param({"type": "custom", "custom": {"name": "c", "input": "x"}}, "c", "x", id="custom"),
        pytest.param({"type": "mcp", "mcp": {"b": 1}}, "mcp", '{"b":1}', id="unknown kind"),
        pytest.param({"type": "mcp"}, "mcp", "", id="unknown kind without a body"),
        pytest.param({"type": "function"}, "", "", id="nothing but its type"),
        pytest.param({}, "", "", id="nothing"),
    ],
)
def test_what_a_call_calls(entry: dict[str, Any], name: str, arguments: str) -> None:
    """Every entry is a call that can be judged, whatever its kind."""
    (choice,) = openai_json.messages({"choices": [{"message": {"tool_calls": [None, entry]}}]})

    assert (ToolCallDelta(index=1, name=name, arguments=arguments, position=1),) == choice.tool_calls


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param('{"b": [1.0, "é"], "a": null}', '{"a":null,"b":[1.0,"é"]}', id="keys and spaces"),
        pytest.param(r'{"a":"\u00e9"}', '{"a":"é"}', id="escapes"),
        pytest.param("{", "{", id="no JSON"),
        pytest.param("[" * 100_000, "[" * 100_000, id="too deep"),
        pytest.param(r'{"a": "\ud800"}', r'{"a": "\ud800"}', id="half a surrogate pair"),
    ],
)
def test_one_call_has_one_spelling(arguments: str, expected: str) -> None:
    """However a client writes a call's arguments again, they are known again; what is no JSON stays as it is."""
    assert expected == openai_json.canonical(arguments)


def test_a_legacy_call_is_a_call() -> None:
    """`function_call` is judged like a tool call, under an index of its own."""
    part = {"function_call": {"name": "f", "arguments": "{}"}, "tool_calls": [{"id": "c", "function": {"name": "g"}}]}

    (choice,) = openai_json.messages({"choices": [{"message": part}]})

    assert [(0, "c", "g"), (-1, "", "f")] == [(call.index, call.id, call.name) for call in choice.tool_calls]


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        pytest.param([{"index": 0, "finish_reason": "stop"}], [(0, "stop")], id="index and finish reason"),
        pytest.param([{}, {}], [(0, ""), (1, "")], id="no index: its place"),
        pytest.param([{"index": "1", "finish_reason": 5}, 7], [(0, ""), (1, "")], id="wrong types"),
        pytest.param("no list", [], id="no list"),
        pytest.param(None, [], id="none"),
    ],
)
def test_every_entry_is_one_choice(choices: Any, expected: list[tuple[int, str]]) -> None:
    """There is one ChoiceDelta for each entry, whatever the entry is."""
    streamed = openai_json.deltas({"choices": choices}, CallNumbers())

    assert streamed == openai_json.messages({"choices": choices})
    assert expected == [(choice.index, choice.finish_reason) for choice in streamed]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param({"content": None, "audio": {"id": "a", "transcript": "spoken"}}, ("spoken", ""), id="audio"),
        pytest.param({"content": "a", "audio": None, "reasoning": "b"}, ("a", "b"), id="reasoning"),
        pytest.param({"reasoning_content": "b", "reasoning": "b"}, ("", "b"), id="reasoning in two fields"),
        pytest.param({"reasoning_content": "b", "reasoning": "c"}, ("", "bc"), id="two reasonings"),
        pytest.param(
            {"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "text": "b"}]}, ("", "b"), id="details"
        ),
        pytest.param({"reasoning_details": [{"summary": "b"}, {"data": "x"}, "y"]}, ("", "b"), id="details alone"),
        pytest.param({"thinking_blocks": [{"type": "thinking", "thinking": "b"}]}, ("", "b"), id="blocks"),
        pytest.param(
            {"content": [{"type": "thinking", "thinking": [{"text": "b"}, "x"]}, {"type": "text", "text": "a"}]},
            ("a", "b"),
            id="thinking among the parts",
        ),
    ],
)
def test_what_a_reply_says(part: dict[str, Any], expected: tuple[str, str]) -> None:
    """What is spoken is text that rules read, and no field of reasoning hides another."""
    (choice,) = openai_json.messages({"choices": [{"message": part}]})

    assert expected == (choice.text, choice.reasoning)


def test_the_number_of_a_choice() -> None:
    """Clients go by the number of a streamed choice, and by the place of a whole one, whatever number it has."""
    tree = {"choices": [{"index": 2}, {"index": 2}]}

    assert [2, 2] == [choice.index for choice in openai_json.deltas(tree, CallNumbers())]
    assert [0, 1] == [choice.index for choice in openai_json.messages(tree)]


CALL_TEXT = b'{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b'{"choices":[{"index":0,"delta":{"content":"a: b","role":"assistant"}}]}', True, id="text"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":[%b]}}]}' % CALL_TEXT, True, id="call"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":null,"function_call":{"name":"f"}}}]}', True, id="legacy"),
        pytest.param(b'{"choices":[{"delta":{"content":"\\u003cb\\u003a"}}],"x":{}}', True, id="escapes"),
        pytest.param(b'{"choices":[{"delta":null}],"Choice":1}', True, id="other names"),
        pytest.param(b'{"choices":null}', True, id="no choices"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":[%b],"tool_calls":[]}}]}' % CALL_TEXT, False, id="key twice"),
        pytest.param(b'{"x":"\\u003a","choices":[%b],"choices":[]}' % CALL_TEXT, False, id="key twice, escaped colon"),
        pytest.param(b'{"Choices":[]}', False, id="case of the choices"),
        pytest.param(b'{"choices":[{"Delta":{}}]}', False, id="case of the delta"),
        pytest.param(b'{"choices":[{"delta":{"Tool_Calls":[]}}]}', False, id="case of the calls"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":[{"Function":{}}]}}]}', False, id="case of the function"),
        pytest.param(b'{"choices":[{"delta":{"function_call":{"Name":"f"}}}]}', False, id="case of the name"),
        pytest.param(b'{"choices":{"0":{}}}', False, id="choices that are no list"),
        pytest.param(b'{"choices":[7]}', False, id="a choice that is no object"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":{"0":{}}}}]}', False, id="calls that are no list"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":[7]}}]}', False, id="a call that is no object"),
        pytest.param(b'{"choices":[{"delta":{"function_call":"f"}}]}', False, id="a legacy call that is no object"),
        pytest.param(
            b'{"choices":[{"delta":{"tool_calls":[%b],"function_call":{}}}]}' % CALL_TEXT,
            True,
            id="an empty legacy call",
        ),
        pytest.param(
            b'{"choices":[{"delta":{"tool_calls":[%b],"function_call":{"name":"g"}}}]}' % CALL_TEXT,
            False,
            id="two ways",
        ),
        pytest.param(
            b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"},"custom":{"name":"g"}}]}}]}',
            False,
            id="two kinds",
        ),
        pytest.param(b'{"choices":[{"delta":{"content":"a"},"message":null}]}', True, id="no message beside the delta"),
        pytest.param(b'{"choices":[{"delta":{},"message":{"content":"a"}}]}', False, id="a message beside the delta"),
        pytest.param(b'{"choices":[],"chunk":{"choices":[{"delta":{}}]}}', False, id="a chunk inside"),
        *(
            pytest.param(
                b'{"choices":[{"delta":{"tool_calls":[{"index":%b}]}}]}' % index, expected, id=f"index {index!r}"
            )
            for index, expected in ((b"1", True), (b"1.0", True), (b"null", True))
        ),
        *(
            pytest.param(b'{"choices":[{"delta":{"tool_calls":[{"index":%b}]}}]}' % index, False, id=f"index {index!r}")
            for index in (b"-1", b'"0"', b"0.5", b"true", b"1e999", b"NaN")
        ),
        pytest.param(b'{"choices":[{"delta":{"content":"\xc3\xa9"}}]}', True, id="UTF-8"),
        pytest.param(b'{"choices":[{"delta":{"content":"a\xffb"}}]}', False, id="broken UTF-8"),
        pytest.param(b'{"choices":[{"delta":{"content\\u0000":"a"}}]}', False, id="a key that ends at NUL"),
        pytest.param(b'{"choices":[{"delta":{"content":"a\\u0000b"}}]}', True, id="a text with NUL"),
    ],
)
def test_what_every_client_reads_alike(data: bytes, expected: bool) -> None:
    """Equal keys, keys of another case, and calls that say two things are read differently by different clients."""
    tree = openai_json.parse(data)

    assert tree is not None
    assert expected is openai_json.clear(data, tree, "delta")


def test_an_endless_number_is_no_index() -> None:
    """A call whose index no number can hold is the next one."""
    tree = openai_json.parse(b'{"choices":[{"delta":{"tool_calls":[{"index":1e999,"id":"c"}]}}]}')

    assert tree is not None
    assert [0] == [call.index for call in openai_json.deltas(tree, CallNumbers())[0].tool_calls]


@given(st.lists(lies("index", "delta", "message", "finish_reason").flatmap(lambda c: PART.map(lambda p: (c, p)))))
def test_no_reply_makes_it_raise(drawn: list[tuple[Any, Any]]) -> None:
    """Whatever the types of what a provider sends, each entry gives a choice."""
    entries = [{**c, "delta": p, "message": p} if isinstance(c, dict) else c for c, p in drawn]
    tree = {"choices": entries, "usage": drawn[0][1] if drawn else None}

    read = openai_json.deltas(tree, CallNumbers()), openai_json.messages(tree)

    assert [len(entries)] * 2 == [len(choices) for choices in read]
    assert isinstance(openai_json.usage(tree), Usage | None)


@given(st.lists(CALL, min_size=1, max_size=4))
def test_no_call_is_lost(entries: list[Any]) -> None:
    """Each object in a list of calls is a call, in a chunk and in a message."""
    places = [place for place, entry in enumerate(entries) if isinstance(entry, dict)]

    (chunk,) = openai_json.deltas({"choices": [{"delta": {"tool_calls": entries}}]}, CallNumbers())
    (whole,) = openai_json.messages({"choices": [{"message": {"tool_calls": entries}}]})

    assert [places, places] == [[call.position for call in choice.tool_calls] for choice in (chunk, whole)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([(0, "a", "f"), (0, "", ""), (1, "b", "g")], [0, 0, 1], id="with index"),
        pytest.param([(None, "a", "f"), (None, "", ""), (None, "b", "g")], [0, 0, 1], id="a new id is a new call"),
        pytest.param([(None, "a", "f"), (None, "b", "g"), (None, "a", "")], [0, 1, 0], id="a known id goes on"),
        pytest.param([(None, "", "f"), (None, "", "g"), (None, "", "")], [0, 1, 1], id="a name is a new call"),
        pytest.param([(None, "", "")], [0], id="nothing known"),
        pytest.param([(-1, "a", "f"), ("1", "b", "g"), (True, "c", "h")], [0, 1, 2], id="wrong numbers"),
        pytest.param([(3, "a", "f"), (None, "b", "g"), (None, "", "")], [3, 4, 4], id="mixed"),
    ],
)
def test_numbers_of_calls(pieces: list[tuple[Any, str, str]], expected: list[int]) -> None:
    """Pieces of one call get one number, whether the vendor numbers them or not."""
    numbers = CallNumbers()

    assert expected == [numbers.place(0, index, call_id, name) for index, call_id, name in pieces]
    assert 0 == numbers.place(1, None, "a", "f")


TWO = {"completion_tokens": 2}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("many", None, id="no object"),
        pytest.param({}, None, id="no counts"),
        pytest.param({"prompt_tokens": 3, "completion_tokens": 0}, Usage(input_tokens=3), id="explicit zero"),
        pytest.param({"prompt_tokens": 0, "completion_tokens": 0}, Usage(doubt="zero"), id="explicit zeros"),
        pytest.param({"completion_tokens": 2}, Usage(output_tokens=2, doubt="missing"), id="one count"),
        pytest.param({**TWO, "prompt_tokens": None}, Usage(output_tokens=2, doubt="missing"), id="null"),
        pytest.param({**TWO, "prompt_tokens": -3}, Usage(output_tokens=2, doubt="negative"), id="negative"),
        pytest.param({**TWO, "prompt_tokens": -1e99}, Usage(output_tokens=2, doubt="negative"), id="negative float"),
        pytest.param({**TWO, "prompt_tokens": "12"}, Usage(input_tokens=12, output_tokens=2), id="string"),
        pytest.param({**TWO, "prompt_tokens": "x"}, Usage(output_tokens=2, doubt="no_number"), id="no number"),
        pytest.param({**TWO, "prompt_tokens": "9" * 5000}, Usage(output_tokens=2, doubt="huge"), id="5000 digits"),
        pytest.param({**TWO, "prompt_tokens": 10**30}, Usage(output_tokens=2, doubt="huge"), id="huge"),
        pytest.param({**TWO, "prompt_tokens": math.inf}, Usage(output_tokens=2, doubt="huge"), id="endless"),
        pytest.param({**TWO, "prompt_tokens": math.nan}, Usage(output_tokens=2, doubt="no_number"), id="NaN"),
        pytest.param(
            {"prompt_tokens": 3, "completion_tokens": True}, Usage(input_tokens=3, doubt="no_number"), id="bool"
        ),
        pytest.param(
            {"prompt_tokens": 3, "completion_tokens": [2]}, Usage(input_tokens=3, doubt="no_number"), id="list"
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 8,
                "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 3},
            },
            Usage(
                input_tokens=10,
                output_tokens=8,
                cache_read_tokens=4,
                cache_write_tokens=2,
                audio_input_tokens=1,
                reasoning_tokens=5,
                audio_output_tokens=3,
            ),
            id="details",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(input_tokens=10, output_tokens=8, cache_read_tokens=10),
            id="no more cached than sent",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 8,
                "total_tokens": 23,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(input_tokens=10, output_tokens=13, reasoning_tokens=5),
            id="reasoning counted beside the completion",
        ),
        pytest.param(
            {**TWO, "prompt_tokens": 10, "prompt_cache_hit_tokens": 4},
            Usage(input_tokens=10, output_tokens=2, cache_read_tokens=4),
            id="DeepSeek",
        ),
        pytest.param(
            {**TWO, "prompt_tokens": 10, "cached_tokens": 4},
            Usage(input_tokens=10, output_tokens=2, cache_read_tokens=4),
            id="Moonshot",
        ),
        pytest.param(
            {**TWO, "prompt_tokens": 2.0, "prompt_tokens_details": None},
            Usage(input_tokens=2, output_tokens=2),
            id="details null",
        ),
    ],
)
def test_usage(said: Any, expected: Usage | None) -> None:
    """Usage is read in each vendor's spelling; a count that cannot be one is none, and why is told."""
    assert expected == openai_json.usage({"usage": said})


def test_usage_of_groq_streams() -> None:
    """Groq reports the usage of a stream in a field of its own."""
    used = {"prompt_tokens": 3, "completion_tokens": 2}
    assert Usage(input_tokens=3, output_tokens=2) == openai_json.usage({"x_groq": {"usage": used}})
    assert openai_json.usage({"x_groq": "?"}) is None


@given(
    st.builds(
        Usage,
        input_tokens=st.integers(50, 99),
        output_tokens=st.integers(50, 99),
        cache_read_tokens=st.integers(0, 50),
        reasoning_tokens=st.integers(0, 50),
        audio_input_tokens=st.integers(0, 50),
        audio_output_tokens=st.integers(0, 50),
    )
)
def test_usage_survives_both_ways(used: Usage) -> None:
    """The usage that Handrail writes is the usage that it reads."""
    assert used == openai_json.usage({"usage": openai_json.usage_object(used)})


@pytest.mark.parametrize(("param", "expected"), [("", None), ("n", "n")], ids=["no field", "a field"])
def test_error_object(param: str, expected: str | None) -> None:
    """An error is the object that OpenAI clients know."""
    said = json.loads(openai_json.error_object("No.", "invalid_request_error", "bad", param))

    assert {"error": {"message": "No.", "type": "invalid_request_error", "param": expected, "code": "bad"}} == said


def test_arguments_that_take_too_long_to_spell_stay_as_they_are() -> None:
    """One call has one spelling, but none holds the others up."""
    long = f'{{"b": 1, "a": "{"x" * openai_json.MOST_SPELLED}"}}'

    assert long == openai_json.canonical(long)
