"""Owns the functions that policies add to CEL for values: default, num, json, sum.

In: a Budget and values. Out: values. Never: a number or a key guessed at.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from .conversions import unreadable
from .errors import UNREADABLE, Budget, CelError, no_overload
from .functions import Function
from .logic import ABSORPTION, absorbed
from .texts import require_text
from .values import INT_MAX, INT_MIN, int64, kind_of, uint64

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _default(budget: Budget, value: Callable[[], object], otherwise: Callable[[], object]) -> object:
    """Return a value, or the other one where the first fails or is null; what has two readings is not absent."""
    try:
        found = value()
    except Exception as error:  # noqa: BLE001  # what an expression absorbs is decided in one place
        failure = absorbed(error)
        budget.charge(ABSORPTION)
        if failure.kind == UNREADABLE:
            raise failure from None
        return otherwise()
    return otherwise() if found is None else found


def _num(_: Budget, value: Any) -> float:
    """Return a number, or a text that spells one in decimal, as a double."""
    kind = kind_of(value)
    if kind in ("int", "uint", "double"):
        return float(value)
    if kind != "string":
        raise no_overload("num", kind)
    number = float(value) if len(value) <= 400 and _NUMBER.fullmatch(value) else math.inf
    if math.isinf(number):
        raise unreadable("a number", value)
    return number


def _json(budget: Budget, text: Any) -> object:
    """Read JSON text strictly: no duplicate keys, no NaN, no lone surrogates, no number that cannot be held."""
    require_text("json", text)
    budget.charge(12 + len(text) // 4)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
        text.encode()
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError as error:
        raise CelError("invalid_argument", f"not strict JSON: {error}") from None
    return value


def _object(entries: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(entries)
    if len(result) != len(entries):
        raise ValueError("an object has a key twice")
    return result


def _integer(text: str) -> int:
    number = int(text) if len(text) < 30 else INT_MAX + 1
    if INT_MIN <= number <= INT_MAX:
        return number
    raise ValueError("a number does not fit an int")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number does not fit a double")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _sum(budget: Budget, numbers: Any) -> object:
    """Add a list up: ints to an int, uints to a uint, a mix with doubles to a double; an empty list is 0."""
    if kind_of(numbers) != "list":
        raise no_overload("sum", kind_of(numbers))
    budget.charge(len(numbers))
    kinds = set(map(kind_of, numbers))
    if kinds <= {"int"}:
        return int64(sum(numbers))
    if kinds == {"uint"}:
        return uint64(sum(numbers))
    if kinds <= {"int", "double"}:
        return float(sum(numbers))
    raise no_overload("sum", "list of", *sorted(kinds))


FUNCTIONS = {
    "default": Function(call=_default, least=2, metered=True, lazy=True),
    "num": Function(call=_num, least=1, metered=True, kind="double"),
    "json": Function(call=_json, least=1, metered=True),
    "sum": Function(call=_sum, least=1, metered=True),
}
