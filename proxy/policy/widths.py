"""Owns how long what a pattern finds can be: a stream has to keep so much text back.

In: a pattern that RE2 accepts. Out: characters, or None where there is no bound. Never: a bound below what it can find;
what is not understood has none.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"(?P<quoted>\\Q(?P<words>.*?)(?:\\E|\Z))"
    r"|(?P<flags>\(\?[imsU-]*\))"
    r"|(?P<open>\((?:\?(?:P?<\w+>|[imsU-]*:))?)"
    r"|(?P<close>\))|(?P<either>\|)"
    r"|(?P<repeat>(?:[*+?]|\{(?P<least>\d+)(?P<more>,(?P<most>\d*))?\})\??)"
    r"|(?P<nothing>[\^$]|\\[AzbB])"
    r"|(?P<one>\\x\{[0-9A-Fa-f]+\}|\\x[0-9A-Fa-f]{2}|\\[pP](?:\{\^?\w+\}|\w)|\\[0-7]{1,3}|\\."
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|.)",
    re.DOTALL,
)
_UNBOUNDED = -1


def widest(pattern: str) -> int | None:
    """Return the most characters that a pattern can find, None if there is no bound."""
    # Of each open group: the widest of its alternatives so far, the width of this one, and of its last atom.
    groups = [[0, 0, 0]]
    for token in _TOKEN.finditer(pattern):
        group = groups[-1]
        match token.lastgroup:
            case "open":
                groups.append([0, 0, 0])
            case "close" if len(groups) > 1:
                best, now, _ = groups.pop()
                _add(groups[-1], _most(best, now))
            case "either":
                group[:] = [_most(group[0], group[1]), 0, 0]
            case "repeat":
                _repeat(group, token)
            case "quoted":
                for _ in token["words"]:
                    _add(group, 1)
            case "nothing":
                _add(group, 0)
            case "flags":
                pass  # What a repetition after it repeats is the atom before it.
            case _:
                _add(group, 1)
    best, now, _ = groups[0]
    width = _most(best, now)
    return None if width < 0 or len(groups) > 1 else width


def _most(one: int, other: int) -> int:
    return _UNBOUNDED if min(one, other) < 0 else max(one, other)


def _add(group: list[int], width: int) -> None:
    group[1:] = [_UNBOUNDED if min(group[1], width) < 0 else group[1] + width, width]


def _repeat(group: list[int], token: re.Match[str]) -> None:
    """Let the last atom stand as often as it may; it stands there once already."""
    atom, sign = group[2], token["repeat"][0]
    if sign == "?" or not atom:
        return
    if sign in "*+" or (token["more"] and not token["most"]):
        group[1] = group[2] = _UNBOUNDED
    elif atom > 0:
        more = (int(token["most"] or token["least"]) - 1) * atom
        group[1:] = [_UNBOUNDED if group[1] < 0 else group[1] + max(0, more), atom + max(0, more)]
