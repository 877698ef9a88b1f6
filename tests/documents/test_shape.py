"""Owns the proof that a document's shape is checked, and that what is wrong is said where it stands, in plain words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.documents import Problems, Source, check, read

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["kind"],
    "additionalProperties": False,
    "properties": {
        "kind": {"const": "Thing"},
        "mode": {"enum": ["enforce", "shadow"]},
        "name": {"type": "string", "pattern": "^[a-z]+$", "description": "lower-case letters"},
        "code": {"type": "string", "pattern": "^[0-9]+$"},
        "size": {"type": ["integer", "null"]},
        "tags": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        "pair": {"type": "array", "minItems": 2},
        "rate": {"type": "number", "maximum": 1},
        "from": {"type": "object", "oneOf": [{"required": ["file"]}, {"required": ["url"]}]},
        "cost": {"description": "a number or `free`", "anyOf": [{"type": "number"}, {"const": "free"}]},
        "notes": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[a-z]+$", "description": "lower-case letters"},
            "additionalProperties": {"type": "boolean"},
        },
    },
}


def wrong(yaml: str) -> list[str]:
    """Check a document against the schema; return what is said."""
    problems = Problems()
    (text,) = read(Source(path="p.yaml", text=yaml), problems)
    passed = check(text, json.dumps(SCHEMA).encode(), problems)

    assert passed == (not problems.found)
    return problems.found


@pytest.mark.parametrize(
    ("yaml", "problems"),
    [
        pytest.param("kind: Thing", [], id="all is well"),
        pytest.param("mode: enforce", ["p.yaml:1:1: this lacks `kind`"], id="missing"),
        pytest.param("kind: Ting", ["p.yaml:1:7: `kind` must be `Thing`"], id="constant"),
        pytest.param(
            "{kind: Thing, mod: x}", ["p.yaml:1:15: unknown key `mod` (did you mean `mode`?)"], id="unknown key"
        ),
        pytest.param(
            "{kind: Thing, mode: shadwo}",
            ["p.yaml:1:21: `mode` is `shadwo`, not one of enforce, shadow (did you mean `shadow`?)"],
            id="choice",
        ),
        pytest.param(
            "{kind: Thing, name: A}", ["p.yaml:1:21: `name` is `A`, not lower-case letters"], id="pattern, described"
        ),
        pytest.param(
            "{kind: Thing, code: A}",
            ["p.yaml:1:21: `code` is `A`, not possible here: 'A' does not match '^[0-9]+$'"],
            id="pattern, not described",
        ),
        pytest.param("{kind: Thing, name: 1.0}", ["p.yaml:1:21: `name` must be a text: put it in quotes"], id="number"),
        pytest.param("{kind: Thing, name: []}", ["p.yaml:1:21: `name` must be a text"], id="list for a text"),
        pytest.param("{kind: Thing, size: x}", ["p.yaml:1:21: `size` must be a whole number or empty"], id="two types"),
        pytest.param("{kind: Thing, tags: []}", ["p.yaml:1:21: `tags` must not be empty"], id="empty list"),
        pytest.param("{kind: Thing, pair: [1]}", ["p.yaml:1:21: `pair` needs at least 2"], id="too few"),
        pytest.param("{kind: Thing, tags: ['']}", ["p.yaml:1:22: this must not be empty"], id="in a list"),
        pytest.param(
            "{kind: Thing, rate: 2}",
            ["p.yaml:1:21: `rate` is wrong: 2 is greater than the maximum of 1"],
            id="what has no words of its own",
        ),
        *(
            pytest.param(
                f"{{kind: Thing, from: {given}}}",
                ["p.yaml:1:21: `from` needs one of `file`, `url`, and only one"],
                id=f"one of two keys, given {given}",
            )
            for given in ("{}", "{file: a, url: b}")
        ),
        pytest.param(
            "{kind: Thing, cost: x}", ["p.yaml:1:21: `cost` is `x`, not a number or `free`"], id="none of two shapes"
        ),
        pytest.param(
            "{kind: Thing, cost: []}", ["p.yaml:1:21: `cost` is not a number or `free`"], id="a list for two shapes"
        ),
        pytest.param("{kind: Thing, notes: {A: true}}", ["p.yaml:1:23: `A` is not lower-case letters"], id="key"),
        pytest.param("{kind: Thing, notes: {a: 1}}", ["p.yaml:1:26: `a` must be true or false"], id="named values"),
        pytest.param(
            "zebra: 1\nmode: x\nname: 1",
            [
                "p.yaml:1:1: this lacks `kind`",
                "p.yaml:1:1: unknown key `zebra`",
                "p.yaml:2:7: `mode` is `x`, not one of enforce, shadow",
                "p.yaml:3:7: `name` must be a text: put it in quotes",
            ],
            id="all at once, in order",
        ),
    ],
)
def test_each_wrong_thing_is_told_where_it_stands(yaml: str, problems: list[str]) -> None:
    """Every problem of a document is listed, from top to bottom, with what would be right."""
    assert problems == wrong(yaml)
