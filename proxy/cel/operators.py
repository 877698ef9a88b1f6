"""Owns the operators: arithmetic, equality, order, membership, field and element access.

One table names which kinds each operator takes; evaluation runs it and resolve.py proves type errors from it.
In: a Budget and operands of any Python type. Out: a CEL value, or CelError. Never: Python's own coercions
(True is not 1 here, -7 / 2 is -3, NaN is never equal to itself, an int has 64 bits).
"""

import math
from collections.abc import Callable
from operator import eq, ge, gt, le, lt
from typing import Any

import msgspec

from .errors import Budget, CelError, no_overload
from .values import (
    FIELDS,
    Duration,
    Timestamp,
    UInt,
    duration,
    int64,
    kind_of,
    timestamp,
    uint64,
)

# Characters, and list or map entries, that one budget unit pays for.
COPIED_CHARACTERS = 64
READ_CHARACTERS = 256
COPIED_ITEMS = 8
_COMPARED_CHARACTERS = 4096
_COMPARED_IN_SEARCH = 512
# From these lengths on Python searches in linear time.
_LONG_TEXT, _LONG_PART = 2500, 100


def charge_search(budget: Budget, text: str, part: str, backwards: bool = False) -> None:
    """Charge for finding a part: Python may compare all of it at each place, except forwards in a long text."""
    places, compared = len(text), len(part)
    if places >= _LONG_TEXT and not backwards:
        compared = min(compared, _LONG_PART)
    budget.charge(places // COPIED_CHARACTERS + places * compared // _COMPARED_IN_SEARCH)


def _add_text(budget: Budget, a: Any, b: Any) -> Any:
    budget.charge((len(a) + len(b)) // COPIED_CHARACTERS)
    return a + b


def _add_lists(budget: Budget, a: Any, b: Any) -> list[object]:
    budget.charge((len(a) + len(b)) // COPIED_ITEMS)
    return [*a, *b]


def _divide_doubles(_: Budget, a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _quotient(a: int, b: int) -> int:
    """Divide towards zero, as CEL does; Python's // rounds down."""
    if b == 0:
        raise CelError("divide_by_zero", "division or modulus by zero")
    return a // b if (a < 0) == (b < 0) else -(-a // b)


_Binary = Callable[[Budget, Any, Any], object]
ARITHMETIC: dict[str, dict[tuple[str, str], tuple[_Binary, str]]] = {
    "+": {
        ("int", "int"): (lambda _, a, b: int64(a + b), "int"),
        ("uint", "uint"): (lambda _, a, b: uint64(a + b), "uint"),
        ("double", "double"): (lambda _, a, b: a + b, "double"),
        ("string", "string"): (_add_text, "string"),
        ("bytes", "bytes"): (_add_text, "bytes"),
        ("list", "list"): (_add_lists, "list"),
        ("duration", "duration"): (lambda _, a, b: duration(a.nanos + b.nanos), "duration"),
        ("timestamp", "duration"): (lambda _, a, b: timestamp(a.nanos + b.nanos), "timestamp"),
        ("duration", "timestamp"): (lambda _, a, b: timestamp(a.nanos + b.nanos), "timestamp"),
    },
    "-": {
        ("int", "int"): (lambda _, a, b: int64(a - b), "int"),
        ("uint", "uint"): (lambda _, a, b: uint64(int(a) - b), "uint"),
        ("double", "double"): (lambda _, a, b: a - b, "double"),
        ("duration", "duration"): (lambda _, a, b: duration(a.nanos - b.nanos), "duration"),
        ("timestamp", "timestamp"): (lambda _, a, b: duration(a.nanos - b.nanos), "duration"),
        ("timestamp", "duration"): (lambda _, a, b: timestamp(a.nanos - b.nanos), "timestamp"),
    },
    "*": {
        ("int", "int"): (lambda _, a, b: int64(a * b), "int"),
        ("uint", "uint"): (lambda _, a, b: uint64(int(a) * b), "uint"),
        ("double", "double"): (lambda _, a, b: a * b, "double"),
    },
    "/": {
        ("int", "int"): (lambda _, a, b: int64(_quotient(a, b)), "int"),
        ("uint", "uint"): (lambda _, a, b: uint64(_quotient(a, b)), "uint"),
        ("double", "double"): (_divide_doubles, "double"),
    },
    # The rest has the sign of the dividend.
    "%": {
        ("int", "int"): (lambda _, a, b: a - b * int64(_quotient(a, b)), "int"),
        ("uint", "uint"): (lambda _, a, b: uint64(a - b * _quotient(a, b)), "uint"),
    },
}
_NUMBERS = ("int", "uint", "double")
_ORDERED = {(a, b) for a in _NUMBERS for b in _NUMBERS} | {
    (kind, kind) for kind in ("bool", "string", "bytes", "timestamp", "duration")
}
# Two of one of these types Python compares as CEL does, at a cost that does not depend on the values.
_CONSTANT_COST = {int, float, bool, UInt, Timestamp, Duration}


def _arithmetic(operator: str) -> _Binary:
    table = ARITHMETIC[operator]

    def operate(budget: Budget, a: object, b: object) -> object:
        overload = table.get((kind_of(a), kind_of(b)))
        if overload is None:
            raise no_overload(operator, kind_of(a), kind_of(b))
        return overload[0](budget, a, b)

    return operate


def negative(_: Budget, value: Any) -> object:
    """Return a number with its sign turned."""
    match kind_of(value):
        case "int":
            return int64(-value)
        case "double":
            return -value
        case kind:
            raise no_overload("-", kind)


def truth(value: object) -> bool:
    """Return a bool unchanged; nothing else is true or false in CEL."""
    if value is True or value is False:
        return value
    raise no_overload("a condition", kind_of(value))


# Equality


def equal(budget: Budget, a: Any, b: Any) -> bool:
    """Compare any two values; different kinds are unequal, but numbers compare by value across theirs."""
    if type(a) is type(b) and type(a) in _CONSTANT_COST:
        return bool(a == b)
    kind, other = kind_of(a), kind_of(b)
    if kind != other:
        return kind in _NUMBERS and other in _NUMBERS and eq(*_comparable(kind, a, other, b))
    if kind == "list":
        return len(a) == len(b) and _equal_items(budget, a, b)
    if kind == "map":
        return len(a) == len(b) and _equal_entries(budget, a, b)
    if kind in ("string", "bytes"):
        budget.charge(min(len(a), len(b)) // _COMPARED_CHARACTERS)
    return bool(a == b)


def _unequal(budget: Budget, a: object, b: object) -> bool:
    return not equal(budget, a, b)


def _equal_items(budget: Budget, a: Any, b: Any) -> bool:
    budget.charge(4 + 2 * len(a))
    return all(equal(budget, x, y) for x, y in zip(a, b, strict=True))


def _equal_entries(budget: Budget, a: Any, b: Any) -> bool:
    budget.charge(8 + 4 * len(a))
    for key in a:
        found, value = _lookup(budget, b, key)
        if not found or not equal(budget, a[key], value):
            return False
    return True


# Order


def _ordering(operator: str, compare: Callable[[Any, Any], bool]) -> _Binary:
    def operate(budget: Budget, a: Any, b: Any) -> bool:
        if type(a) is type(b) and type(a) in _CONSTANT_COST:
            return compare(a, b)
        kind, other = kind_of(a), kind_of(b)
        if (kind, other) not in _ORDERED:
            raise no_overload(operator, kind, other)
        if kind in ("string", "bytes"):
            budget.charge(min(len(a), len(b)) // _COMPARED_CHARACTERS)
        return compare(*_comparable(kind, a, other, b))

    return operate


def _comparable(kind: str, a: Any, other: str, b: Any) -> tuple[Any, Any]:
    """Take an int and a double as two doubles: lossy, as the conformance tests want it; Python would be exact."""
    return (float(a), float(b)) if kind != other and "double" in (kind, other) else (a, b)


# Access


def select(value: Any, field: str) -> object:
    """Read a field of a map, or a declared field of an object."""
    if type(value) is not dict:
        fields = FIELDS[type(value)]
        if fields is not None:
            found = getattr(value, field) if field in fields else msgspec.UNSET
            if found is msgspec.UNSET:
                raise no_field(field)
            return found
        if kind_of(value) != "map":
            raise no_overload(f".{field}", kind_of(value))
    try:
        return value[field]
    except KeyError:
        raise no_field(field) from None


def no_field(field: str) -> CelError:
    """Make the error for a field that is not there."""
    return CelError("no_such_field", f"no such field: {field}")


def has(value: Any, field: str) -> bool:
    """Tell if a map has a key, or if a declared field of an object is set (neither null nor UNSET)."""
    if type(value) is dict:
        return field in value
    fields = FIELDS[type(value)]
    if fields is None:
        if kind_of(value) != "map":
            raise no_overload(f"has(.{field})", kind_of(value))
        return field in value
    if field not in fields:
        raise no_field(field)
    return getattr(value, field) not in (None, msgspec.UNSET)


def index(budget: Budget, value: Any, key: Any) -> object:
    """Read a list by position or a map by key; a whole double counts as the int it equals."""
    kind = kind_of(value)
    if kind == "list":
        return _item(value, key)
    if kind == "map":
        found, item = _lookup(budget, value, key)
        if found:
            return item
        raise CelError("no_such_key", "no such key", key)
    if FIELDS[type(value)] is not None and kind_of(key) == "string":
        return select(value, key)
    raise no_overload("[]", kind, kind_of(key))


def _item(value: Any, key: Any) -> object:
    if kind_of(key) not in _NUMBERS:
        raise no_overload("[]", "list", kind_of(key))
    if not 0 <= key < len(value) or key != int(key):
        raise CelError("index_out_of_range", f"no such element in a list of {len(value)}", key)
    return value[int(key)]


def _lookup(budget: Budget, mapping: Any, key: Any) -> tuple[bool, object]:
    """Find a key; Python's own lookup takes True for 1 (and 1 for True), so those keys are searched by kind."""
    kind = kind_of(key)
    if kind == "string":
        return (True, mapping[key]) if key in mapping else (False, None)
    if kind != "bool" and kind not in _NUMBERS:
        raise no_overload("[]", "map", kind)
    if key not in mapping:
        return False, None
    if key in (0, 1):
        budget.charge(len(mapping) // COPIED_ITEMS)
        if not any(candidate == key and (kind_of(candidate) == "bool") == (kind == "bool") for candidate in mapping):
            return False, None
    return True, mapping[key]


def contained(budget: Budget, item: Any, collection: Any) -> bool:
    """Tell if a list has an equal element, or a map such a key."""
    kind = kind_of(collection)
    if kind == "map":
        return _lookup(budget, collection, item)[0]
    if kind != "list":
        raise no_overload("in", kind_of(item), kind)
    if type(item) is str:
        budget.charge(len(collection) // COPIED_ITEMS)
        return item in collection
    budget.charge(len(collection))
    return any(equal(budget, item, element) for element in collection)


def new_map(entries: tuple[tuple[Any, object], ...]) -> dict[object, object]:
    """Build a map from its entries; each key is a bool, number or string, and unlike every other."""
    result: dict[object, object] = {}
    for key, value in entries:
        if kind_of(key) not in ("bool", "int", "uint", "string"):
            raise CelError("type", f"a map key cannot be a {kind_of(key)}")
        if key in result:
            raise CelError("duplicate_key", "the map has a key twice", key)
        result[key] = value
    return result


BINARY: dict[str, Callable[..., object]] = {
    **{operator: _arithmetic(operator) for operator in ARITHMETIC},
    "==": equal,
    "!=": _unequal,
    "<": _ordering("<", lt),
    "<=": _ordering("<=", le),
    ">": _ordering(">", gt),
    ">=": _ordering(">=", ge),
    "in": contained,
}


# Static kinds


_RESULTS: dict[str, dict[tuple[str, ...], str]] = {
    **{operator: {kinds: result for kinds, (_, result) in table.items()} for operator, table in ARITHMETIC.items()},
    **{operator: dict.fromkeys(_ORDERED, "bool") for operator in ("<", "<=", ">", ">=")},
}
_UNARY_RESULTS = {"-": {(kind,): kind for kind in ("int", "double")}, "!": {("bool",): "bool"}}


def result_kind(operator: str, kinds: tuple[str, ...]) -> str | None:
    """Return the certain kind of a result; kinds are "" where they are open, None means it must fail."""
    if operator in ("==", "!="):
        return "bool"
    if operator == "in":
        return "bool" if kinds[1] in ("", "list", "map") else None
    table = (_UNARY_RESULTS if len(kinds) == 1 else _RESULTS)[operator]
    results = {
        result
        for takes, result in table.items()
        if all(kind in ("", taken) for kind, taken in zip(kinds, takes, strict=True))
    }
    if len(results) > 1:
        return ""
    return results.pop() if results else None
