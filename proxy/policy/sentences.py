"""Owns where sentences end.

In: a text. Out: its sentences, which put together are the text. Never: grammar; a full stop after an abbreviation or
one letter ends none: a sentence is rather too long than cut in two.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

# A trusted pattern in time linear in the text: a run of marks is tried where it begins, and given up as a whole.
_END = re.compile(
    "(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019\u00bb)\\]]*+(?:\\s++|$)"  # marks, what closes a quotation, a space
    "|[\u3002\uff01\uff1f]++"  # the full-width marks, which no space follows
    "|\n[^\\S\n]*+\n\\s*+"
)
_SHORT = frozenset(
    [
        *("mr", "mrs", "ms", "dr", "prof", "st", "no", "nr", "vs", "etc", "approx", "inc", "ltd", "co", "dept", "fig"),
        *("jr", "sr", "e.g", "i.e", "z.b", "d.h", "bzw", "ca", "usw", "tel", "abs", "art"),
    ]
)
LONGEST_WORD = 12


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, each with what follows it up to the next."""
    return [said for start, end in itertools.pairwise((0, *_ends(text), len(text))) if (said := text[start:end])]


def first(text: str, count: int) -> str:
    """Return the first sentences of a text without what follows them; the text itself if it has no more."""
    found = list(itertools.islice(_ends(text), max(count, 0)))
    end = found[-1] if found else 0
    return text if len(found) < count or end == len(text) else text[:end].rstrip()


def _ends(text: str) -> Iterator[int]:
    for found in _END.finditer(text):
        start, end = found.span()
        if text[start] != "." or text[start + 1 : start + 2] == "." or not _abbreviates(text, start):
            yield end


def _abbreviates(text: str, stop: int) -> bool:
    """Tell whether a full stop belongs to the word before it."""
    before = text[max(0, stop - LONGEST_WORD) : stop]
    word = before[max(before.rfind(" "), before.rfind("\n"), before.rfind("(")) + 1 :]
    return len(word) == 1 or word.lower() in _SHORT
