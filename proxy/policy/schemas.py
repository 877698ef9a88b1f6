"""Owns the question whether a tool's JSON Schema is one at all: each keyword has a value of the form 2020-12 asks for.

The official metaschema says the same in a hundred times the time, which a schema sent by an agent may not take.
In: a JSON value. Out: what is wrong with it, and where. Never: a keyword with a wrong value passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from proxy.documents import Path
from proxy.policy.patterns import compiled

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))


def unsound(schema: object) -> str:
    """Return what is wrong with a schema, empty if nothing is."""
    return next((wrong for _, wrong in _wrongs(schema, ())), "")


def useless(schema: object) -> Iterator[tuple[Path, str]]:
    """Yield all that keeps a schema from being checked, each with its place in it: wrong forms, or else patterns that
    RE2 cannot run and references that lead nowhere."""
    wrongs = list(_wrongs(schema, ()))
    yield from wrongs or _broken(schema)


def _wrongs(schema: object, at: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(schema, dict):
        for keyword, value in schema.items():
            if not _FORMS.get(keyword, _anything)(value):
                yield (*at, keyword), f"{keyword} cannot be {value!r:.60}"
            else:
                for place, inner in _inside(keyword, value):
                    yield from _wrongs(inner, (*at, keyword, *place))
    elif not isinstance(schema, bool):
        yield at, f"{schema!r:.60} is no schema"


def _broken(schema: Any) -> Iterator[tuple[Path, str]]:
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for at, inner in _all(schema, ()):
        try:
            compiled(inner.get("pattern", ""))
        except ValueError as error:
            yield (*at, "pattern"), str(error)
        try:
            resolver.lookup(inner.get("$ref", "#"))
        except Unresolvable:
            yield (*at, "$ref"), f"$ref {inner['$ref']!r:.60} leads nowhere: nothing is fetched"


def _all(schema: Any, at: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield a schema and every schema in it."""
    if isinstance(schema, dict):
        yield at, schema
        for keyword, value in schema.items():
            for place, inner in _inside(keyword, value):
                yield from _all(inner, (*at, keyword, *place))


def _inside(keyword: str, value: Any) -> Iterator[tuple[Path, object]]:
    """Yield the schemas in a keyword's value, each with its place there."""
    if keyword in _ONE:
        yield (), value
    elif keyword in _NAMED:
        yield from (((name,), inner) for name, inner in value.items())
    elif keyword in _LISTED:
        yield from (((number,), inner) for number, inner in enumerate(value))


def _anything(_: object) -> bool:
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_factor(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _are_some(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len(value) == len({*value})


def _are_named_names(value: object) -> bool:
    return isinstance(value, dict) and all(map(_are_names, value.values()))


def _are_types(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else _are_names(value) and 0 < len(value) == len(_TYPES & {*value})


_ONE = (
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
_NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_FORMS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_NAMED, _is_map),
    **dict.fromkeys(_LISTED, _are_some),
    **dict.fromkeys(("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"), _is_number),
    **dict.fromkeys(("maxContains", "maxItems", "maxLength", "maxProperties"), _is_count),
    **dict.fromkeys(("minContains", "minItems", "minLength", "minProperties"), _is_count),
    **dict.fromkeys(("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "pattern"), _is_text),
    "dependentRequired": _are_named_names,
    "enum": _is_list,
    "multipleOf": _is_factor,
    "required": _are_names,
    "type": _are_types,
    "uniqueItems": _is_flag,
}
