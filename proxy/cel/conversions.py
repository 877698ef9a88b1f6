"""Owns the conversions between kinds: int(), uint(), double(), string(), bytes(), bool(), dyn(), type(), size().

In: a Budget and one value. Out: the value in its new kind, or CelError. Never: a number that wraps around.
"""

import decimal
import math
import re
from collections.abc import Callable
from typing import Any, cast

from msgspec import structs

from .errors import Budget, CelError, no_overload
from .functions import Function
from .operators import COPIED_CHARACTERS
from .times import format_duration, format_timestamp, parse_duration, parse_timestamp
from .values import (
    INT_MAX,
    INT_MIN,
    NANOS,
    UINT_MAX,
    UInt,
    int64,
    kind_of,
    timestamp,
    truncated,
    type_of,
    uint64,
)

# What writing an instant costs: the calendar of its day.
_CALENDAR = 16
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf(?:inity)?|nan)", re.IGNORECASE)
_BOOLS = {
    **dict.fromkeys(("1", "t", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "false", "FALSE", "False"), False),
}


def unreadable(kind: str, text: str) -> CelError:
    """Make the error for text that a conversion does not understand; long text is cut."""
    return CelError("invalid_argument", f"cannot read this as {kind}", text)


def _read_int(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise unreadable("an int", text)
    return int64(int(text))


def _read_uint(text: str) -> UInt:
    if not _INTEGER.fullmatch(text) or text[0] == "-":
        raise unreadable("a uint", text)
    return uint64(int(text))


def _read_double(text: str) -> float:
    if not _DOUBLE.fullmatch(text):
        raise unreadable("a double", text)
    return float(text)


def _read_bool(text: str) -> bool:
    if text not in _BOOLS:
        raise unreadable("a bool", text)
    return _BOOLS[text]


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid_argument", "the bytes are not UTF-8") from None


def format_double(value: float) -> str:
    """Write a double with the fewest digits that read back as it, laid out like C's %g, as Google's runtimes do."""
    if not math.isfinite(value):
        return repr(float(value))
    # By way of repr(), whose digits are the fewest: rounding the double itself to as many can give other digits.
    number = decimal.Decimal(repr(float(value))).normalize()
    exponent = number.adjusted()
    if -4 <= exponent < 6:
        return f"{number:f}"
    mantissa = f"{number:e}".partition("e")[0]
    return f"{mantissa}e{exponent:+03d}"


def same(value: object) -> object:
    """Return a value that already has the kind asked for."""
    return value


# To each kind, from which kinds and how. Doubles are cut towards zero; a timestamp is seconds since 1970.
_CONVERSIONS: dict[str, dict[str, Callable[[Any], object]]] = {
    "int": {
        "int": same,
        "uint": lambda value: int64(int(value)),
        "double": lambda value: truncated(value, INT_MIN + 1, INT_MAX + 1),
        "timestamp": lambda value: value.nanos // NANOS,
        "string": _read_int,
    },
    "uint": {
        "uint": same,
        "int": uint64,
        "double": lambda value: UInt(truncated(value, 0, UINT_MAX + 1)),
        "string": _read_uint,
    },
    "double": {"double": same, "int": float, "uint": float, "string": _read_double},
    "string": {
        "string": same,
        "bool": lambda value: "true" if value else "false",
        "int": lambda value: str(int(value)),
        "uint": lambda value: str(int(value)),
        "double": format_double,
        "bytes": _decoded,
        "timestamp": format_timestamp,
        "duration": format_duration,
    },
    "bytes": {"bytes": same, "string": str.encode},
    "bool": {"bool": same, "string": _read_bool},
    "duration": {"duration": same, "string": parse_duration},
    "timestamp": {"timestamp": same, "int": lambda value: timestamp(value * NANOS), "string": parse_timestamp},
}


def _conversion(kind: str) -> Function:
    table = _CONVERSIONS[kind]

    def convert(budget: Budget, value: Any) -> object:
        given = kind_of(value)
        if given not in table:
            raise no_overload(kind, given)
        if given in ("string", "bytes"):
            budget.charge(len(value) // COPIED_CHARACTERS)
        elif given == "timestamp":
            budget.charge(_CALENDAR)
        return table[given](value)

    return Function(call=convert, least=1, metered=True, kind=kind)


def to_string(budget: Budget, value: object) -> str:
    """Convert as string() does."""
    return cast(str, FUNCTIONS["string"].call(budget, value))


def _size(_: Budget, value: Any) -> int:
    if kind_of(value) not in ("string", "bytes", "list", "map"):
        raise no_overload("size", kind_of(value))
    return len(value)


def _at_load(kind: str) -> Function:
    """Return a conversion whose constant argument is converted, or rejected, when the expression is compiled."""
    function = _conversion(kind)
    return structs.replace(function, prepare=lambda value: function.call(Budget(1000), value))


FUNCTIONS = {
    **{kind: _conversion(kind) for kind in _CONVERSIONS},
    **{kind: _at_load(kind) for kind in ("duration", "timestamp")},
    "dyn": Function(call=lambda _, value: value, least=1, metered=True),
    "type": Function(call=lambda _, value: type_of(value), least=1, metered=True, kind="type"),
    "size": Function(call=_size, least=1, metered=True, kind="int", method=True),
}
