"""Owns `"...".format(list)` and `strings.quote`.

In: a template with %s %d %f %e %b %o %x %X clauses and a list. Out: text. Never: a locale, a width, padding.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from .conversions import to_string
from .errors import Budget, CelError, no_overload
from .functions import Function
from .operators import COPIED_CHARACTERS
from .strings import copied
from .values import kind_of

_CLAUSE = re.compile(r"%(?:%|(?:\.([0-9]{1,9}))?(.?))", re.DOTALL)
_MOST_DECIMALS = 1000
_QUOTED = {ord(raw): f"\\{letter}" for raw, letter in zip('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"', strict=True)}


def _format(budget: Budget, template: Any, values: Any) -> str:
    if (kind_of(template), kind_of(values)) != ("string", "list"):
        raise no_overload("format", kind_of(template), kind_of(values))
    budget.charge(8 + len(template) // 8)
    remaining = iter(values)

    def clause(match: re.Match[str]) -> str:
        budget.charge(8)
        if match.group() == "%%":
            return "%"
        write = _CLAUSES.get(match[2])
        if write is None:
            raise CelError("invalid_argument", "format() does not know this clause", match.group())
        decimals = int(match[1] or "6")
        if decimals > _MOST_DECIMALS:
            raise CelError("invalid_argument", f"format() writes at most {_MOST_DECIMALS} decimals")
        value = next(remaining, remaining)
        if value is remaining:
            raise CelError("invalid_argument", f"format() has more clauses than the {len(values)} values given")
        return copied(budget, write(budget, value, decimals))

    return _CLAUSE.sub(clause, template)


def _text(budget: Budget, value: Any, _: int = 0) -> str:
    budget.charge(6)
    match kind_of(value):
        case "list":
            return copied(budget, f"[{', '.join(_text(budget, item) for item in value)}]")
        case "map":
            entries = sorted(f"{_text(budget, key)}: {_text(budget, value[key])}" for key in value)
            return copied(budget, f"{{{', '.join(entries)}}}")
        case "null":
            return "null"
        case "type":
            return str(value.name)
        case "double" if not math.isfinite(value):
            return _special(value)
    return to_string(budget, value)


def _special(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _decimal(_: Budget, value: Any, __: int) -> str:
    if kind_of(value) == "double" and not math.isfinite(value):
        return _special(value)
    return f"{_integer('%d', value):d}"


def _floating(style: str) -> "_Clause":
    def write(_: Budget, value: Any, decimals: int) -> str:
        if kind_of(value) not in ("int", "uint", "double"):
            raise no_overload(f"%{style}", kind_of(value))
        return f"{float(value):.{decimals}{style}}" if math.isfinite(value) else _special(value)

    return write


def _integer(clause: str, value: Any, *others: str) -> int:
    if kind_of(value) not in ("int", "uint", *others):
        raise no_overload(clause, kind_of(value))
    return int(value)


def _binary(_: Budget, value: Any, __: int) -> str:
    return f"{_integer('%b', value, 'bool'):b}"


def _octal(_: Budget, value: Any, __: int) -> str:
    return f"{_integer('%o', value):o}"


def _hexadecimal(budget: Budget, value: Any, _: int) -> str:
    kind = kind_of(value)
    if kind not in ("string", "bytes"):
        return f"{_integer('%x', value):x}"
    budget.charge(len(value) // COPIED_CHARACTERS)
    return str((value.encode() if kind == "string" else value).hex())


_Clause = Callable[[Budget, Any, int], str]
_CLAUSES: dict[str, _Clause] = {
    "s": _text,
    "d": _decimal,
    "f": _floating("f"),
    "e": _floating("e"),
    "b": _binary,
    "o": _octal,
    "x": _hexadecimal,
    "X": lambda budget, value, decimals: _hexadecimal(budget, value, decimals).upper(),
}


def _quote(budget: Budget, text: Any) -> str:
    if kind_of(text) != "string":
        raise no_overload("strings.quote", kind_of(text))
    budget.charge(len(text) // COPIED_CHARACTERS)
    return f'"{text.translate(_QUOTED)}"'


FUNCTIONS = {
    "format": Function(call=_format, least=2, metered=True, method=True, plain=False, kind="string"),
    "strings.quote": Function(call=_quote, least=1, metered=True, kind="string"),
}
