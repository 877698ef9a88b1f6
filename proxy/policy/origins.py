"""Owns the question where the arguments of a call were said before: in tool results, by the user, or nowhere.

A value is looked for as a run of whole words, whatever their case and what stands between them; a number by its value,
however it is written. What is found shows where a text stood, not why the model chose it: a value that two sources hold
counts for the stronger, and short ones stand somewhere by chance, so they are passed over.
In: Facts and arguments. Out: a source for each of them. Never: a source by likeness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import lru_cache

import msgspec

from proxy import cel
from proxy.terms import Facts

VERIFIED_TOOL, USER, TOOL, MODEL = "verified_tool", "user", "tool", "model"
SHORTEST = 3
"""Characters of a text, letters and digits alone, that are no accident."""
SMALLEST = 10
"""From here on a number is none."""
CHARGE = 1
"""Characters of the history for one unit of what a decision may read."""
KEPT_TEXTS = 16

_WORDS = re.compile(r"[a-z0-9]+|[^\W_]")
_NUMBERS = re.compile(r"(?<![A-Za-z0-9_])[0-9]+(?:[.,][0-9]+)*")


class _Said(msgspec.Struct, frozen=True):
    """All that one source has said."""

    words: str
    numbers: frozenset[str]


def origins(arguments: object, facts: Facts, budget: cel.Budget) -> object:
    """Return for each argument where it was said, in lists and objects as they are; what is trivial is left out."""
    texts = {source: tuple(_texts(source, facts)) for source in (VERIFIED_TOOL, USER, TOOL)}
    budget.charge(sum(len(text) for some in texts.values() for text in some) // CHARGE)
    return _origins(arguments, {source: _said(some) for source, some in texts.items()})


def _texts(source: str, facts: Facts) -> Iterator[str]:
    if source == USER:
        yield from (message.text for message in facts.request.messages if message.role == "user")
    else:
        yield from (result.text for result in facts.results if result.verified is (source == VERIFIED_TOOL))


def _origins(value: object, said: dict[str, _Said]) -> object:
    if isinstance(value, dict):
        found = {name: _origins(inner, said) for name, inner in value.items()}
        return {name: origin for name, origin in found.items() if origin is not None}
    if isinstance(value, list):
        return [origin for inner in value if (origin := _origins(inner, said)) is not None]
    if isinstance(value, str):
        words = _normal(value)
        return _first(said, lambda one: words in one.words) if len(words.replace(" ", "")) >= SHORTEST else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = _plain(format(Decimal(repr(abs(value))), "f"))
        whole_and_small = abs(value) < SMALLEST and "." not in number
        return None if whole_and_small else _first(said, lambda one: number in one.numbers)
    return None


def _first(said: dict[str, _Said], holds: Callable[[_Said], bool]) -> str:
    return next((source for source, one in said.items() if holds(one)), MODEL)


@lru_cache(maxsize=KEPT_TEXTS)
def _said(texts: tuple[str, ...]) -> _Said:
    """Index what one source has said; the calls of one reply ask for the same."""
    whole = "\n".join(texts)
    numbers = (reading for found in _NUMBERS.findall(whole) for reading in _readings(found))
    return _Said(_normal(whole), frozenset(numbers))


def _normal(text: str) -> str:
    """Return the words of a text between single spaces; each letter beyond ASCII is one: not all scripts have words."""
    return f" {' '.join(_WORDS.findall(text.casefold()))} "


def _readings(written: str) -> Iterator[str]:
    """Yield what a number can mean: `1,200.50`, `1.200,50` and `12,50` are written here and there."""
    for thousands, point in ((",", "."), (".", ",")):
        reading = written.replace(thousands, "").replace(point, ".")
        if reading.count(".") < 2:
            yield _plain(reading)


def _plain(number: str) -> str:
    whole, _, rest = number.partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")
