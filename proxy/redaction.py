"""Owns what stands in the place of personal data, and what puts it back.

In: spans of a text, then the deltas of a reply. Out: covers; deltas with the values in the place of their placeholders.
Never: a value in a record, in `repr` or in a placeholder; what a placeholder stands for is found anew in each request.
"""

from __future__ import annotations

import hmac
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from proxy.stretches import ARGUMENTS, Channel, Covering, texts
from proxy.terms import Cover, Delta, How, Span

DIGITS = 8
"""Hexadecimal digits of a digest: four billion values, within one conversation."""
_MARK = re.compile(rf"\[([A-Z][A-Z0-9_]*?)(?::[0-9a-f]{{{DIGITS}}}|_[0-9A-F]{{{DIGITS}}})?\]")
BEGINNING = 8
"""Characters by which a value is told from most others."""
FEW = 64
"""Spellings that are sooner looked for one after another."""
_BRACKETED = re.compile(r"\[[^\[\]]*\]")
MOST_WAITING = 2**20
"""Bytes of events that may wait for the end of a placeholder while other channels go on."""


def marks(text: str, kinds: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of every mark in a text that stands for something of one of these kinds."""
    for found in _MARK.finditer(text):
        kind = found[1].lower()
        if kind in kinds:
            yield kind, found.start(), found.end()


class Marks:
    """Values, and the marks that stand in their place."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}
        self._spelt: dict[str, str] = {}
        """Value by each of its spellings."""
        self._lengths: dict[str, set[int]] = {}
        """How long the spellings can be that begin like this."""

    def add(self, value: str, mark: str) -> None:
        """Put a mark in the place of a value."""
        self._marks[value] = mark
        for spelt in {value, *_spellings(value)}:
            self._spelt[spelt] = value
            self._lengths.setdefault(spelt[:BEGINNING], set()).add(len(spelt))

    def hidden(self, text: str) -> str:
        """Return a text, JSON or not, with marks in the place of all values, however these are spelt."""
        return self._replaced(text, lambda value: (value, *_spellings(value)))

    def hidden_in_json(self, text: str) -> str:
        """Return JSON with marks in the place of all values inside its strings."""
        return self._replaced(text, _spellings)

    def _replaced(self, text: str, spellings: Callable[[str], Sequence[str]]) -> str:
        # The longest first: a value may be a part of another one, the rest of which would stay.
        for value in sorted(self._among(text), key=lambda value: (-len(value), value)):
            for spelt in spellings(value):
                text = text.replace(spelt, self._marks[value])
        return text

    def _among(self, text: str) -> set[str]:
        """Return the values that stand in a text: of many values it is read once, however many there are."""
        if len(self._spelt) <= FEW:
            return {value for spelt, value in self._spelt.items() if spelt in text}
        found = set[str]()
        for size in {len(beginning) for beginning in self._lengths}:
            for at in range(len(text) - size + 1):
                for length in self._lengths.get(text[at : at + size], ()):
                    if value := self._spelt.get(text[at : at + length]):
                        found.add(value)
        return found


class Vault:
    """The placeholders of one request, and what they stand for."""

    def __init__(self, key: bytes, session_id: str) -> None:
        self._key = key
        self._session_id = session_id
        self.values: dict[str, str] = {}
        """Placeholder -> value."""
        self._marks = Marks()
        self._said: dict[tuple[How, str, str], str] = {}
        """What stands in the place of a value; a history repeats them."""

    def __repr__(self) -> str:
        return f"Vault({len(self.values)} values)"

    def covers(self, spans: Sequence[Span], text: str) -> list[Cover]:
        """Return what covers these spans of a text."""
        return [Cover(start=span.start, end=span.end, text=self._cover(span, text)) for span in spans]

    def _cover(self, span: Span, text: str) -> str:
        about = span.how, span.kind.upper(), text[span.start : span.end]
        if about not in self._said:
            self._said[about] = self._word(*about)
        return self._said[about]

    def _word(self, how: How, kind: str, value: str) -> str:
        if how is How.OMIT:
            return ""
        if how is How.MASK:
            return f"[{kind}]"
        if how is How.HASH:
            return f"[{kind}:{self._digest(value)}]"
        placeholder = f"[{kind}_{self._digest(self._session_id, kind, value).upper()}]"
        self.values[placeholder] = value
        self._marks.add(value, placeholder)
        return placeholder

    def _digest(self, *texts: str) -> str:
        said = json.dumps(texts).encode()
        return hmac.digest(self._key, said, "sha256").hex()[:DIGITS]

    def hide(self, text: str) -> str:
        """Return a text with placeholders in the place of the values they stand for."""
        return self._marks.hidden(text)

    def hide_arguments(self, arguments: str) -> str:
        """Return the arguments of a call, which are JSON, with placeholders in the place of the values."""
        return self._marks.hidden_in_json(arguments)


class Restorer:
    """Puts values back into a reply: deltas wait while the end of some text may be the beginning of a placeholder."""

    def __init__(self, vault: Vault) -> None:
        self._values: Mapping[str, str] = dict(vault.values)
        self._ordered = sorted(vault.values)
        self._longest = max(map(len, vault.values), default=0)
        self._waiting: list[Delta] = []
        self._bytes = 0
        self._tails: dict[Channel, str] = {}

    def feed(self, delta: Delta) -> list[Delta]:
        """Take one delta; return those that are whole."""
        if not self._values:
            return [delta]
        self._waiting.append(delta)
        self._bytes += len(delta.frame)
        for channel, text in texts(delta):
            self._tails[channel] = (self._tails.get(channel, "") + text)[-self._longest :]
        wait = self._bytes <= MOST_WAITING and any(map(self._may_go_on, self._tails.values()))
        return [] if wait else self.close()

    def close(self) -> list[Delta]:
        """Return what waits, restored as far as it goes."""
        waiting, self._waiting, self._tails, self._bytes = self._waiting, [], {}, 0
        said: dict[Channel, list[str]] = {}
        for delta in waiting:
            for channel, text in texts(delta):
                said.setdefault(channel, []).append(text)
        covers = {channel: found for channel, parts in said.items() if (found := self._covers(channel, "".join(parts)))}
        covering = Covering(covers)
        return [covering.apply(delta) for delta in waiting] if covers else waiting

    def _may_go_on(self, tail: str) -> bool:
        start = tail.rfind("[")
        after = bisect_right(self._ordered, tail[start:]) if start >= 0 else len(self._ordered)
        return after < len(self._ordered) and self._ordered[after].startswith(tail[start:])

    def _covers(self, channel: Channel, whole: str) -> list[Cover]:
        """Return each value that one text needs, over its placeholder."""
        said = _escaped if channel[1] == ARGUMENTS else str
        return [
            Cover(start=found.start(), end=found.end(), text=said(self._values[found[0]]))
            for found in _BRACKETED.finditer(whole)
            if found[0] in self._values
        ]


def _escaped(value: str) -> str:
    """Return a value as it stands inside a JSON string."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _spellings(value: str) -> tuple[str, str]:
    """Return how a value may stand inside a JSON string."""
    return _escaped(value), json.dumps(value)[1:-1]
