"""Owns the proof that tool arguments are read strictly, and checked against a hostile schema in bounded time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry

from proxy import cel
from proxy.policy.arguments import MAX_SCHEMA_BYTES, PARSE_UNITS, Arguments, conforms, fits, parse_object
from proxy.terms import Json

REFUND: Json = {
    "type": "object",
    "properties": {"order_id": {"type": "string", "pattern": "^[A-Z][0-9]+$"}, "amount_usd": {"type": "number"}},
    "required": ["order_id"],
    "additionalProperties": False,
}
DOUBLING: Any = {
    "$ref": "#/$defs/a0",
    "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)} | {"a40": {}},
}


def budget() -> cel.Budget:
    """Make a fresh budget for reading JSON."""
    return cel.Budget(PARSE_UNITS)


def checked(arguments: dict[str, Any], schema: Json) -> bool:
    """Hold arguments against a schema."""
    return conforms(arguments, json.dumps(arguments), schema)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a": 1', id="cut off"),
        pytest.param('{"a": 1, "a": 2}', id="duplicate key"),
        pytest.param('{"a": {"b": 1, "b": 1}}', id="duplicate key inside"),
        pytest.param('{"a": NaN}', id="not a number"),
        pytest.param('{"a": 1e999}', id="infinite"),
        pytest.param('{"a": 99999999999999999999}', id="over 64 bits"),
        pytest.param('{"a": "\\ud800"}', id="lone surrogate"),
        pytest.param('{"a": 1, "A": 2}', id="keys that differ in case"),
        pytest.param('{"a": [{"\\u212a": 1, "k": 2}]}', id="keys that differ in case, inside"),
        pytest.param('{"a\\u0000": 1}', id="NUL in a key"),
        pytest.param('{"a": ["b\\u0000c"]}', id="NUL in a text"),
        pytest.param("[]", id="a list"),
        pytest.param('"x"', id="a text"),
        pytest.param("", id="nothing"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, id="nested too deeply"),
        pytest.param(json.dumps({"a": "x" * 4 * PARSE_UNITS}), id="too long"),
    ],
)
def test_what_two_readers_could_read_differently_is_not_read(text: str) -> None:
    """Arguments are one strict JSON object, or an error that nothing takes for an absent value."""
    with pytest.raises(cel.CelError) as caught:
        parse_object(text, budget())
    assert caught.value.kind in (cel.UNREADABLE, "budget")


def test_nesting_that_only_json_takes_is_an_error() -> None:
    """Arguments that the parser reads, though deeper than can be looked through, are not read."""
    deep = '{"a":' * 700 + "1" + "}" * 700

    with pytest.raises(cel.CelError, match="nested too deeply"):
        parse_object(deep, budget())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("args.To", "ok", id="as written"),
        pytest.param("has(args.To) && !has(args.other) && !('other' in args) && !(1 in args)", True, id="presence"),
        pytest.param("args.to", cel.UNREADABLE, id="in another case"),
        pytest.param("args['to']", cel.UNREADABLE, id="by index"),
        pytest.param("has(args.to)", cel.UNREADABLE, id="presence in another case"),
        pytest.param("default(args.to, 'none')", cel.UNREADABLE, id="no default"),
        pytest.param("default(args.other, 'none')", "none", id="a default"),
        pytest.param("args.inner.a", cel.UNREADABLE, id="inside"),
        pytest.param("args.other", "no_such_field", id="absent"),
        pytest.param("args.list[0] == 'a\\\\u0000'", True, id="no NUL"),
    ],
)
def test_a_key_in_another_case_is_not_absent(expression: str, expected: object) -> None:
    """Tools differ in whether they take `To` for `to`: a rule that asks for the one and meets the other fails."""
    known = {"args": parse_object('{"To": "ok", "inner": {"A": 1}, "list": ["a\\\\u0000"]}', budget())}
    try:
        found = cel.compile(expression).evaluate(known, cel.Budget(1000))
    except cel.CelError as error:
        found = error.kind

    assert expected == found


def test_arguments_are_parsed_on_first_reading_and_once() -> None:
    """A map of arguments costs nothing until it is read, and no more after that."""
    shared = budget()
    arguments = Arguments('{"a": 1, "b": 2}', shared)
    untouched = shared.left

    assert (PARSE_UNITS, {"a": 1, "b": 2}, 2) == (untouched, dict(arguments), len(arguments))
    once = shared.left
    assert (1, once) == (arguments["a"], shared.left)


@pytest.mark.parametrize(
    ("arguments", "schema", "expected"),
    [
        pytest.param({"order_id": "A1", "amount_usd": 5}, REFUND, True, id="fits"),
        pytest.param({"order_id": "a1"}, REFUND, False, id="pattern"),
        pytest.param({"order_id": 7}, REFUND, False, id="type; a pattern says nothing of numbers"),
        pytest.param({"amount_usd": 5}, REFUND, False, id="required"),
        pytest.param({"order_id": "A1", "x": 1}, REFUND, False, id="additional"),
        pytest.param({}, None, True, id="no schema, no arguments"),
        pytest.param({"a": 1}, None, False, id="no schema takes no arguments"),
        pytest.param({"a": 1}, {}, True, id="the empty schema takes all"),
        pytest.param({"a": 1}, False, False, id="false takes none"),
        pytest.param({"x_a": 1}, {"patternProperties": {"^x_": {"type": "string"}}}, False, id="pattern of keys"),
        pytest.param({"y_a": 1}, {"patternProperties": {"^x_": {"type": "string"}}}, True, id="other keys"),
        pytest.param({"a": 1}, {"properties": {"a": {"patternProperties": {"x": False}}}}, True, id="keys of a number"),
        pytest.param({"a": [1, 2]}, {"properties": {"a": {"uniqueItems": True}}}, True, id="unique"),
        pytest.param({"a": [1, 1.0]}, {"properties": {"a": {"uniqueItems": True}}}, False, id="1 is 1.0"),
        pytest.param({"a": [True, 1]}, {"properties": {"a": {"uniqueItems": True}}}, True, id="true is not 1"),
        pytest.param({"a": [{"b": [2.0]}, {"b": [2]}]}, {"properties": {"a": {"uniqueItems": True}}}, False, id="deep"),
        pytest.param({"a": [1, 1]}, {"properties": {"a": {"uniqueItems": False}}}, True, id="not asked to be unique"),
        pytest.param({"a": 1}, {"properties": {"a": {"uniqueItems": True}}}, True, id="uniqueness of a number"),
    ],
)
def test_arguments_fit_or_do_not(arguments: dict[str, Any], schema: Json, expected: bool) -> None:
    """A check says what JSON Schema 2020-12 says."""
    assert expected == checked(arguments, schema)


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        pytest.param({"type": "strng"}, "invalid_argument", id="not a schema"),
        pytest.param({"$ref": "http://elsewhere.invalid/x"}, "invalid_argument", id="nothing is fetched"),
        pytest.param({"$ref": "#"}, "invalid_argument", id="endless reference"),
        pytest.param({"properties": {"a": {"pattern": "(?=x)"}}}, "invalid_argument", id="a pattern that is not RE2"),
        pytest.param(DOUBLING, "budget", id="a reference that doubles forty times"),
        pytest.param({"description": "x" * 40_000}, "budget", id="a schema that is too long"),
    ],
)
def test_a_schema_that_is_of_no_use_is_an_error(schema: Json, kind: str) -> None:
    """What cannot be checked is neither a yes nor a no."""
    with pytest.raises(cel.CelError) as raised:
        checked({"a": "b"}, schema)

    assert kind == raised.value.kind


def test_a_check_does_not_use_up_the_next_one() -> None:
    """Each check of the same schema has steps of its own."""
    with pytest.raises(cel.CelError):
        checked({}, DOUBLING)

    with pytest.raises(cel.CelError) as raised:
        checked({}, DOUBLING)
    assert "budget" == raised.value.kind


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "a", "b", "ab"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {},
            True,
            False,
            {"type": "string"},
            {"type": ["integer", "null"]},
            {"minimum": 0},
            {"enum": [1, "a", None]},
            {"const": True},
            {"pattern": "^a"},
            {"uniqueItems": True},
            {"minLength": 2},
            {"maxItems": 1},
            {"required": ["a"]},
        ]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("ab"), inner)}),
        st.fixed_dictionaries({"patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner)}),
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"additionalProperties": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2), SCHEMAS)
def test_a_check_agrees_with_the_library(arguments: dict[str, Any], schema: Any) -> None:
    """Counting steps and swapping three keywords changes no answer."""
    expected = Draft202012Validator(schema, registry=Registry()).is_valid(arguments)

    assert expected == checked(arguments, schema)


def test_the_right_calls_of_a_real_shop_all_fit(real_data: Path) -> None:
    """Every tool call that tau-bench's retail tasks hold right is read, and fits the schema offered for it."""
    tools = json.loads((real_data / "tau-retail" / "tools.openai.json").read_text(encoding="utf-8"))
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    with gzip.open(real_data / "tau-retail" / "gt_conversations.train.jsonl.gz", "rt") as lines:
        messages = [message for line in lines for message in json.loads(line)["gt_messages"]]
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
    refused = [
        call
        for call in calls
        if not conforms(parse_object(call["arguments"], budget()), call["arguments"], schemas[call["name"]])
    ]

    assert len(calls) > 200
    assert [] == refused


