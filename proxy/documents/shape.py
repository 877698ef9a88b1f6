"""Owns the shape of documents: what JSON Schema says is wrong, told in the words of the person who wrote them.

In: Texts. Out: problems with their place. Never: on the hot path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry

from proxy.documents.reading import Path, Problems, Text, by_place

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "empty",
}


def check(text: Text, schema: bytes, problems: Problems) -> bool:
    """Hold a document against a JSON Schema (2020-12); return whether nothing was wrong."""
    validator = Draft202012Validator(json.loads(schema), registry=Registry())
    told: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for error in validator.iter_errors(text.value):
        told |= {(place, said): (wrong, known) for place, said, wrong, known in _told(error, text)}
    for (place, said), (wrong, known) in sorted(told.items(), key=lambda row: by_place(row[0][0])):
        problems.add(place, said, wrong, known)
    return not told


_Told = tuple[str, str, str, list[str]]


def _told(error: ValidationError, text: Text) -> Iterator[_Told]:
    """Say one error as (place, message, the wrong word, the words that were possible)."""
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        yield from _unknown_keys(error, text, path)
    elif "propertyNames" in error.absolute_schema_path:
        yield text.at_key((*path, str(error.instance))), f"`{error.instance}` is not {_wanted(error)}", "", []
    else:
        message, wrong, known = _MESSAGES.get(str(error.validator), _plain)(error)
        yield text.at(path), f"{_name(path)}{message}", wrong, known


def _unknown_keys(error: ValidationError, text: Text, path: Path) -> Iterator[_Told]:
    known = list(_schema(error).get("properties", {}))
    instance: Any = error.instance
    for key in instance:
        if key not in known:
            yield text.at_key((*path, key)), f"unknown key `{key}`", key, known


def _name(path: Path) -> str:
    return f"`{path[-1]}` " if path and isinstance(path[-1], str) else "this "


def _schema(error: ValidationError) -> Mapping[str, Any]:
    schema: Any = error.schema
    return cast("Mapping[str, Any]", schema)


def _wanted(error: ValidationError) -> str:
    return str(_schema(error).get("description", f"possible here: {error.message}"))


_Message = tuple[str, str, list[str]]


def _plain(error: ValidationError) -> _Message:
    return f"is wrong: {error.message}", "", []


def _missing(error: ValidationError) -> _Message:
    needed, instance = cast("list[str]", error.validator_value), cast("dict[str, object]", error.instance)
    gone = [name for name in needed if name not in instance]
    return f"lacks {', '.join(f'`{name}`' for name in gone)}", "", []


def _choice(error: ValidationError) -> _Message:
    choices = [str(choice) for choice in cast("list[object]", error.validator_value)]
    return f"is `{error.instance}`, not one of {', '.join(choices)}", str(error.instance), choices


def _constant(error: ValidationError) -> _Message:
    return f"must be `{error.validator_value}`", "", []


def _type(error: ValidationError) -> _Message:
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    quote = ": put it in quotes" if wanted == ["string"] and isinstance(error.instance, int | float) else ""
    return f"must be {' or '.join(_TYPES[str(kind)] for kind in wanted)}{quote}", "", []


def _pattern(error: ValidationError) -> _Message:
    return f"is `{error.instance}`, not {_wanted(error)}", "", []


def _either(error: ValidationError) -> _Message:
    """Say what fits none, or more than one, of several shapes; often it is one of some keys that is asked for."""
    shapes = cast("list[dict[str, Any]]", error.validator_value)
    keys = [key for shape in shapes if shape.keys() == {"required"} for key in shape["required"]]
    if keys:
        return f"needs one of {', '.join(f'`{key}`' for key in keys)}, and only one", "", []
    is_it = "is not" if isinstance(error.instance, dict | list) else f"is `{error.instance}`, not"
    return f"{is_it} {_wanted(error)}", "", []


def _empty(error: ValidationError) -> _Message:
    least = error.validator_value
    return "must not be empty" if least == 1 else f"needs at least {least}", "", []


_MESSAGES: dict[str, Callable[[ValidationError], _Message]] = {
    "required": _missing,
    "enum": _choice,
    "const": _constant,
    "type": _type,
    "pattern": _pattern,
    "anyOf": _either,
    "oneOf": _either,
    "minItems": _empty,
    "minLength": _empty,
    "minProperties": _empty,
}
