"""Owns what stands in the place of personal data, and what puts it back.

In: spans of a text, then the deltas of a reply. Out: covers; deltas with the values in the place of their placeholders.
Never: a value in a record, in `repr` or in a placeholder; what a placeholder stands for is found anew in each request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from proxy.stretches import ARGUMENTS, Channel, Covering, apart, texts
from proxy.terms import Cover, Delta, How, Span

DIGITS = 8
"""Hexadecimal digits of a digest: four billion values, within one conversation."""
_MARK = re.compile(rf"\[([A-Z][A-Z0-9_]*?)(?::[0-9a-f]{{{DIGITS}}}|_[0-9A-F]{{{DIGITS}}})?\]")
MOST_WAITING = 2**20
"""Bytes of events that may wait for the end of a placeholder while other channels go on."""


def hidden(text: str, marks: Mapping[str, str]) -> str:
    """Return a text, JSON or not, with marks in the place of the values they stand for, however these are spelt."""
    return _replaced(text, marks, lambda value: (value, *_spellings(value)))


def _replaced(text: str, marks: Mapping[str, str], spellings: Callable[[str], Sequence[str]]) -> str:
    # The longest first: a value may be a part of another one, the rest of which would stay.
    for value in sorted(marks, key=len, reverse=True):
        for spelt in spellings(value):
            text = text.replace(spelt, marks[value])
    return text


def _spellings(value: str) -> tuple[str, str]:
    """Return how a value may stand inside a JSON string."""
    return _escaped(value), json.dumps(value)[1:-1]


def marks(text: str, kinds: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of every mark in a text that stands for something of one of these kinds."""
    for found in _MARK.finditer(text):
        kind = found[1].lower()
        if kind in kinds:
            yield kind, found.start(), found.end()


class Vault:
    """The placeholders of one request, and what they stand for."""

    def __init__(self, key: bytes, session_id: str) -> None:
        self._key = key
        self._session_id = session_id
        self.values: dict[str, str] = {}
        """Placeholder -> value."""

    def __repr__(self) -> str:
        return f"Vault({len(self.values)} values)"

    def covers(self, spans: Sequence[Span], text: str) -> list[Cover]:
        """Return what covers these spans of a text."""
        return [Cover(start=span.start, end=span.end, text=self._cover(span, text)) for span in spans]

    def _cover(self, span: Span, text: str) -> str:
        kind, value = span.kind.upper(), text[span.start : span.end]
        if span.how is How.OMIT:
            return ""
        if span.how is How.MASK:
            return f"[{kind}]"
        if span.how is How.HASH:
            return f"[{kind}:{self._digest(value)}]"
        placeholder = f"[{kind}_{self._digest(self._session_id, kind, value).upper()}]"
        self.values[placeholder] = value
        return placeholder

    def _digest(self, *texts: str) -> str:
        said = json.dumps(texts).encode()
        return hmac.new(self._key, said, hashlib.sha256).hexdigest()[:DIGITS]

    def hide(self, text: str) -> str:
        """Return a text with placeholders in the place of the values they stand for."""
        return hidden(text, self._marks())

    def hide_arguments(self, arguments: str) -> str:
        """Return the arguments of a call, which are JSON, with placeholders in the place of the values."""
        return _replaced(arguments, self._marks(), _spellings)

    def _marks(self) -> dict[str, str]:
        return {value: mark for mark, value in self.values.items()}


class Restorer:
    """Puts values back into a reply: deltas wait while the end of some text may be the beginning of a placeholder."""

    def __init__(self, vault: Vault) -> None:
        self._values: Mapping[str, str] = dict(vault.values)
        self._escaped = {placeholder: _escaped(value) for placeholder, value in vault.values.items()}
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
        return start >= 0 and any(p.startswith(tail[start:]) and p != tail[start:] for p in self._values)

    def _covers(self, channel: Channel, whole: str) -> list[Cover]:
        """Return each value that one text needs, over its placeholder."""
        values = self._escaped if channel[1] == ARGUMENTS else self._values
        return apart(
            [
                Cover(start=at, end=at + len(placeholder), text=value)
                for placeholder, value in values.items()
                for at in _places(whole, placeholder)
            ]
        )


def _escaped(value: str) -> str:
    """Return a value as it stands inside a JSON string."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _places(text: str, placeholder: str) -> Iterator[int]:
    at = text.find(placeholder)
    while at >= 0:
        yield at
        at = text.find(placeholder, at + len(placeholder))
