"""Owns what an expression may say in the place of what was: values as JSON, and as what they stand for.

In: the value of an expression. Out: JSON, or a CelError that says what it should have been. Never: a text edited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from proxy import cel
from proxy.terms import Json, Phase

LONGEST = 65_536
"""Most characters that a rule can say."""
HOTTEST = 2.0
"""The highest temperature that the OpenAI API takes."""


def told(phase: Phase, name: str, value: object) -> Json:
    """Return what is said in the place of `name`; raise CelError if it cannot stand there."""
    if phase is Phase.TOOL_CALL:
        return as_json(value)
    if name == "max_tokens":
        return _number(name, value, "a whole number above 0", isinstance(value, int) and value > 0)
    if name == "temperature":
        in_range = isinstance(value, int | float) and 0 <= value <= HOTTEST
        return _number(name, value, "a number from 0 to 2", in_range)
    if not isinstance(value, str) or len(value) > LONGEST:
        raise cel.CelError("no_such_overload", f"{name} is to be a text of at most {LONGEST} characters")
    return value


def _number(name: str, value: object, wanted: str, fits: bool) -> Json:
    if isinstance(value, bool) or not fits:
        raise cel.CelError("no_such_overload", f"{name} is to be {wanted}")
    return cast("int | float", value)


def as_json(value: object) -> Json:
    """Return a CEL value as JSON; raise CelError for what JSON has no word for."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_json(item) for key, item in value.items()}
    raise cel.CelError("no_such_overload", "an argument is to be what JSON can say")


def overlaid(phase: Phase, values: Mapping[str, Json], arguments: object) -> dict[str, object]:
    """Return the variables that change for the rules that rewrite after this one."""
    if phase is Phase.TOOL_CALL:
        return {"tool.args": {**cast("Mapping[str, object]", arguments), **values}}
    root = "request" if phase is Phase.REQUEST else "response"
    return {f"{root}.{name}": value for name, value in values.items()}
