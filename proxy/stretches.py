"""Owns stretches of a reply's texts: what covers them, and how that gets into the deltas that bring a text in pieces.

In: covers, which count in a whole text. Out: texts and deltas, the same however they were sliced. Never: a delta
changed that nothing covers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from proxy.terms import ChoiceDelta, Cover, Delta, ToolCallDelta

SPOKEN = ("reasoning", "text", "refusal")
"""The texts of a choice, in the order in which models say them."""
ARGUMENTS = "arguments"
ENDLESS = 2**62
Channel: TypeAlias = tuple[int, str, int]
"""(choice, field of its delta, tool call or 0): one text of a reply."""


def covered(text: str, covers: Sequence[Cover], start: int = 0) -> str:
    """Return a text with what covers it, each time where the cover begins; the covers are apart and count in a whole
    of which the text is the piece that begins at `start`."""
    made, place, end = list[str](), start, start + len(text)
    for number in range(bisect_right(covers, start, key=_end), len(covers)):
        cover = covers[number]
        if cover.start >= end:
            break
        made.append(text[place - start : max(cover.start, place) - start])
        if cover.start >= start:
            made.append(cover.text)
        place = min(cover.end, end)
    return "".join((*made, text[place - start :])) if made else text


def _end(cover: Cover) -> int:
    return cover.end


def apart(covers: Sequence[Cover]) -> list[Cover]:
    """Return covers in order and apart: of those that overlap the first's words cover all that any of them covered."""
    kept: list[Cover] = []
    for cover in sorted(covers, key=lambda cover: (cover.start, -cover.end)):
        if not kept or cover.start >= kept[-1].end:
            kept.append(cover)
        elif cover.end > kept[-1].end:
            kept[-1] = replace(kept[-1], end=cover.end)
    return kept


def strings(value: object) -> list[tuple[str, str]]:
    """Return every string value of a JSON tree with its pointer (RFC 6901), in order."""
    found: list[tuple[str, str]] = []

    def note(pointer: str, text: str) -> str:
        found.append((pointer, text))
        return text

    reworded(value, note)
    return found


def reworded(value: object, say: Callable[[str, str], str], pointer: str = "") -> object:
    """Return a JSON tree with what `say` makes of each string value, by its pointer."""
    if isinstance(value, str):
        return say(pointer, value)
    if isinstance(value, list):
        return [reworded(item, say, f"{pointer}/{number}") for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: reworded(item, say, f"{pointer}/{_escaped(key)}") for key, item in value.items()}
    return value


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def texts(delta: Delta) -> Iterator[tuple[Channel, str]]:
    """Yield every piece of a text that a delta brings."""
    for piece in delta.choices:
        for field in SPOKEN:
            if text := getattr(piece, field):
                yield (piece.index, field, 0), text
        for call in piece.tool_calls:
            if call.arguments:
                yield (piece.index, ARGUMENTS, call.index), call.arguments


class Covering:
    """Covers the texts of deltas as they pass, one after another; its covers may grow ahead of them."""

    def __init__(self, covers: Mapping[Channel, Sequence[Cover]]) -> None:
        self._covers = covers
        self._come: dict[Channel, int] = {}
        """How far each text has come."""

    def apply(self, delta: Delta) -> Delta:
        """Return the next delta with what covers its texts, without a frame if it was changed."""
        pieces = tuple(map(self._piece, delta.choices))
        return delta if pieces == delta.choices else replace(delta, frame=b"", choices=pieces)

    def come(self, choice: int, field: str) -> int:
        """Return how much of a text has passed."""
        return self._come.get((choice, field, 0), 0)

    def _piece(self, piece: ChoiceDelta) -> ChoiceDelta:
        said: dict[str, str] = {
            field: new
            for field in SPOKEN
            if (text := getattr(piece, field)) and (new := self._text((piece.index, field, 0), text)) != text
        }
        calls = tuple(self._call(piece.index, call) for call in piece.tool_calls)
        return replace(piece, **said, tool_calls=calls) if said or calls != piece.tool_calls else piece

    def _call(self, choice: int, call: ToolCallDelta) -> ToolCallDelta:
        new = self._text((choice, ARGUMENTS, call.index), call.arguments)
        return replace(call, arguments=new) if new != call.arguments else call

    def _text(self, channel: Channel, text: str) -> str:
        start = self._come.get(channel, 0)
        self._come[channel] = start + len(text)
        return covered(text, self._covers.get(channel, ()), start)
