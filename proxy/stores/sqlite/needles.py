"""Owns looking for many names in many bytes at once: in one pass, however many names there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

import re2

from proxy.stores import spellings

_MOST_MEMORY = 1 << 26


class Needles:
    """Names in every way in which they can stand in records. One that stands inside a longer one is that one alone."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = tuple(names)
        self._of = {form: name for name in names for form in spellings(name)}
        options = re2.Options()
        options.encoding, options.max_mem = re2.Options.Encoding.LATIN1, _MOST_MEMORY
        forms = sorted(self._of, key=len, reverse=True)
        self._pattern = re2.compile(b"|".join(map(re2.escape, forms)), options) if forms else None
        self._longest = max(map(len, forms), default=1)

    def nowhere(self) -> Counter[str]:
        """Return a count of zero for each name."""
        return Counter(dict.fromkeys(self._names, 0))

    def found(self, data: bytes, after: int = 0) -> Counter[str]:
        """Return how often each name that is in some bytes ends after a place in them."""
        found = self._pattern.finditer(data) if self._pattern else ()
        return Counter(self._of[match.group()] for match in found if match.end() > after)

    def in_pieces(self, pieces: Iterable[bytes]) -> Counter[str]:
        """Return how often each name is in something that comes in pieces, across their ends as well."""
        counts, tail = self.nowhere(), b""
        for piece in pieces:
            data = tail + piece
            counts.update(self.found(data, len(tail)))
            tail = data[-self._longest + 1 :] if self._longest > 1 else b""
        return counts
