"""Owns the patterns that redaction rules look for: guards like any other, so they are searched for in the same way.

In: a pattern that RE2 accepts, texts. Out: Findings. Never: Python's backtracking `re`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy import cel
from proxy.errors import TooLarge
from proxy.policy.patterns import compiled
from proxy.policy.widths import widest
from proxy.ports import Context
from proxy.terms import Finding

PATTERN = "pattern"
"""The kind of what a pattern finds."""
LONGEST = 4096
"""Characters of a find below which a text is searched in pieces; a pattern that may find more has to see it whole."""
MOST_WHOLE = 2**18
"""Characters of a text that is searched whole: after each find the pattern may look at all of the rest."""
FIND_UNITS = 12
"""What a find takes besides its characters."""


class Pattern:
    """A pattern as a guard; two of the same source are equal. Raises ValueError if RE2 does not accept it."""

    name = PATTERN
    version = "1"
    labels: tuple[str, ...] = (PATTERN,)
    context = Context.SAID

    def __init__(self, source: str) -> None:
        self.source = source
        width = widest(source)
        self.bounded = width is not None and width < LONGEST
        """It can be searched for in pieces."""
        # One character more on either side decides about \\b and the like.
        self.lookbehind = self.lookahead = width + 1 if width is not None and self.bounded else 0
        self._compiled = compiled(source)
        self._units, self._characters = cel.price(source, self._compiled.programsize)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return what was found, each find one character at least."""
        return list(self.finds(text))

    def finds(self, text: str) -> Iterator[Finding]:
        """Yield one find after another; raise TooLarge where the text is too long to be searched whole."""
        if not self.bounded and len(text) > MOST_WHOLE:
            raise TooLarge(f"{self.source!r} has no bound, and the text is longer than {MOST_WHOLE}.", code="too_long")
        # A lone surrogate cannot be encoded for RE2; a question mark stands at its place.
        for match in self._compiled.finditer(text.encode("utf-8", "replace").decode()):
            if match.end() > match.start():
                yield Finding(guard=PATTERN, label=PATTERN, start=match.start(), end=match.end())

    def paid(self, text: str, budget: cel.Budget) -> Iterator[Finding]:
        """Yield finds that are paid for as they come: after each the search may look as far as the longest one."""
        budget.charge(FIND_UNITS + self._price(len(text)))
        for found in self.finds(text):
            budget.charge(FIND_UNITS + self._price(self.lookahead or len(text)))
            yield found

    def _price(self, characters: int) -> int:
        return characters * self._units // self._characters
