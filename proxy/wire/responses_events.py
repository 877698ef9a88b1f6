"""Owns the events of a streamed response: those of our own, and the provider's after something in them was changed.

In: what is said next, or a provider's event and what is left of it. Out: bytes. Never: a word or a call in an event
that repeats what an earlier one said without it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy import openai_json, responses_json
from proxy.openai_json import Tree
from proxy.terms import ChoiceDelta, Delta, ToolCallDelta
from proxy.wire.responses_chat import SEALED

ENDS = frozenset({"response.completed", "response.incomplete"})
_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_SUMMARY = "response.reasoning_summary"


class Item:
    """One item that we say, bit by bit."""

    def __init__(self, number: int, item_id: str, kind: str, fields: Tree) -> None:
        self.number = number
        self.id = item_id
        self.kind = kind
        """`text`, `refusal`, `reasoning` or `call`."""
        self.fields = fields
        self.words = ""
        self.open = True

    def tree(self, blocks: list[Any] | None = None) -> Tree:
        """Return the item as it is by now; `blocks` are what a provider wants back of what its model thought."""
        status = "in_progress" if self.open else "completed"
        made: Tree = {"id": self.id, **self.fields}
        if self.kind == "call":
            return {**made, "status": status, "arguments": self.words}
        if self.kind == "reasoning":
            made["summary"] = [] if self.open else [self.part()]
            if blocks and not self.open:
                made["encrypted_content"] = SEALED + base64.b64encode(msgspec.json.encode(blocks)).decode()
            return made
        return {**made, "status": status, "content": [] if self.open else [self.part()]}

    def part(self, words: str | None = None) -> Tree:
        """Return the part that has the words."""
        said = self.words if words is None else words
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": said}
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": said}
        return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


class Said:
    """What we say in a stream, and what it comes to."""

    def __init__(self, reply_id: str) -> None:
        self._reply_id = reply_id
        self.sequence = 0
        """The number of the next event."""
        self.first = 0
        """The number of the first item of ours."""
        self.items: list[Item] = []
        self.blocks: list[Any] = []
        """What the provider wants back of what its model thought."""
        self._calls: dict[int, Item] = {}

    def event(self, kind: str, **fields: object) -> bytes:
        """Return the bytes of an event."""
        tree = {"type": kind, **fields, "sequence_number": self.sequence}
        self.sequence += 1
        return framed(tree)

    def say(self, piece: ChoiceDelta) -> bytes:
        """Return the events in which is said what a piece brings."""
        spoken = [
            self._speak(kind, words) for kind in ("reasoning", "text", "refusal") if (words := getattr(piece, kind))
        ]
        return b"".join([*spoken, *map(self._call, piece.tool_calls)])

    def _speak(self, kind: str, words: str) -> bytes:
        frame, item = b"", self.items[-1] if self.items else None
        if item is None or not item.open or item.kind != kind:
            fields: Tree = {"type": "reasoning"} if kind == "reasoning" else {"type": "message", "role": "assistant"}
            frame, item = self._opened(kind, fields)
            frame += self._of_part(item, "added", "")
        item.words += words
        more: Tree = {} if kind != "text" else {"logprobs": []}
        return frame + self._of_words(item, "delta", delta=words, **more)

    def _call(self, call: ToolCallDelta) -> bytes:
        frame, item = b"", self._calls.get(call.index)
        if item is None:
            frame, item = self._opened("call", {"type": "function_call", "call_id": call.id, "name": call.name})
            self._calls[call.index] = item
        if not call.arguments:
            return frame
        item.words += call.arguments
        return frame + self._of_words(item, "delta", delta=call.arguments)

    def _opened(self, kind: str, fields: Tree) -> tuple[bytes, Item]:
        """Begin an item; calls may go on side by side, whatever else is open ends."""
        frame = b"".join(self._ended(item) for item in self.items if item.open and item.kind != "call")
        number = self.first + len(self.items)
        item = Item(number, f"{_PREFIX[fields['type']]}_{self._reply_id}_{number}", kind, fields)
        self.items.append(item)
        return frame + self.event("response.output_item.added", output_index=number, item=item.tree()), item

    def _of_words(self, item: Item, what: str, **fields: object) -> bytes:
        names = {
            "text": "response.output_text",
            "refusal": "response.refusal",
            "reasoning": f"{_SUMMARY}_text",
            "call": "response.function_call_arguments",
        }
        return self.event(f"{names[item.kind]}.{what}", **_place(item), **fields)

    def _of_part(self, item: Item, what: str, words: str) -> bytes:
        name = f"{_SUMMARY}_part" if item.kind == "reasoning" else "response.content_part"
        return self.event(f"{name}.{what}", **_place(item), part=item.part(words))

    def _ended(self, item: Item) -> bytes:
        item.open = False
        if item.kind == "call":
            frame = self._of_words(item, "done", arguments=item.words)
        else:
            key = "refusal" if item.kind == "refusal" else "text"
            more: Tree = {} if item.kind != "text" else {"logprobs": []}
            frame = self._of_words(item, "done", **{key: item.words}, **more) + self._of_part(item, "done", item.words)
        tree = item.tree(self.blocks)
        return frame + self.event("response.output_item.done", output_index=item.number, item=tree)

    def close(self) -> bytes:
        """Return the events that end whatever is open."""
        return b"".join([self._ended(item) for item in self.items if item.open])

    def output(self) -> list[Tree]:
        """Return all items."""
        return [item.tree(self.blocks) for item in self.items]


def _place(item: Item) -> dict[str, object]:
    part = {"call": {}, "reasoning": {"summary_index": 0}}.get(item.kind, {"content_index": 0})
    return {"item_id": item.id, "output_index": item.number, **part}


def framed(tree: Mapping[str, Any]) -> bytes:
    """Return the bytes of an event, with its type as its name."""
    return b"event: %b\ndata: %b\n\n" % (str(tree.get("type")).encode(), openai_json.dump(tree))


# --- the provider's events ------------------------------------------------------------------------------------------

_SPOKEN = {
    "response.output_text": ("text", "text", "content_index"),
    "response.refusal": ("refusal", "refusal", "content_index"),
    "response.reasoning_text": ("content", "text", "content_index"),
    "response.reasoning_summary_text": ("summary", "text", "summary_index"),
    "response.function_call_arguments": ("arguments", "arguments", ""),
    "response.custom_tool_call_input": ("arguments", "input", ""),
}
"""Events about words: which text of an item, where `done` has all of it, and what numbers its part."""
_PARTS: Mapping[str, tuple[str, Tree]] = {
    "text": ("content", {"type": "output_text", "annotations": [], "logprobs": []}),
    "refusal": ("content", {"type": "refusal"}),
    "content": ("content", {"type": "reasoning_text"}),
    "summary": ("summary", {"type": "summary_text"}),
}
"""Where the parts of a text stand, and what they are beside it."""
_NOUN = {"text": "text", "refusal": "refusal", "content": "reasoning", "summary": "reasoning"}


class Followed:
    """A provider's stream as it leaves: each event with what is left of it, and of what it repeats."""

    def __init__(self) -> None:
        self.response: Tree = {}
        """As it was last told."""
        self.items: dict[int, Tree] = {}
        """The items whose beginning has left, as that said."""
        self.sequence = -1
        """The number of the newest event."""
        self._open: set[int] = set()
        self._calls: set[int] = set()
        self._said: dict[tuple[int, str, int], str] = {}

    def event(self, delta: Delta) -> Tree | None:
        """Return what of an event may leave; None: nothing of it."""
        tree: Tree = delta.tree or {}
        kind, now = openai_json.text(tree.get("type")), next(iter(delta.choices), ChoiceDelta())
        self.sequence = max(self.sequence, _number(tree.get("sequence_number")))
        if type(response := tree.get("response")) is dict:
            self.response = response
        about, _, what = kind.rpartition(".")
        self._calls.update(call.position for call in now.tool_calls)
        if about in _SPOKEN:
            return self._of_words(tree, about, what, now)
        number = _number(tree.get("output_index"))
        if about in ("response.content_part", f"{_SUMMARY}_part"):
            return self._of_part(tree, number, about, now)
        if about == "response.output_item":
            return self._of_item(tree, number, what, now)
        if kind in ENDS:
            for call in now.tool_calls:
                self._said[call.position, "arguments", 0] = (
                    self._said.get((call.position, "arguments", 0), "") + call.arguments
                )
            return {**tree, "response": {**self.response, "output": self._output(self.response.get("output"))}}
        return tree

    def _of_words(self, tree: Tree, about: str, what: str, now: ChoiceDelta) -> Tree | None:
        field, key, part = _SPOKEN[about]
        number = _number(tree.get("output_index"))
        place = (number, field, _number(tree.get(part)) if part else 0)
        if field == "arguments":
            if number not in self._calls:
                return None
            words = "".join(call.arguments for call in now.tool_calls)
        else:
            words = str(getattr(now, _NOUN[field]))
        self._said[place] = self._said.get(place, "") + words
        if what == "done":
            return {**tree, key: self._said[place]}
        return {**tree, "delta": words} if words else None

    def _of_part(self, tree: Tree, number: int, about: str, now: ChoiceDelta) -> Tree:
        part = tree.get("part")
        if type(part) is not dict:
            return tree
        field = "summary" if about != "response.content_part" else ""
        place = _number(tree.get("summary_index" if field else "content_index"))
        self._take(number, place, now, {"reasoning": field} if field else {"text": "text", "refusal": "refusal"})
        return {**tree, "part": self._part(part, number, field, place)}

    def _of_item(self, tree: Tree, number: int, what: str, now: ChoiceDelta) -> Tree | None:
        item = tree.get("item")
        if type(item) is not dict:
            return tree
        if responses_json.is_call(item):
            if number not in self._calls:
                return None
            place = (number, "arguments", 0)
            self._said[place] = self._said.get(place, "") + "".join(call.arguments for call in now.tool_calls)
        else:
            # What only the item says stands where that kind of text first stands in it.
            thought = "summary" if item.get("summary") else "content"
            self._take(number, 0, now, {"text": "text", "refusal": "refusal", "reasoning": thought})
        (self._open.add if what == "added" else self._open.discard)(number)
        self.items[number] = item
        return {**tree, "item": self.item(number, item)}

    def _take(self, number: int, place: int, now: ChoiceDelta, fields: Mapping[str, str]) -> None:
        """Take what an event says of a part, or of an item, that no event before has said."""
        for noun, field in fields.items():
            if words := str(getattr(now, noun)):
                self._said[number, field, place] = self._said.get((number, field, place), "") + words

    def item(self, number: int, item: Tree) -> Tree:
        """Return an item with what was said of it."""
        if responses_json.is_call(item):
            key = responses_json.ARGUMENTS.get(openai_json.text(item.get("type")))
            said = self._said.get((number, "arguments", 0), "")
            return {**item, key: said} if key else item
        if item.get("type") not in ("message", "reasoning"):
            return item
        changed = dict(item)
        for field in ("content", "summary"):
            if type(item.get(field)) is list:
                kind = "" if item["type"] == "message" else field
                changed[field] = [
                    self._part(part, number, kind, place) if type(part) is dict else part
                    for place, part in enumerate(item[field])
                ]
        return changed

    def _part(self, part: Tree, number: int, field: str, place: int) -> Tree:
        """Return a part with what was said of it; what tells of words by their place goes where these are others."""
        key = "refusal" if "refusal" in part else "text"
        if key not in part:
            return part
        said = self._said.get((number, field or key, place), "")
        if said == part[key]:
            return part
        return {name: [] if name in ("annotations", "logprobs") else value for name, value in part.items()} | {
            key: said
        }

    def _output(self, output: Any) -> Any:
        if type(output) is not list:
            return output
        kept = []
        for number, item in enumerate(output):
            if type(item) is dict and responses_json.is_call(item) and number not in self._calls:
                continue
            kept.append(self.item(number, item) if type(item) is dict else item)
        return kept

    def end(self) -> list[tuple[int, Tree]]:
        """End the items that have begun and not ended; return each as far as it was said."""
        for number in sorted(self._open):
            item = {**self.items[number], "status": "incomplete"}
            for field, place in sorted((field, place) for n, field, place in self._said if n == number):
                if field in _PARTS:
                    holder, part = _PARTS[field]
                    item[holder] = [*(item.get(holder) or ())[:place], {**part, _key(field): ""}]
            self.items[number] = self.item(number, item)
        ended = [(number, self.items[number]) for number in sorted(self._open)]
        self._open.clear()
        return ended


def _key(field: str) -> str:
    return "refusal" if field == "refusal" else "text"


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
