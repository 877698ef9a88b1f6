"""Owns the matching of texts against patterns that people wrote: globs and regular expressions.

In: patterns, compiled once. Out: yes or no, in time linear in the text. Never: Python's backtracking `re`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import re2

MAX_MEMORY_BYTES = 1 << 20


class Globs:
    """Match a name against any of some globs; no globs at all match every name.

    `*` is any run of characters, `?` any one, all else itself.
    """

    __slots__ = ("_every", "_exact", "_pattern")

    def __init__(self, globs: Sequence[str]) -> None:
        wild = [glob for glob in globs if "*" in glob or "?" in glob]
        self._every = not globs
        self._exact = frozenset(globs) - frozenset(wild)
        self._pattern = compiled(rf"(?s)\A(?:{'|'.join(map(_translated, wild))})\z") if wild else None

    def match(self, name: str) -> bool:
        """Say whether the name fits."""
        if self._every or name in self._exact:
            return True
        # A lone surrogate cannot be encoded for RE2; it is matched as a replacement character.
        whole = name.encode("utf-8", "replace").decode()
        return self._pattern is not None and self._pattern.search(whole) is not None


def _translated(glob: str) -> str:
    wild = {"*": ".*", "?": "."}
    return "".join(wild.get(character) or re2.escape(character) for character in glob)


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """Return an RE2 pattern; raise ValueError if it is none, or needs too much memory."""
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"{pattern!r} is no regular expression for RE2") from error
