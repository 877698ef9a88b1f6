"""Owns the functions that policies have beyond CEL's own, and the shape in which this room is given them.

In: callables from `config`. Out: CEL functions. Never: a tokenizer, a calendar.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from proxy import cel

TOKENS_CHARGE = 64
"""Budget units for 256 characters: a tokenizer needs some microseconds for them, a unit is about 0.1 µs."""


class Functions(msgspec.Struct, frozen=True, kw_only=True):
    """What policies can compute but this room cannot."""

    tokens: Callable[[str], int]
    """Tokens of a text."""
    window_key: Callable[[str, str, int], str]
    """(window, time zone, at_ms) -> the name of the window that this moment is in, e.g. `day:2026-11-24`;
    raises ValueError for an unknown time zone."""


def table(functions: Functions) -> dict[str, cel.Function]:
    """Return the functions that expressions may call on top of CEL's own."""
    return {"tokens": cel.Function(call=_texts_only(functions.tokens), least=1, charge=TOKENS_CHARGE, kind="int")}


def _texts_only(tokens: Callable[[str], int]) -> Callable[[object], int]:
    def call(text: object) -> int:
        if not isinstance(text, str):
            raise cel.CelError("no_such_overload", "tokens() takes a text")
        return tokens(text)

    return call
