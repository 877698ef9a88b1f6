"""Owns the functions that policies add to CEL and that need no knowledge of the product.

In: a Budget and values. Out: values. Never: the network, a public suffix list, a natural language.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import re2

from .conversions import unreadable
from .errors import Budget, CelError, no_overload
from .functions import Function
from .logic import absorbed
from .values import INT_MAX, INT_MIN, kind_of

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_URL = re2.compile(r"""(?i)\bhttps?://[^\s<>"'`{}|^\[\]]+""")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//([^/?#\\]*)|([^/?#\\]*)")
_HOST = re.compile(r"[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*|\[[0-9a-f:.]+\]")
_CLOSERS = ".,;:!?)'\""


def default(_: Budget, value: Callable[[], object], otherwise: Callable[[], object]) -> object:
    """Return a value, or the other one where the first fails or is null."""
    try:
        found = value()
    except Exception as error:  # noqa: BLE001  # what an expression absorbs is decided in one place
        absorbed(error)
        return otherwise()
    return otherwise() if found is None else found


def num(_: Budget, value: Any) -> float:
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


def parse_json(budget: Budget, text: Any) -> object:
    """Read JSON text strictly: no duplicate keys, no NaN, no lone surrogates, no number that cannot be held."""
    _texts("json", text)
    budget.charge(1 + len(text) // 8)
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
    raise ValueError(f"{text[:40]} does not fit an int")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} does not fit a double")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _texts(name: str, *values: object) -> None:
    kinds = tuple(map(kind_of, values))
    if set(kinds) != {"string"}:
        raise no_overload(name, *kinds)


FUNCTIONS = {
    "default": Function(call=default, least=2, metered=True, lazy=True),
    "num": Function(call=num, least=1, metered=True, kind="double"),
    "json": Function(call=parse_json, least=1, metered=True),
}
