"""Owns regular expressions: RE2, so matching is linear in the text, with bounded memory.

A constant pattern is compiled at load; one computed in evaluation pays for its compilation.
In: patterns and text. Out: bool. Never: Python's backtracking `re` on a pattern that a policy wrote.
"""

from typing import Any

import re2

from .errors import Budget, CelError, no_overload
from .functions import Function
from .values import kind_of

_PREPARED_BYTES, _DYNAMIC_BYTES = 4 << 20, 1 << 18
# A unit pays for this many steps of the automaton (characters of text times instructions of the pattern).
_STEPS_PER_UNIT = 4096


class Pattern:
    """Hold a compiled pattern and what searching a character costs."""

    __slots__ = ("_regexp", "size")

    def __init__(self, regexp: str, memory: int = _PREPARED_BYTES) -> None:
        options = re2.Options()
        options.max_mem = memory
        options.log_errors = False
        options.never_capture = True
        try:
            self._regexp = re2._Regexp(regexp, options)
        except re2.error as error:
            detail = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
            raise CelError("invalid_argument", f"bad regular expression: {detail}") from None
        self.size = max(16, self._regexp.programsize)

    def found(self, budget: Budget, text: str) -> bool:
        """Tell if the pattern matches somewhere in the text."""
        budget.charge(1 + len(text) * self.size // _STEPS_PER_UNIT)
        return self._regexp.search(text) is not None


def prepare(regexp: object) -> object:
    """Compile a constant pattern; anything but text is left for evaluation to refuse."""
    return Pattern(regexp) if isinstance(regexp, str) else regexp


def matches(budget: Budget, text: Any, pattern: Any) -> bool:
    """Tell if a pattern matches somewhere in a text."""
    if kind_of(text) != "string":
        raise no_overload("matches", kind_of(text), kind_of(pattern))
    if type(pattern) is Pattern:
        return pattern.found(budget, text)
    if kind_of(pattern) != "string":
        raise no_overload("matches", "string", kind_of(pattern))
    budget.charge(500 + 10 * len(pattern))
    return Pattern(pattern, _DYNAMIC_BYTES).found(budget, text)


FUNCTIONS = {"matches": Function(call=matches, least=2, metered=True, method=True, prepare=prepare, kind="bool")}
