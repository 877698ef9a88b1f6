"""Owns the matching of names against globs: `*` is any run of characters, `?` any one, all else itself.

In: globs, compiled once. Out: yes or no, in time linear in the name. Never: Python's backtracking `re`.
"""

from __future__ import annotations

from collections.abc import Sequence

import re2


class Globs:
    """Match a name against any of some globs; no globs at all match every name."""

    __slots__ = ("_every", "_exact", "_pattern")

    def __init__(self, globs: Sequence[str]) -> None:
        wild = [glob for glob in globs if "*" in glob or "?" in glob]
        self._every = not globs
        self._exact = frozenset(globs) - frozenset(wild)
        self._pattern = re2.compile(rf"(?s)\A(?:{'|'.join(map(_translated, wild))})\z") if wild else None

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
