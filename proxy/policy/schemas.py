"""Owns the question whether a tool's JSON Schema is one at all: each keyword has a value of the form 2020-12 asks for.

The official metaschema says the same in a hundred times the time, which a schema sent by an agent may not take.
In: a JSON value. Out: what is wrong with it. Never: a keyword with a wrong value passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))


def unsound(schema: object) -> str:
    """Return what is wrong with a schema, empty if nothing is."""
    return next(_wrongs(schema), "")


def _wrongs(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for keyword, value in schema.items():
            if not _FORMS.get(keyword, _anything)(value):
                yield f"{keyword} cannot be {value!r:.60}"
            else:
                yield from (wrong for inner in _inside(keyword, value) for wrong in _wrongs(inner))
    elif not isinstance(schema, bool):
        yield f"{schema!r:.60} is no schema"


def _inside(keyword: str, value: Any) -> Iterator[object]:
    """Yield the schemas in a keyword's value."""
    if keyword in _ONE:
        yield value
    elif keyword in _NAMED:
        yield from value.values()
    elif keyword in _LISTED:
        yield from value


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
