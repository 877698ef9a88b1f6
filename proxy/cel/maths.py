"""Owns `math.*`.

In: numbers. Out: numbers of the same kind, bools. Never: an int where a double was given, or the reverse.
"""

import math
from collections.abc import Callable
from typing import Any

from .errors import Budget, CelError, no_overload
from .functions import Function
from .values import INT_MAX, UINT_MAX, int64, kind_of, uint64

_MOST_ARGUMENTS = 64


def _numeric(name: str, table: dict[str, Callable[..., object]], arguments: int = 1, kind: str = "") -> Function:
    """Make a function of arguments that all have one kind, and of one way per kind to compute it."""

    def compute(_: Budget, *given: Any) -> object:
        kinds = tuple(map(kind_of, given))
        if kinds[0] not in table or len(set(kinds)) > 1:
            raise no_overload(f"math.{name}", *kinds)
        return table[kinds[0]](*given)

    return Function(call=compute, least=arguments, metered=True, kind=kind)


def _rounded(name: str, whole: Callable[[float], float]) -> Function:
    return _numeric(name, {"double": lambda x: math.copysign(whole(x), x) if math.isfinite(x) else x}, kind="double")


def _half_away(x: float) -> float:
    """Round half away from zero; adding one half would be wrong next to 0.5 and above 2**52."""
    down = math.floor(abs(x))
    return down + (abs(x) - down >= 0.5)


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


def _shift(name: str, move: Callable[[int, int], int]) -> Function:
    """Make a shift that works on 64 bits without a sign; shifting by 64 or more leaves nothing."""

    def shift(_: Budget, value: Any, by: Any) -> object:
        kind = kind_of(value)
        if kind not in ("int", "uint") or kind_of(by) != "int":
            raise no_overload(f"math.{name}", kind, kind_of(by))
        if by < 0:
            raise CelError("invalid_argument", f"math.{name} by a negative offset")
        bits = move(value & UINT_MAX, by) & UINT_MAX if by < 64 else 0
        return uint64(bits) if kind == "uint" else _signed(bits)

    return Function(call=shift, least=2, metered=True)


def _signed(bits: int) -> int:
    return bits - UINT_MAX - 1 if bits > INT_MAX else bits


def _extreme(name: str, better: Callable[[Any, Any], bool]) -> Function:
    def choose(budget: Budget, *given: Any) -> object:
        numbers = given[0] if len(given) == 1 and kind_of(given[0]) == "list" else given
        budget.charge(len(numbers))
        kinds = set(map(kind_of, numbers))
        if not numbers or not kinds <= {"int", "uint", "double"}:
            raise no_overload(f"math.{name}", *sorted(kinds))
        chosen = numbers[0]
        for number in numbers:
            chosen = number if better(number, chosen) else chosen
        return chosen

    return Function(call=choose, least=1, most=_MOST_ARGUMENTS, metered=True)


_FUNCTIONS = {
    "greatest": _extreme("greatest", lambda a, b: a > b),
    "least": _extreme("least", lambda a, b: a < b),
    "ceil": _rounded("ceil", math.ceil),
    "floor": _rounded("floor", math.floor),
    "round": _rounded("round", _half_away),
    "trunc": _rounded("trunc", math.trunc),
    "abs": _numeric("abs", {"int": lambda x: int64(abs(x)), "uint": lambda x: x, "double": abs}),
    "sign": _numeric(
        "sign",
        {"int": _sign, "uint": lambda x: uint64(_sign(x)), "double": lambda x: x if x != x else float(_sign(x))},
    ),
    "sqrt": _numeric(
        "sqrt", dict.fromkeys(("int", "uint", "double"), lambda x: math.nan if x < 0 else math.sqrt(x)), kind="double"
    ),
    "isNaN": _numeric("isNaN", {"double": math.isnan}, kind="bool"),
    "isInf": _numeric("isInf", {"double": math.isinf}, kind="bool"),
    "isFinite": _numeric("isFinite", {"double": math.isfinite}, kind="bool"),
    "bitAnd": _numeric("bitAnd", {"int": lambda a, b: a & b, "uint": lambda a, b: uint64(a & b)}, 2),
    "bitOr": _numeric("bitOr", {"int": lambda a, b: a | b, "uint": lambda a, b: uint64(a | b)}, 2),
    "bitXor": _numeric("bitXor", {"int": lambda a, b: a ^ b, "uint": lambda a, b: uint64(a ^ b)}, 2),
    "bitNot": _numeric("bitNot", {"int": lambda a: ~a, "uint": lambda a: uint64(a ^ UINT_MAX)}),
    "bitShiftLeft": _shift("bitShiftLeft", lambda bits, by: bits << by),
    "bitShiftRight": _shift("bitShiftRight", lambda bits, by: bits >> by),
}
FUNCTIONS = {f"math.{name}": function for name, function in _FUNCTIONS.items()}
