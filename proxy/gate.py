"""Owns the window between provider and client: which deltas may leave now, and what the held ones become.

In: deltas, and what rules say of them. Out: steps of their texts that are to be judged, deltas that may leave, and the
replies they add up to. Never: bytes of its own; a delta that was changed has no frame, and `wire` encodes it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from proxy.stretches import ARGUMENTS, ENDLESS, SPOKEN, Channel, Covering, apart, covered
from proxy.terms import ChoiceDelta, Chunk, Cover, Delta, Reach, Reply, ToolCall, ToolCallDelta

Dropped: TypeAlias = Mapping[tuple[int, int], str]
"""(choice, index) of the tool calls that are not allowed -> the safe text to say where no call is left."""
Covers: TypeAlias = Mapping[Channel, Sequence[Cover]]
STEPS = 4
"""A step is this part of what rules must see after it: more steps let text leave earlier and are judged more often."""


class Gate:
    """Lets text pass as soon as it is judged, which without a `reach` is at once, unless `hold`; from the first piece
    of a tool call on, or of what clients may read in different ways, it holds everything, so that a call leaves
    complete and judged, or not at all."""

    def __init__(self, hold: bool = False, reach: Reach | None = None) -> None:
        self._hold = self._holding = hold
        self._reach = reach
        self.judges = reach is not None
        """There are steps to judge."""
        self._waits = reach is not None and reach.waits
        self._waiting: deque[_Waiting] = deque()
        self._choices: dict[int, _Choice] = {}
        self._covers: dict[Channel, list[Cover]] = {}
        self._covering = Covering(self._covers)
        self._model = ""
        self._cut: tuple[Reply, ...] | None = None
        """What was heard by the time it was cut."""
        self._clear = True
        self.held_bytes = 0
        """How much waits, and must be kept until the end."""

    def feed(self, delta: Delta, came_ms: float = 0.0, size: int | None = None) -> None:
        """Take one delta, which came with so many bytes; next judge what is `due`, then take what is `leaving`."""
        size = len(delta.frame) if size is None else size
        for piece in delta.choices:
            choice = self._choices.get(piece.index)
            if choice is None:
                choice = self._choices[piece.index] = _Choice(piece.index)
            choice.add(piece)
            if piece.tool_calls:
                self._holding = True
        if not delta.clear:
            self._holding, self._clear = True, False
        if delta.model and not self._model:
            self._model = delta.model
        self.held_bytes += size
        self._waiting.append((delta, self._marks(delta) if self._waits else (), self._holding, came_ms, size))

    def _marks(self, delta: Delta) -> tuple[tuple[_Text, int], ...]:
        """Return how far its texts have to be judged before a delta may leave."""
        said = [
            (self._choices[piece.index], field) for piece in delta.choices for field in SPOKEN if getattr(piece, field)
        ]
        return tuple((choice.texts[field], choice.texts[field].length) for choice, field in said)

    def due(self, last: bool = False) -> Iterator[Chunk]:
        """Yield the steps that can be judged by now, with `last` all there are. A step counts as judged when the next
        one is asked for: until then it can be covered, or the reply `cut` before it."""
        if self._reach is not None:
            for choice in self._choices.values():
                for text in choice.texts.values():
                    yield from text.due(self._reach, last)

    def cover(self, chunk: Chunk, covers: Sequence[Cover]) -> None:
        """Cover what was found in a step; the covers count in its `text`."""
        if covers:
            at = chunk.offset
            known = self._covers.setdefault((chunk.choice, chunk.field, 0), [])
            first = bisect_right(known, at + chunk.start, key=lambda cover: cover.end)
            new = [replace(cover, start=at + cover.start, end=at + cover.end) for cover in covers]
            known[first:] = apart([*known[first:], *new])

    def leaving(self) -> list[Delta]:
        """Return what may leave by now."""
        left: list[Delta] = []
        waiting = self._waiting
        while waiting:
            delta, marks, held, _, size = waiting[0]
            if held or (marks and any(text.judged < end for text, end in marks)):
                break
            waiting.popleft()
            self.held_bytes -= size
            left += self._worded(delta) if self._waits else (delta,)
        return left

    def since(self, now_ms: float) -> float:
        """Return when the delta came that waits longest; if none does, `now_ms`."""
        return self._waiting[0][3] if self._waiting else now_ms

    @property
    def clear(self) -> bool:
        """Whether every client puts together the same calls from what was fed."""
        return self._clear and all(call.clear for choice in self._choices.values() for call in choice.calls.values())

    def heard(self) -> tuple[Reply, ...]:
        """Return the choices as the provider said them."""
        return self._replies({}) if self._cut is None else self._cut

    def replies(self) -> tuple[Reply, ...]:
        """Return the choices as they stand; after `release` or `cut`, as the client got them."""
        return self._replies(self._covers)

    def _replies(self, covers: Covers) -> tuple[Reply, ...]:
        return tuple(self._choices[index].reply(self._model, covers) for index in sorted(self._choices))

    def cut(self) -> list[Delta]:
        """Return what may still leave of a reply that ends here: its texts as far as they are judged, no call and no
        finish reason. Where a rule holds the whole reply, or clients may read it in different ways, it is nothing."""
        stays, self._cut = self._hold or not self._clear, self.heard()
        for index, choice in self._choices.items():
            choice.calls, choice.finish_reason = {}, ""
            for field, text in choice.texts.items():
                come = self._covering.come(index, field)
                end = Cover(start=come if stays else max(come, text.judged), end=ENDLESS, text="")
                self._covers[index, field, 0] = apart([*self._covers.get((index, field, 0), ()), end])
        held = [delta for delta, *_ in self._waiting if not delta.final]
        self._waiting.clear()
        return [] if stays else [out for delta in held for out in _kept(delta, _open(self._covering.apply(delta)))]

    def release(self, drop: Dropped | None = None, covers: Covers | None = None) -> list[Delta]:
        """Return what is held, each text with its covers, which count in what `replies` said; without the dropped
        calls: the others are numbered from 0, and a choice that has none left says the safe text of its first dropped
        call and ends with `stop`. Deltas that are not concerned keep their frames."""
        held = [out for delta, *_ in self._waiting for out in self._worded(delta)]
        self._waiting.clear()
        if covers:
            covering = Covering(covers)
            held = [out for delta in held for out in _kept(delta, covering.apply(delta))]
            for (index, field, number), found in covers.items():
                self._choices[index].settle(field, number, self._covers.pop((index, field, number), ()), found)
        edits = {index: edit for index, choice in self._choices.items() if (edit := choice.drop(drop or {}))}
        return list(_edited(held, edits)) if edits else held

    def _worded(self, delta: Delta) -> Iterator[Delta]:
        return _kept(delta, self._covering.apply(delta))


class _Text:
    """One text of a choice as it adds up, and how far it is judged."""

    __slots__ = ("_again", "_base", "_choice", "_field", "_tail", "_taken", "judged", "length", "over", "parts")

    def __init__(self, choice: int, field: str) -> None:
        self._choice, self._field = choice, field
        self.parts: list[str] = []
        self.length = self.judged = 0
        self.over = False
        """A text has begun that models say after it: nothing more is awaited."""
        self._again = False
        self._tail, self._base, self._taken = "", 0, 0

    def add(self, words: str) -> None:
        self.parts.append(words)
        self.length += len(words)
        if self.over:
            self._again, self.over = True, False

    def due(self, reach: Reach, last: bool) -> Iterator[Chunk]:
        """Yield the steps that can be judged. Which these are follows from the text alone: each is as long as the one
        before and has what rules must see after it; only when nothing more is awaited, the last is the rest."""
        if self._again:  # What was the end of the text was none: what stands there may be a part of something longer.
            self.judged, self._again = max(0, self.judged - reach.ahead), False
        size = max(1, reach.ahead // STEPS)
        whole = size + reach.ahead
        while self.length - self.judged >= whole or ((last or self.over) and self.judged < self.length):
            start, end = self.judged, self.judged + size if self.length - self.judged >= whole else self.length
            yield self._chunk(start, end, reach)
            self.judged = end

    def _chunk(self, start: int, end: int, reach: Reach) -> Chunk:
        self._tail += "".join(self.parts[self._taken :])
        self._taken = len(self.parts)
        kept = max(0, start - reach.behind - reach.ahead)
        self._tail, self._base = self._tail[kept - self._base :], kept
        offset = max(0, start - reach.behind)
        return Chunk(
            text=self._tail[offset - kept : end + reach.ahead - kept],
            choice=self._choice,
            field=self._field,
            offset=offset,
            start=start - offset,
            end=end - offset,
            final=end == self.length,
        )


class _Choice:
    """One choice as it adds up."""

    __slots__ = ("_field", "_index", "calls", "finish_reason", "texts")

    def __init__(self, index: int) -> None:
        self._index = index
        self._field = ""
        self.texts = {field: _Text(index, field) for field in SPOKEN}
        self.calls: dict[int, _Call] = {}
        self.finish_reason = ""

    def add(self, piece: ChoiceDelta) -> None:
        if piece.reasoning:
            self._speaks("reasoning").add(piece.reasoning)
        if piece.text:
            self._speaks("text").add(piece.text)
        if piece.refusal:
            self._speaks("refusal").add(piece.refusal)
        for call in piece.tool_calls:
            self.calls.setdefault(call.index, _Call()).add(call)
        if piece.finish_reason:
            self.finish_reason = piece.finish_reason

    def _speaks(self, field: str) -> _Text:
        """Return the text that goes on; that ends those that models say before it, and no other: what is said to a
        customer goes on after a thought in between."""
        if field != self._field:
            self._field = field
            for earlier in SPOKEN[: SPOKEN.index(field)]:
                self.texts[earlier].over = self.texts[earlier].length > 0
        return self.texts[field]

    def reply(self, model: str, covers: Covers) -> Reply:
        said = {
            field: covered("".join(text.parts), covers.get((self._index, field, 0), ()))
            for field, text in self.texts.items()
        }
        return Reply(
            choice=self._index,
            tool_calls=tuple(self.calls[number].whole(self._index, number) for number in sorted(self.calls)),
            finish_reason=self.finish_reason,
            model=model,
            **said,
        )

    def settle(self, field: str, number: int, before: Sequence[Cover], covers: Sequence[Cover]) -> None:
        """Take what covers a text for what it says."""
        parts = self.calls[number].arguments if field == ARGUMENTS else self.texts[field].parts
        parts[:] = [covered(covered("".join(parts), before), covers)]

    def drop(self, drop: Dropped) -> _Edit | None:
        """Forget the dropped calls; return what that means for the deltas of this choice."""
        index = self._index
        dropped = [number for number in sorted(self.calls) if (index, number) in drop]
        if not dropped:
            return None
        kept = [number for number in sorted(self.calls) if (index, number) not in drop]
        numbers = {number: new for new, number in enumerate(number for number in kept if number >= 0)}
        numbers.update((number, number) for number in kept if number < 0)
        said = "" if kept else next((words for number in dropped if (words := drop[index, number])), "")
        self.calls = {numbers[number]: self.calls[number] for number in kept}
        if not kept:
            self.texts["text"].parts.append(said)
            self.finish_reason = "stop"
        return _Edit(numbers=numbers, said=said)


class _Call:
    """One tool call as it adds up."""

    __slots__ = ("arguments", "clear", "id", "name")

    def __init__(self) -> None:
        self.clear = True
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def add(self, piece: ToolCallDelta) -> None:
        self.id = self.id or piece.id
        # Most vendors send the name once, some with every piece. Of what differs some clients keep the first, some the
        # last, and some join it.
        if piece.name and piece.name != self.name:
            self.clear = not self.name
            self.name += piece.name
        self.arguments.append(piece.arguments)

    def whole(self, choice: int, index: int) -> ToolCall:
        return ToolCall(id=self.id, name=self.name, arguments="".join(self.arguments), index=index, choice=choice)


_Waiting: TypeAlias = tuple[Delta, tuple[tuple[_Text, int], ...], bool, float, int]
"""A delta, how far its texts have to be judged, whether it is held whatever they say, when it came, and its bytes."""


class _Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of one choice: the new numbers of the calls it keeps, and what it says if it keeps none."""

    numbers: Mapping[int, int]
    said: str

    def apply(self, piece: ChoiceDelta, ends: bool) -> ChoiceDelta:
        """Return the piece as it may leave; the one that ends the choice says the safe text."""
        numbers = self.numbers
        calls = tuple(replace(call, index=numbers[call.index]) for call in piece.tool_calls if call.index in numbers)
        if numbers:
            return replace(piece, tool_calls=calls)
        return replace(
            piece,
            tool_calls=calls,
            text=piece.text + self.said if ends else piece.text,
            finish_reason="stop" if ends or piece.finish_reason else "",
        )


