"""Owns the window between provider and client: which deltas may leave now, and what the held ones become.

In: deltas. Out: deltas that may leave, and the replies they add up to. Never: bytes of its own; a delta that was
changed has no frame, and `wire` encodes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import replace

from proxy.terms import ChoiceDelta, Delta, Reply, ToolCall, ToolCallDelta

Dropped = Mapping[tuple[int, int], str]
"""(choice, index) of the tool calls that are not allowed -> the safe text to say where no call is left."""


class Gate:
    """Lets text pass at once, unless `hold`; from the first piece of a tool call on, or of what clients may read in
    different ways, it holds everything, so that a call leaves complete and judged, or not at all."""

    def __init__(self, hold: bool = False) -> None:
        self._holding = hold
        self._held: list[Delta] = []
        self._choices: dict[int, _Choice] = {}
        self._model = ""
        self._clear = True
        self.held_bytes = 0
        """How much waits, and must be kept until the end."""

    def feed(self, delta: Delta) -> list[Delta]:
        """Take one delta and return those that may leave now."""
        for piece in delta.choices:
            choice = self._choices.get(piece.index)
            if choice is None:
                choice = self._choices[piece.index] = _Choice()
            choice.add(piece)
            if piece.tool_calls:
                self._holding = True
        if not delta.clear:
            self._holding, self._clear = True, False
        if delta.model and not self._model:
            self._model = delta.model
        if not self._holding:
            return [delta]
        self._held.append(delta)
        self.held_bytes += len(delta.frame)
        return []

    @property
    def clear(self) -> bool:
        """Whether every client puts together the same calls from what was fed."""
        return self._clear and all(call.clear for choice in self._choices.values() for call in choice.calls.values())

    def replies(self) -> tuple[Reply, ...]:
        """Return the choices as they stand; after `release`, as the client got them."""
        return tuple(self._choices[index].reply(index, self._model) for index in sorted(self._choices))

    def release(
        self,
        drop: Dropped | None = None,
        says: Mapping[int, str] | None = None,
        arguments: Mapping[tuple[int, int], str] | None = None,
    ) -> list[Delta]:
        """Return what is held without the dropped calls: the others are numbered from 0, and a choice that has none
        left says the safe text of its first dropped call and ends with `stop`. `says` has the whole text of choices
        that say something else than was held, `arguments` those of calls. Deltas that are not concerned keep their
        frames."""
        held, self._held = self._held, []
        if arguments:
            for (index, number), text in arguments.items():
                self._choices[index].calls[number].arguments = [text]
            held = list(_argued(held, dict(arguments)))
        edits = {index: edit for index, choice in self._choices.items() if (edit := choice.drop(index, drop or {}))}
        if edits:
            held = list(_edited(held, edits))
        if says:
            for index, text in says.items():
                self._choices[index].text = [text]
            held = list(_said(held, dict(says)))
        return held


class _Choice:
    """One choice as it adds up."""

    __slots__ = ("calls", "finish_reason", "reasoning", "refusal", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.finish_reason = ""

    def add(self, piece: ChoiceDelta) -> None:
        if piece.text:
            self.text.append(piece.text)
        if piece.reasoning:
            self.reasoning.append(piece.reasoning)
        if piece.refusal:
            self.refusal.append(piece.refusal)
        for call in piece.tool_calls:
            self.calls.setdefault(call.index, _Call()).add(call)
        if piece.finish_reason:
            self.finish_reason = piece.finish_reason

    def reply(self, index: int, model: str) -> Reply:
        return Reply(
            choice=index,
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            refusal="".join(self.refusal),
            tool_calls=tuple(self.calls[number].whole(index, number) for number in sorted(self.calls)),
            finish_reason=self.finish_reason,
            model=model,
        )

    def drop(self, index: int, drop: Dropped) -> _Edit | None:
        """Forget the dropped calls; return what that means for the deltas of this choice."""
        dropped = [number for number in sorted(self.calls) if (index, number) in drop]
        if not dropped:
            return None
        kept = [number for number in sorted(self.calls) if (index, number) not in drop]
        numbers = {number: new for new, number in enumerate(number for number in kept if number >= 0)}
        numbers.update((number, number) for number in kept if number < 0)
        said = "" if kept else next((words for number in dropped if (words := drop[index, number])), "")
        self.calls = {numbers[number]: self.calls[number] for number in kept}
        if not kept:
            self.text.append(said)
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


def _said(held: list[Delta], says: dict[int, str]) -> Iterator[Delta]:
    """Say each choice's text where its first words stood, and none of the other words."""
    concerned = frozenset(says)
    for delta in held:
        pieces = tuple(
            replace(piece, text=says.pop(piece.index, "")) if piece.index in concerned and piece.text else piece
            for piece in delta.choices
        )
        if pieces == delta.choices:
            yield delta
        elif delta.usage or any(map(_says, pieces)):
            yield replace(delta, frame=b"", choices=pieces)


def _argued(held: list[Delta], arguments: dict[tuple[int, int], str]) -> Iterator[Delta]:
    """Say each call's arguments where the first of them stood, and none of the others."""
    concerned = frozenset(arguments)
    for delta in held:
        pieces = tuple(
            replace(
                piece,
                tool_calls=tuple(
                    replace(call, arguments=arguments.pop((piece.index, call.index), ""))
                    if call.arguments and (piece.index, call.index) in concerned
                    else call
                    for call in piece.tool_calls
                ),
            )
            for piece in delta.choices
        )
        yield delta if pieces == delta.choices else replace(delta, frame=b"", choices=pieces)


def _ends(held: list[Delta]) -> dict[int, int]:
    """Return where each choice ends: at its first finish reason, else at its last piece."""
    ends: dict[int, int] = {}
    for place in range(len(held) - 1, -1, -1):
        for piece in held[place].choices:
            if piece.finish_reason or piece.index not in ends:
                ends[piece.index] = place
    return ends


def _says(piece: ChoiceDelta) -> bool:
    return bool(piece.text or piece.reasoning or piece.refusal or piece.tool_calls or piece.finish_reason)


def _opens(piece: ChoiceDelta) -> bool:
    """Tell whether a piece is more than the next stretch of arguments: it may bring the role as well."""
    return not piece.tool_calls or any(call.id or call.name for call in piece.tool_calls)