AMOUNT = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number", "maximum": 5}}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"amount": 5}, True, id="it fits"),
        pytest.param({"amount": 6.5}, False, id="too much"),
        pytest.param([None, True, "x"], False, id="another kind"),
        pytest.param(Arguments('{"amount": 1}', cel.Budget(PARSE_UNITS)), True, id="the arguments of a call"),
    ],
)
def test_expressions_can_hold_values_against_a_schema(value: object, expected: bool) -> None:
    """schemaOk() asks what the section `actions` asks of a call."""
    assert expected is fits(cel.Budget(100_000), value, AMOUNT)


@pytest.mark.parametrize(
    ("value", "schema", "kind"),
    [
        pytest.param({}, {"type": "nothing"}, "invalid_argument", id="a broken schema"),
        pytest.param({}, "object", "invalid_argument", id="a schema that is no map"),
        pytest.param({}, {"const": "x" * MAX_SCHEMA_BYTES}, "invalid_argument", id="one that is too large"),
        pytest.param({}, {"$ref": "https://example.com/x"}, "invalid_argument", id="one that has to be fetched"),
        pytest.param(b"x", AMOUNT, "no_such_overload", id="no JSON"),
        pytest.param({1: 2}, AMOUNT, "no_such_overload", id="a map that JSON has not"),
        pytest.param(["x"] * 5_000, {"items": {"type": "string"}}, "budget", id="too much to check"),
    ],
)
def test_what_cannot_be_held_against_a_schema_is_an_error(value: object, schema: object, kind: str) -> None:
    """It is never a yes, and never a no either."""
    with pytest.raises(cel.CelError) as raised:
        fits(cel.Budget(100_000), value, schema)
    assert kind == raised.value.kind


def test_a_check_is_paid_by_its_steps() -> None:
    """Twice as many elements cost twice as much; with too little left it is not begun."""
    costs = []
    for count in (10, 110, 210):
        budget = cel.Budget(100_000)
        fits(budget, ["x"] * count, {"items": {"type": "string"}})
        costs.append(100_000 - budget.left)

    assert costs[2] - costs[1] == costs[1] - costs[0] > 2_000
    with pytest.raises(cel.CelError, match="budget"):
        fits(cel.Budget(1_000), [], AMOUNT)
