"""Owns what stands in the place of personal data, and what puts it back.

In: spans of a text, then the deltas of a reply. Out: covers; deltas with the values in the place of their placeholders.
Never: a value in a record, in `repr` or in a placeholder; what a placeholder stands for is found anew in each request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from proxy.terms import ChoiceDelta, Cover, Delta, How, Span, ToolCallDelta

DIGITS = 8
"""Hexadecimal digits of a digest: four billion values, within one conversation."""
MOST_WAITING = 2**20
"""Bytes of events that may wait for the end of a placeholder while other channels go on."""
Channel: TypeAlias = tuple[int, str, int]
"""(choice, field of its delta, tool call or 0)."""


def covered(text: str, covers: Sequence[Cover]) -> str:
    """Return a text with what covers it; no cover overlaps another."""
    made, place = [], 0
    for cover in covers:
        made += [text[place : cover.start], cover.text]
        place = cover.end
    return "".join((*made, text[place:]))


def apart(covers: Sequence[Cover]) -> list[Cover]:
    """Return covers in order and apart: of those that overlap the first's words cover all that any of them covered."""
    kept: list[Cover] = []
    for cover in sorted(covers, key=lambda cover: (cover.start, -cover.end)):
        if not kept or cover.start >= kept[-1].end:
            kept.append(cover)
        elif cover.end > kept[-1].end:
            kept[-1] = replace(kept[-1], end=cover.end)
    return kept


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

    def hide(self, arguments: str) -> str:
        """Return the arguments of a call in the history with placeholders in the place of the values they stand for."""
        # The longest first: a value may be a part of another one, the rest of which would stay.
        for placeholder, value in sorted(self.values.items(), key=lambda entry: -len(entry[1])):
            for spelt in (_escaped(value), json.dumps(value)[1:-1]):
                arguments = arguments.replace(spelt, placeholder)
        return arguments


class Restorer:
    """Puts values back into a reply: deltas wait while the end of some text may be the beginning of a placeholder."""

    def __init__(self, vault: Vault) -> None:
        self._values: Mapping[str, str] = vault.values
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
        for channel, text in _texts(delta):
            self._tails[channel] = (self._tails.get(channel, "") + text)[-self._longest :]
        wait = self._bytes <= MOST_WAITING and any(map(self._may_go_on, self._tails.values()))
        return [] if wait else self.close()

    def close(self) -> list[Delta]:
        """Return what waits, restored as far as it goes."""
        waiting, self._waiting, self._tails, self._bytes = self._waiting, [], {}, 0
        said: dict[Channel, list[str]] = {}
        for delta in waiting:
            for channel, text in _texts(delta):
                said.setdefault(channel, []).append(text)
        changed = {channel: self._restored(channel, texts) for channel, texts in said.items()}
        concerned = {channel: iter(texts) for channel, texts in changed.items() if texts != said[channel]}
        return [_rewritten(delta, concerned) for delta in waiting] if concerned else waiting

    def _may_go_on(self, tail: str) -> bool:
        start = tail.rfind("[")
        return start >= 0 and any(p.startswith(tail[start:]) and p != tail[start:] for p in self._values)

    def _restored(self, channel: Channel, texts: list[str]) -> list[str]:
        """Return the texts of one channel with each value where its placeholder begins, the rest of which is gone."""
        whole, values = "".join(texts), self._escaped if channel[1] == "arguments" else self._values
        found = sorted((at, placeholder) for placeholder in values for at in _places(whole, placeholder))
        restored, start = [], 0
        for text in texts:
            restored.append(_part(whole, start, start + len(text), [(a, a + len(p), values[p]) for a, p in found]))
            start += len(text)
        return restored


def _escaped(value: str) -> str:
    """Return a value as it stands inside a JSON string."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _places(text: str, placeholder: str) -> Iterator[int]:
    at = text.find(placeholder)
    while at >= 0:
        yield at
        at = text.find(placeholder, at + len(placeholder))


def _part(whole: str, start: int, end: int, found: Sequence[tuple[int, int, str]]) -> str:
    """Return what a stretch of the whole says once what was found is replaced where it begins."""
    made, place = [], start
    for begins, ends, value in found:
        if ends > start and begins < end:
            made.append(whole[place : max(begins, place)])
            if begins >= start:
                made.append(value)
            place = min(ends, end)
    return "".join((*made, whole[place:end]))


def _texts(delta: Delta) -> Iterator[tuple[Channel, str]]:
    for piece in delta.choices:
        for field in ("text", "reasoning", "refusal"):
            if text := getattr(piece, field):
                yield (piece.index, field, 0), text
        for call in piece.tool_calls:
            if call.arguments:
                yield (piece.index, "arguments", call.index), call.arguments


def _rewritten(delta: Delta, changed: Mapping[Channel, Iterator[str]]) -> Delta:
    pieces = tuple(_piece(piece, changed) for piece in delta.choices)
    return delta if pieces == delta.choices else replace(delta, frame=b"", choices=pieces)


def _piece(piece: ChoiceDelta, changed: Mapping[Channel, Iterator[str]]) -> ChoiceDelta:
    said = {
        field: next(changed[piece.index, field, 0])
        for field in ("text", "reasoning", "refusal")
        if getattr(piece, field) and (piece.index, field, 0) in changed
    }
    calls = tuple(_call(piece.index, call, changed) for call in piece.tool_calls)
    return replace(piece, **said, tool_calls=calls)


def _call(choice: int, call: ToolCallDelta, changed: Mapping[Channel, Iterator[str]]) -> ToolCallDelta:
    channel = (choice, "arguments", call.index)
    return replace(call, arguments=next(changed[channel])) if call.arguments and channel in changed else call
