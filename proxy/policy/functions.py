"""Owns the functions that policies have beyond CEL's own, and the shape in which this room is given them.

In: callables from `config`. Out: CEL functions. Never: a tokenizer, a calendar, a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from proxy import cel
from proxy.policy.sentences import first, sentences
from proxy.terms import Finding

TOKENS_CHARGE = 64
"""Budget units for 256 characters: a tokenizer needs some microseconds for them, a unit is about 0.1 µs."""
SENTENCES_CHARGE = 600
"""Budget units for 256 characters, in which each may end a sentence."""
FIND_CHARGE = 256
"""Budget units for 256 characters, which some dozen detectors read."""


class Functions(msgspec.Struct, frozen=True, kw_only=True):
    """What policies can compute but this room cannot."""

    tokens: Callable[[str], int]
    """Tokens of a text."""
    window_key: Callable[[str, str, int], str]
    """(window, time zone, at_ms) -> the name of the window that this moment is in, e.g. `day:2026-11-24`;
    raises ValueError for an unknown time zone."""
    find: Callable[[str], Sequence[Finding]]
    """All findings of the guards `pii` and `secrets` in a text."""
    kinds: Mapping[str, tuple[int, int]]
    """The labels that those can have, each with how many characters before and after the beginning of such a finding
    decide about it."""


def table(functions: Functions) -> dict[str, cel.Function]:
    """Return the functions that expressions may call on top of CEL's own."""
    return {
        "sentences": cel.Function(call=_of_text("sentences", sentences), least=1, charge=SENTENCES_CHARGE, kind="list"),
        "firstSentences": cel.Function(call=_first, least=2, charge=SENTENCES_CHARGE, kind="string"),
        "tokens": cel.Function(call=_of_text("tokens", functions.tokens), least=1, charge=TOKENS_CHARGE, kind="int"),
        **{
            guard: cel.Function(
                call=_of_text(guard, _finder(functions, guard)), least=1, charge=FIND_CHARGE, kind="list"
            )
            for guard in ("pii", "secrets")
        },
    }


def findings(find: Callable[[str], Sequence[Finding]], text: str) -> list[Finding]:
    """Return what is found in a text, first things first, of those the longest first; raise CelError."""
    try:
        found = find(text)
    except Exception as error:  # a guard is a plug-in: whatever it raises follows the rule's onError
        raise cel.CelError("guard", f"the text cannot be searched: {type(error).__name__}") from error
    return sorted(found, key=lambda finding: (finding.start, -finding.end))


def _finder(functions: Functions, guard: str) -> Callable[[str], list[object]]:
    def find(text: str) -> list[object]:
        return [
            {"kind": f.label, "text": text[f.start : f.end], "start": f.start, "end": f.end, "score": float(f.score)}
            for f in findings(functions.find, text)
            if f.guard == guard
        ]

    return find


def _first(text: object, count: object) -> str:
    if not isinstance(text, str) or not isinstance(count, int) or isinstance(count, bool):
        raise cel.CelError("no_such_overload", "firstSentences() takes a text and a whole number")
    return first(text, count)


def _of_text(name: str, function: Callable[[str], object]) -> Callable[[object], object]:
    def call(text: object) -> object:
        if not isinstance(text, str):
            raise cel.CelError("no_such_overload", f"{name}() takes a text")
        return function(text)

    return call
