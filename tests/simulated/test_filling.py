"""Owns the proof that a filled schema is an instance of it."""

from __future__ import annotations

import re

import jsonschema
import pytest

from proxy.simulated.filling import MAX_DEPTH, fill
from proxy.terms import Json

KNOWN: list[tuple[re.Pattern[str], Json]] = [(re.compile("order"), "A1"), (re.compile("amount"), 12.5)]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"type": "string"}, "", id="string"),
        pytest.param({"type": "integer"}, 0, id="integer"),
        pytest.param({"type": "number"}, 0.0, id="number"),
        pytest.param({"type": "boolean"}, True, id="boolean"),
        pytest.param({"type": "null"}, None, id="null"),
        pytest.param({"type": "array", "items": {"type": "integer"}}, [0], id="array"),
        pytest.param({"type": ["string", "null"]}, "", id="several types"),
        pytest.param({"type": []}, "", id="no type of several"),
        pytest.param({}, "", id="anything"),
        pytest.param({"enum": ["a", "b"]}, "a", id="enum"),
        pytest.param({"const": "c"}, "c", id="const"),
        pytest.param({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0, id="any of"),
        pytest.param({"oneOf": [{"type": "boolean"}]}, True, id="one of"),
        pytest.param({"properties": {"a": {"type": "integer"}}}, {"a": 0}, id="properties without a type"),
        pytest.param({"type": "object"}, {}, id="an empty object"),
        pytest.param(
            {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "note": {"type": "string"}},
                "required": [],
            },
            {"order_id": "A1"},
            id="optional ones where known",
        ),
        pytest.param(
            {
                "type": "object",
                "properties": {"amount": {"type": "integer"}, "order": {"type": "number"}},
                "required": ["amount"],
            },
            {"amount": 12, "order": 0.0},
            id="what is known in another type",
        ),
        pytest.param(
            {"$ref": "#/$defs/Order", "$defs": {"Order": {"properties": {"order_id": {"type": "string"}}}}},
            {"order_id": "A1"},
            id="a reference",
        ),
    ],
)
def test_a_schema_is_followed(schema: dict[str, Json], expected: Json) -> None:
    """Required properties are there, others where their name is known, and all of them valid."""
    filled = fill(schema, KNOWN)

    assert expected == filled
    if schema.get("type") != []:
        jsonschema.validate(filled, schema)


def test_a_schema_that_contains_itself_ends() -> None:
    """Recursion stops at a fixed depth."""
    schema: dict[str, Json] = {"$ref": "#/$defs/N", "$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}}}}

    assert MAX_DEPTH > str(fill(schema, KNOWN)).count("n'") > 1
