"""Owns `matches` and `glob`: RE2, so matching is linear in the text, with bounded memory.

A constant pattern is compiled at load; one computed in evaluation pays for its compilation.
In: patterns and text. Out: bool. Never: Python's backtracking `re` on a pattern that a policy wrote.
"""

from collections.abc import Callable
from typing import Any

import re2

from . import automata
from .errors import Budget, CelError, no_overload
from .functions import Function
from .values import kind_of

# What one pattern and its automaton may take; RE2 falls back to a slower search rather than exceed it.
_PREPARED_BYTES, _COMPUTED_BYTES = 1 << 19, 1 << 18
_ANYWHERE = re2._Anchor.UNANCHORED


class Pattern:
    """Hold a compiled pattern and what it costs to search with."""

    __slots__ = ("_characters", "_match", "_units")

    def __init__(self, regexp: str, memory: int) -> None:
        options = re2.Options()
        options.max_mem = memory
        options.log_errors = False
        options.never_capture = True
        try:
            compiled = re2.compile(regexp, options)
        except re2.error as error:
            detail = error.args[0]
            message = detail.decode(errors="replace") if isinstance(detail, bytes) else detail
            raise CelError("invalid_argument", "bad regular expression", message) from None
        # The engine itself: its wrapper's `search` makes a generator, a match and its groups, and nobody asks for them.
        self._match = compiled._regexp.Match
        self._units, self._characters = automata.price(regexp, compiled.programsize)

    def found(self, budget: Budget, text: str) -> bool:
        """Tell if the pattern matches somewhere in the text."""
        # Paid before it is encoded, which copies it: a byte for each character, the rest when that is known.
        budget.charge(4 + len(text) * self._units // self._characters)
        data = text.encode()
        if len(data) > len(text):
            budget.charge((len(data) - len(text)) * self._units // self._characters)
        start, _ = self._match(_ANYWHERE, data, 0, len(data))[0]
        return bool(start >= 0)


def _glob(pattern: str) -> str:
    """Translate a glob: `*` is any run of characters, `?` any one, everything else itself."""
    wild = {"*": ".*", "?": "."}
    return rf"(?s)\A{''.join(wild.get(character) or re2.escape(character) for character in pattern)}\z"


def _function(name: str, translate: Callable[[str], str]) -> Function:
    def prepare(pattern: object) -> object:
        return Pattern(translate(pattern), _PREPARED_BYTES) if isinstance(pattern, str) else pattern

    def call(budget: Budget, text: Any, pattern: Any) -> bool:
        if type(pattern) is Pattern and kind_of(text) == "string":
            return pattern.found(budget, text)
        if kind_of(text) != "string" or kind_of(pattern) != "string":
            raise no_overload(name, kind_of(text), kind_of(pattern))
        budget.charge(500 + 10 * len(pattern))
        return Pattern(translate(pattern), _COMPUTED_BYTES).found(budget, text)

    return Function(call=call, least=2, metered=True, method=True, prepare=prepare, kind="bool")


FUNCTIONS = {"matches": _function("matches", str), "glob": _function("glob", _glob)}
