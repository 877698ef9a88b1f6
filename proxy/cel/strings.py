"""Owns the string functions: the standard ones and the strings extension (version 4, without localisation).

In: a Budget and text. Out: text, positions in code points, bools. Never: a copy of text that nobody paid for.
"""

import operator
from collections.abc import Callable
from typing import Any

from .errors import Budget, CelError, no_overload
from .functions import Function
from .operators import COPIED_CHARACTERS, COPIED_ITEMS, READ_CHARACTERS, charge_search
from .values import kind_of

_TEXT, _INT, _LIST = "string", "int", "list"
# What String.trim() of the strings extension removes: the characters with Unicode's White_Space property.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


def _function(
    call: Callable[..., object], *takes: str, optional: tuple[str, ...] = (), kind: str = _TEXT, plain: bool = False
) -> Function:
    """Make a method of these kinds of arguments, the receiver first; reading them is charged here."""
    name, every = call.__name__.strip("_"), takes + optional

    def checked(budget: Budget, *arguments: Any) -> object:
        given = tuple(map(kind_of, arguments))
        if given != every[: len(given)]:
            raise no_overload(name, *given)
        budget.charge(len(arguments[0]) // (COPIED_ITEMS if takes[0] == _LIST else READ_CHARACTERS))
        return call(budget, *arguments)

    return Function(call=checked, least=len(takes), most=len(every), metered=True, method=True, plain=plain, kind=kind)


def copied(budget: Budget, text: str) -> str:
    """Charge for a new text and return it."""
    budget.charge(len(text) // COPIED_CHARACTERS)
    return text


def _test(name: str, test: Callable[[str, str], bool]) -> Function:
    """Make one of the tests that rules are full of, with no more in the way than they need."""

    def call(budget: Budget, text: Any, part: Any) -> bool:
        if type(text) is not str or type(part) is not str:
            kinds = kind_of(text), kind_of(part)
            if kinds != (_TEXT, _TEXT):
                raise no_overload(name, *kinds)
        if test is operator.contains:
            charge_search(budget, text, part)
        return test(text, part)

    return Function(call=call, least=2, metered=True, method=True, plain=False, kind="bool")


def _outside(position: int, text: str) -> CelError:
    return CelError("index_out_of_range", f"no position {position} in a text of {len(text)} characters")


def _char_at(_: Budget, text: str, position: int) -> str:
    if not 0 <= position <= len(text):
        raise _outside(position, text)
    return text[position : position + 1]


def _index_of(budget: Budget, text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise _outside(start, text)
    charge_search(budget, text, part)
    return text.find(part, start)


def _last_index_of(budget: Budget, text: str, part: str, start: int | None = None) -> int:
    charge_search(budget, text, part, backwards=True)
    if start is None:
        return text.rfind(part)
    if not 0 <= start <= len(text):
        raise _outside(start, text)
    return text.rfind(part, 0, start + len(part))


def _substring(budget: Budget, text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= stop <= len(text):
        raise _outside(start if not 0 <= start <= len(text) else stop, text)
    return copied(budget, text[start:stop])


def _replace(budget: Budget, text: str, old: str, new: str, limit: int = -1) -> str:
    charge_search(budget, text, old)
    count = text.count(old) if limit < 0 else min(limit, text.count(old))
    budget.charge(count // COPIED_ITEMS + (len(text) + count * len(new)) // COPIED_CHARACTERS)
    return text.replace(old, new, count)


def _split(budget: Budget, text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    charge_search(budget, text, separator)
    budget.charge(len(text) // COPIED_CHARACTERS + (text.count(separator) if separator else len(text)) // COPIED_ITEMS)
    if separator:
        return text.split(separator, limit - 1 if limit > 0 else -1)
    if limit < 0 or limit >= len(text):
        return list(text)
    return [*text[: limit - 1], text[limit - 1 :]]


def _join(budget: Budget, parts: Any, separator: str = "") -> str:
    if any(kind_of(part) != _TEXT for part in parts):
        raise no_overload("join", "a list with elements that are not strings")
    budget.charge(len(parts) // 2 + (sum(map(len, parts)) + len(parts) * len(separator)) // COPIED_CHARACTERS)
    return separator.join(parts)


def _trim(budget: Budget, text: str) -> str:
    return copied(budget, text.strip(_WHITE_SPACE))


def _reverse(budget: Budget, text: str) -> str:
    return copied(budget, text[::-1])


def _lower_ascii(budget: Budget, text: str) -> str:
    return copied(budget, _in_ascii(text, bytes.lower))


def _upper_ascii(budget: Budget, text: str) -> str:
    return copied(budget, _in_ascii(text, bytes.upper))


def _in_ascii(text: str, change: Callable[[bytes], bytes]) -> str:
    """Change ASCII letters alone: in UTF-8 no other character has their bytes. A table would take ten times as long."""
    return change(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


FUNCTIONS = {
    "contains": _test("contains", operator.contains),
    "startsWith": _test("startsWith", str.startswith),
    "endsWith": _test("endsWith", str.endswith),
    "charAt": _function(_char_at, _TEXT, _INT),
    "indexOf": _function(_index_of, _TEXT, _TEXT, optional=(_INT,), kind="int"),
    "lastIndexOf": _function(_last_index_of, _TEXT, _TEXT, optional=(_INT,), kind="int"),
    "substring": _function(_substring, _TEXT, _INT, optional=(_INT,)),
    "replace": _function(_replace, _TEXT, _TEXT, _TEXT, optional=(_INT,)),
    "split": _function(_split, _TEXT, _TEXT, optional=(_INT,), kind="list"),
    "join": _function(_join, _LIST, optional=(_TEXT,)),
    "trim": _function(_trim, _TEXT),
    "reverse": _function(_reverse, _TEXT),
    "lowerAscii": _function(_lower_ascii, _TEXT),
    "upperAscii": _function(_upper_ascii, _TEXT),
}
