"""Owns the proof that a schema is called wrong exactly when the official metaschema of JSON Schema 2020-12 says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from proxy.policy.schemas import unsound, useless

KEYWORDS = (
    "additionalProperties", "allOf", "const", "contains", "dependentRequired", "enum", "exclusiveMinimum", "if",
    "items", "maxLength", "minItems", "minimum", "multipleOf", "not", "oneOf", "prefixItems", "properties",
    "propertyNames", "required", "type", "uniqueItems", "unknown",
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([0.5, -1.5, 2.0]),
    st.sampled_from(["string", "object", "x"]),
)  # fmt: skip


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Make lists, and maps whose keys are keywords or names."""
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*KEYWORDS, "a", "b")), inner, max_size=3)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        pytest.param(True, "", id="everything"),
        pytest.param({"type": ["string", "null"], "minLength": 1}, "", id="sound"),
        pytest.param(5, "5 is no schema", id="not a schema"),
        pytest.param({"type": "strng"}, "type cannot be 'strng'", id="unknown type"),
        pytest.param({"type": 5}, "type cannot be 5", id="type of a wrong kind"),
        pytest.param({"type": []}, "type cannot be []", id="no type"),
        pytest.param({"required": ["a", "a"]}, "required cannot be ['a', 'a']", id="a name twice"),
        pytest.param({"properties": {"a": {"items": 5}}}, "5 is no schema", id="deep inside a map"),
        pytest.param({"anyOf": [{"minimum": "5"}]}, "minimum cannot be '5'", id="deep inside a list"),
        pytest.param({"multipleOf": 0}, "multipleOf cannot be 0", id="a factor of nothing"),
        pytest.param({"maxItems": 1.5}, "maxItems cannot be 1.5", id="a count that is none"),
        pytest.param({"not": {"pattern": 1}}, "pattern cannot be 1", id="inside one"),
        pytest.param({"dependentRequired": {"a": [1]}}, "dependentRequired cannot be {'a': [1]}", id="names"),
    ],
)
def test_it_says_what_is_wrong(schema: object, wrong: str) -> None:
    """The first thing that is wrong is named, wherever it stands."""
    assert wrong == unsound(schema)


@pytest.mark.parametrize(
    ("schema", "places"),
    [
        pytest.param({"$ref": "#/$defs/a", "not": False, "$defs": {"a": {"pattern": "^a+$"}}}, [], id="of use"),
        pytest.param(
            {"anyOf": [True, {"minimum": "5"}], "type": "x"}, [("anyOf", 1, "minimum"), ("type",)], id="forms"
        ),
        pytest.param({"properties": {"a": {"pattern": "(?=a)"}}}, [("properties", "a", "pattern")], id="a pattern"),
        pytest.param({"items": {"$ref": "#/$defs/b"}}, [("items", "$ref")], id="a reference"),
        pytest.param({"not": {"$ref": "https://other.invalid/schema"}}, [("not", "$ref")], id="nothing is fetched"),
    ],
)
def test_everything_that_is_of_no_use_has_its_place(schema: object, places: list[tuple[str | int, ...]]) -> None:
    """A schema that a policy brings is checked whole when it is loaded: what cannot be run is told with its place."""
    assert places == [place for place, _ in useless(schema)]


@given(st.recursive(SCALARS, schemas, max_leaves=12))
def test_it_agrees_with_the_metaschema(schema: object) -> None:
    """No schema passes that the metaschema rejects, and none is rejected that it lets pass."""
    official = Draft202012Validator(Draft202012Validator.META_SCHEMA).is_valid(schema)

    assert official == (not unsound(schema))
