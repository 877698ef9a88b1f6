"""Owns the bound on what searching with a pattern takes, from the pattern alone.

RE2 searches with an automaton that it builds as it goes. A pattern made for it, on text made for the pattern, needs a
new state with every character, and each state costs as much as it holds positions of the pattern.
In: a pattern that RE2 accepts, the size of its program. Out: a price per character. Never: a text, a search.
"""

import math
import re
from collections import Counter

# One budget unit pays for a new state and for this many positions in it, about 0.2 us; or for this many characters
# where no text needs more states than stay in memory.
_POSITIONS, _CHARACTERS = 24, 64
_MOST_STATES = 1024
# States of this many positions no longer stay in the processor's cache: each costs twice as much.
_CACHED = 1024
_UNBOUNDED = 1 << 31
# Words with options: nothing repeats, nothing stands for more characters than are written.
_WORDS = re.compile(r"(?:[\w '@#%,;:!&=/\-|()?]|\\[b.]|\[[\w ']+-?\])*")
_CLASS, _GROUP = re.compile(r"\[([^\]]*)\]"), re.compile(r"\(([^()]*)\)")
# What the number of positions follows from: quoting and repeated groups (given up on), counts, classes, letters.
# RE2 refuses a count of a count.
_TOKEN = re.compile(
    r"(?P<open>\\Q|\)\{)|\{(?P<least>\d+),?(?P<most>\d*)\}"
    r"|(?P<wild>\\.|\.|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\])|(?P<letter>.)",
    re.DOTALL,
)


def price(regexp: str, program: int) -> tuple[int, int]:
    """Return a price as a fraction: budget units, and the characters that they pay for."""
    if states(regexp) <= _MOST_STATES:
        return 1, _CHARACTERS
    held = min(positions(regexp), program)
    return _POSITIONS + held + held * held // _CACHED, _POSITIONS


def states(regexp: str) -> int:
    """Bound the states of a search for words with options by the length of all of them, spelled out."""
    words = regexp.removeprefix("(?i)").replace("(?:", "(")
    if not _WORDS.fullmatch(words):
        return _UNBOUNDED
    spelled = _CLASS.sub("x", words)
    outside = _GROUP.sub("x", spelled)
    if "(" in outside:
        return _UNBOUNDED
    choices: list[int] = [part.count("|") + 1 for part in (*_GROUP.findall(spelled), outside)]
    choices += map(len, _CLASS.findall(words))
    return (len(words) * math.prod(choices)) << spelled.count("?")


def positions(regexp: str) -> int:
    """Bound the positions that a search is at at once: of all letters, those of the one just read."""
    wild, letters = 1, Counter[str]()
    for token in _TOKEN.finditer(regexp):
        match token.lastgroup:
            case "open":
                return _UNBOUNDED
            case "letter":
                letters[token["letter"].casefold()] += 1
            case "wild":
                wild += 1
            case _:
                wild += max(int(token["least"]), int(token["most"] or 0))
    return wild + max(letters.values(), default=0)