def _edited(held: list[Delta], edits: Mapping[int, _Edit]) -> Iterator[Delta]:
    ends = _ends(held)
    for place, delta in enumerate(held):
        pieces = tuple(
            edits[piece.index].apply(piece, ends[piece.index] == place) if piece.index in edits else piece
            for piece in delta.choices
        )
        if pieces == delta.choices:
            yield delta
        elif delta.usage or any(map(_says, pieces)) or any(map(_opens, delta.choices)):
            yield replace(delta, frame=b"", choices=pieces)


def _kept(before: Delta, after: Delta) -> Iterator[Delta]:
    """Yield a delta, unless it was changed and has nothing left to say."""
    if after is before or after.usage or any(map(_says, after.choices)):
        yield after


def _ends(held: list[Delta]) -> dict[int, int]:
    """Return where each choice ends: at its first finish reason, else at its last piece."""
    ends: dict[int, int] = {}
    for place in range(len(held) - 1, -1, -1):
        for piece in held[place].choices:
            if piece.finish_reason or piece.index not in ends:
                ends[piece.index] = place
    return ends


def _open(delta: Delta) -> Delta:
    """Return a delta without the tool calls and the finish reasons that it brings."""
    pieces = tuple(replace(piece, tool_calls=(), finish_reason="") for piece in delta.choices)
    return delta if pieces == delta.choices else replace(delta, frame=b"", choices=pieces)


def _says(piece: ChoiceDelta) -> bool:
    return bool(piece.text or piece.reasoning or piece.refusal or piece.tool_calls or piece.finish_reason)


def _opens(piece: ChoiceDelta) -> bool:
    """Tell whether a piece is more than the next stretch of arguments: it may bring the role as well."""
    return not piece.tool_calls or any(call.id or call.name for call in piece.tool_calls)
