"""Owns the functions that policies have beyond CEL's own, and the shape in which this room is given them.

In: callables from `config`. Out: CEL functions. Never: a tokenizer, a calendar, a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from proxy import cel
from proxy.policy.arguments import fits
from proxy.policy.search import Searched, Sought, searched
from proxy.policy.sentences import first, sentences
from proxy.terms import Finding

TOKENS_CHARGE = 64
"""Budget units for 256 characters: a tokenizer needs some microseconds for them, a unit is about 0.1 µs."""
SENTENCES_CHARGE = 600
"""Budget units for 256 characters, in which each may end a sentence."""
UNITS_PER_US = 4
"""A unit is at most a quarter of a microsecond."""


class Functions(msgspec.Struct, frozen=True, kw_only=True):
    """What policies can compute but this room cannot; what takes long says how long at most, in microseconds."""

    tokens: Callable[[str], int]
    """Tokens of a text."""
    window_key: Callable[[str, str, int], str]
    """(window, time zone, at_ms) -> the name of the window that this moment is in, e.g. `day:2026-11-24`;
    raises ValueError for an unknown time zone."""
    find: Callable[[str], Sequence[Finding]]
    """All findings of the guards `pii` and `secrets` in a text."""
    find_us: Callable[[str], int]
    kinds: Mapping[str, tuple[int, int]]
    """The labels that those can have, each with how many characters before and after the beginning of such a finding
    decide about it."""
    ungrounded: Callable[[str, Sequence[str]], Sequence[Finding]]
    """The claims of a text that none of some evidence texts supports."""
    claims: Callable[[str], Sequence[Finding]]
    """All claims of a text."""
    read_us: Callable[[str], int]
    """What reading a text for claims takes, or as evidence."""


def table(functions: Functions) -> dict[str, cel.Function]:
    """Return the functions that expressions may call on top of CEL's own."""
    return {
        "sentences": cel.Function(call=_of_text("sentences", sentences), least=1, charge=SENTENCES_CHARGE, kind="list"),
        "firstSentences": cel.Function(call=_first, least=2, charge=SENTENCES_CHARGE, kind="string"),
        "tokens": cel.Function(call=_of_text("tokens", functions.tokens), least=1, charge=TOKENS_CHARGE, kind="int"),
        "pii": cel.Function(call=_finder(functions, "pii"), least=1, metered=True, kind="list"),
        "secrets": cel.Function(call=_finder(functions, "secrets"), least=1, metered=True, kind="list"),
        "claims": cel.Function(call=_claims(functions), least=1, metered=True, kind="list"),
        "schemaOk": cel.Function(call=fits, least=2, metered=True, kind="bool"),
        "ungrounded": cel.Function(call=_ungrounded(functions), least=2, metered=True, kind="list"),
    }


def look(functions: Functions, sought: Sought, budget: cel.Budget | None = None) -> Searched:
    """Search a text here and now; with a budget it is paid before it is searched, and what is not paid is an error."""

    def scan() -> Iterable[Finding]:
        text, pattern = sought
        if pattern:
            return pattern.paid(text, budget) if budget else pattern.finds(text)
        if budget:
            budget.charge(UNITS_PER_US * functions.find_us(text))
        return functions.find(text)

    return searched(scan)


def _shown(text: str, found: Sequence[Finding]) -> list[object]:
    return [
        {"kind": f.label, "text": text[f.start : f.end], "start": f.start, "end": f.end, "score": float(f.score)}
        for f in found
    ]


def _finder(functions: Functions, guard: str) -> Callable[[cel.Budget, object], list[object]]:
    def find(budget: cel.Budget, value: object) -> list[object]:
        text = _text(guard, value)
        budget.charge(UNITS_PER_US * functions.find_us(text))
        known = searched(lambda: functions.find(text))
        return _shown(text, [found for found in known.told() if found.guard == guard])

    return find


def _first(text: object, count: object) -> str:
    if not isinstance(text, str) or not isinstance(count, int) or isinstance(count, bool):
        raise cel.CelError("no_such_overload", "firstSentences() takes a text and a whole number")
    return first(text, count)


def _claims(functions: Functions) -> Callable[[cel.Budget, object], list[object]]:
    def claims(budget: cel.Budget, value: object) -> list[object]:
        text = _text("claims", value)
        budget.charge(UNITS_PER_US * functions.read_us(text))
        return _shown(text, searched(lambda: functions.claims(text)).told())

    return claims


def _ungrounded(functions: Functions) -> Callable[[cel.Budget, object, object], list[object]]:
    def ungrounded(budget: cel.Budget, value: object, evidence: object) -> list[object]:
        if not isinstance(evidence, list):
            raise cel.CelError("no_such_overload", "ungrounded() takes a text and a list of texts")
        text, *texts = (_text("ungrounded", one) for one in (value, *evidence))
        budget.charge(UNITS_PER_US * sum(map(functions.read_us, (text, *texts))))
        return _shown(text, searched(lambda: functions.ungrounded(text, texts)).told())

    return ungrounded


def _of_text(name: str, function: Callable[[str], object]) -> Callable[[object], object]:
    return lambda value: function(_text(name, value))


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise cel.CelError("no_such_overload", f"{name}() takes a text")
