"""Owns replies of OpenAI's Responses API on the wire.

In: a request in that dialect; reply bytes in any slicing. Out: the bytes to send; Deltas with the provider's own bytes,
and how the reply ended. Never: an exception because of what a provider sent; words that an event only repeats are not
said twice, and words that no event before has said are not overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from proxy import openai_json, responses_json
from proxy.framing import Event, EventDecoder
from proxy.openai_json import Tree
from proxy.ports import Decoder
from proxy.provider_errors import broken
from proxy.terms import ChoiceDelta, Delta, End, Fault, Request, ToolCallDelta

PATH = "/responses"
SILENT = (
    "keepalive",
    "response.code_interpreter_call",
    "response.file_search_call.",
    "response.image_generation_call.",
    "response.mcp_call",
    "response.mcp_list_tools.",
    "response.output_text.annotation.",
    "response.audio.d",
    "response.web_search_call.",
)
"""How events begin that tell of what the provider itself does: nothing that the agent acts on, or says to anybody."""
_OF_EVENT = frozenset(
    {"type", "delta", "text", "refusal", "transcript", "arguments", "input", "item", "part", "response", "error"}
    | {"output_index", "content_index", "summary_index", "sequence_number", "item_id", "message", "code"}
)
_OF_ITEM = frozenset({"type", "id", "call_id", "name", "arguments", "input", "content", "summary", "role", "status"})
_OF_RESPONSE = frozenset({"id", "object", "status", "output", "error", "incomplete_details", "usage", "model"})


def body(request: Request, model: str) -> bytes:
    """Return the client's own bytes, unless the model or something else had to change."""
    if request.raw and model == request.model:
        return request.raw
    return openai_json.dump({**request.body, "model": model})


def decoder(request: Request) -> Decoder:
    """Return a decoder for the reply to this request."""
    return _Stream() if request.stream else _Whole()


class _Place(NamedTuple):
    """Where words stand in the output."""

    item: int
    field: str
    part: int = 0


class _Output:
    """The output of a response as it adds up: what is new in whatever is said of it."""

    def __init__(self) -> None:
        self._said: dict[_Place, str] = {}
        self._calls: dict[int, tuple[str, str]] = {}
        self.clear = True
        """Nothing that was said later contradicts what was said before."""

    @property
    def called(self) -> bool:
        """Whether it has a call for the agent."""
        return bool(self._calls)

    def more(self, place: _Place, words: str) -> str:
        """Take the next words of a text, and return them."""
        self._said[place] = self._said.get(place, "") + words
        return words

    def whole(self, place: _Place, text: str) -> str:
        """Take a text as it is said to be as a whole; return what of it is new."""
        known = self._said.get(place, "")
        if not text.startswith(known):
            self.clear = False
            return ""
        self._said[place] = text
        return text[len(known) :]

    def item(self, number: int, item: Tree) -> Iterator[ChoiceDelta]:
        """Yield what is new in an item."""
        if responses_json.is_call(item):
            yield from self._call(number, item)
        elif item.get("type") == "message":
            yield from self._parts(number, item.get("content"))
        elif item.get("type") == "reasoning":
            for field in ("summary", "content"):
                for place, part in enumerate(responses_json.objects(item.get(field))):
                    if new := self.whole(_Place(number, field, place), openai_json.text(part.get("text"))):
                        yield ChoiceDelta(reasoning=new)

    def _parts(self, number: int, content: Any) -> Iterator[ChoiceDelta]:
        for place, part in enumerate(responses_json.objects(content)):
            if new := self.whole(_Place(number, "text", place), part_text(part)):
                yield ChoiceDelta(text=new)
            if new := self.whole(_Place(number, "refusal", place), openai_json.text(part.get("refusal"))):
                yield ChoiceDelta(refusal=new)

    def _call(self, number: int, item: Tree) -> Iterator[ChoiceDelta]:
        named = responses_json.call_id(item), responses_json.name(item)
        begun = self._calls.setdefault(number, named)
        self.clear = self.clear and begun == named
        first = number not in self._said_of_calls()
        new = self.whole(_Place(number, "arguments"), responses_json.arguments(item))
        if first or new:
            head = named if first else ("", "")
            yield self.argued(number, new, *head)

    def _said_of_calls(self) -> set[int]:
        return {place.item for place in self._said if place.field == "arguments"}

    def argued(self, number: int, words: str, call_id: str = "", name: str = "") -> ChoiceDelta:
        """Return a piece of the call that is the item of this number."""
        self._calls.setdefault(number, ("", ""))
        place = list(self._calls).index(number)
        call = ToolCallDelta(index=place, id=call_id, name=name, arguments=words, position=number)
        return ChoiceDelta(tool_calls=(call,))


def part_text(part: Tree) -> str:
    """Return what a part of a message says, in writing or aloud."""
    return openai_json.text(part.get("text")) + openai_json.text(part.get("transcript"))


def together(pieces: list[ChoiceDelta], finish_reason: str = "") -> tuple[ChoiceDelta, ...]:
    """Return what one event says as one piece."""
    if not pieces and not finish_reason:
        return ()
    said = {field: "".join(getattr(piece, field) for piece in pieces) for field in ("text", "reasoning", "refusal")}
    calls = tuple(call for piece in pieces for call in piece.tool_calls)
    return (replace(ChoiceDelta(tool_calls=calls, finish_reason=finish_reason), **said),)


def _object(value: Any) -> Tree:
    return value if type(value) is dict else {}


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _failed(tree: Tree) -> tuple[str, str]:
    """Return the message and the code of what went wrong."""
    said = _object(tree.get("error")) or tree
    message = openai_json.text(said.get("message")) or "The provider reported an error."
    return message, openai_json.text(said.get("code")) or openai_json.text(said.get("type"))


# --- unstreamed -----------------------------------------------------------------------------------------------------


class _Whole:
    """Collects an unstreamed response, which is one delta."""

    over = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[Delta]:
        self._pieces.append(data)
        return []

    def close(self) -> tuple[list[Delta], End | Fault]:
        body = b"".join(self._pieces)
        tree = openai_json.parse(body)
        if tree is None:
            return [], broken("stream_cut", "The provider's reply is not complete JSON.")
        if tree.get("error"):
            message, code = _failed(tree)
            said = openai_json.error_object(message, "upstream_error", code or "provider_error")
            return [], broken("provider_error", "The provider answered with an error.", body=said)
        output = _Output()
        pieces = [piece for n, item in enumerate(_items(tree)) for piece in output.item(n, item)]
        delta = Delta(
            frame=body,
            tree=tree,
            choices=together(pieces, responses_json.finish_reason(tree, output.called)),
            usage=responses_json.usage(tree),
            model=openai_json.text(tree.get("model")),
            reply_id=openai_json.text(tree.get("id")),
            clear=openai_json.sure(body, tree) and _spelt_response(tree),
        )
        return [delta], End()


def _items(tree: Tree) -> list[Tree]:
    """Return the items of a response's output; what is none has its number all the same."""
    output = tree.get("output")
    return [_object(item) for item in output] if type(output) is list else []


def _spelt_response(tree: Tree) -> bool:
    return openai_json.spelt(tree, _OF_RESPONSE) and all(openai_json.spelt(item, _OF_ITEM) for item in _items(tree))


# --- streamed -------------------------------------------------------------------------------------------------------


class _Stream:
    """Reads a streamed response event by event."""

    def __init__(self) -> None:
        self._events = EventDecoder()
        self._output = _Output()
        self._done = False
        self._fault: Fault | None = None

    @property
    def over(self) -> bool:
        return self._fault is not None or self._events.overflowed

    def feed(self, data: bytes) -> list[Delta]:
        return [delta for event in self._events.feed(data) for delta in self._read(event)]

    def close(self) -> tuple[list[Delta], End | Fault]:
        if self._events.overflowed:
            return [], broken("event_too_large", "The provider sent an event that is too large to be judged.")
        last = self._events.close()
        deltas = self._read(last) if last and last.data and openai_json.parse(last.data) is not None else []
        if self._fault:
            return [], self._fault
        if self._done:
            return deltas, End()
        return [], broken("stream_cut", "The provider's stream ended before its reply did.")

    def _read(self, event: Event) -> list[Delta]:
        if self._fault:
            return []
        tree = openai_json.parse(event.data) if event.data is not None else None
        if tree is None:
            return [Delta(frame=event.raw, clear=b"{" not in event.raw)]
        kind = openai_json.text(tree.get("type"))
        if kind in ("error", "response.failed") or (not kind and tree.get("error")):
            message, code = _failed(_object(tree.get("response")) or tree)
            said = openai_json.error_object(message, "upstream_error", code or "provider_error")
            self._fault = broken("provider_error", message, body=said, frame=event.raw)
            return []
        response = _object(tree.get("response"))
        pieces = list(READ.get(kind, _nothing)(self._output, tree))
        ended = kind in ENDS
        self._done = self._done or ended
        finish = responses_json.finish_reason(response, self._output.called) if ended else ""
        known = kind in READ or kind.startswith(SILENT)
        return [
            Delta(
                frame=event.raw,
                tree=tree,
                choices=together(pieces, finish),
                usage=responses_json.usage(response) if ended else None,
                model=openai_json.text(response.get("model")),
                reply_id=openai_json.text(response.get("id")),
                final=ended,
                clear=known and self._clear(event, tree, kind),
            )
        ]

    def _clear(self, event: Event, tree: Tree, kind: str) -> bool:
        """Tell whether every client reads the same: also one that goes by the event's name."""
        return (
            self._output.clear
            and event.type in ("message", kind)
            and openai_json.sure(event.data or b"", tree)
            and openai_json.spelt(tree, _OF_EVENT)
            and openai_json.spelt(_object(tree.get("item")), _OF_ITEM)
            and _spelt_response(_object(tree.get("response")))
        )


_Reader = Callable[[_Output, Tree], Iterator[ChoiceDelta]]
ENDS = frozenset({"response.completed", "response.incomplete"})


def _nothing(_: _Output, __: Tree) -> Iterator[ChoiceDelta]:
    return iter(())


def _more(field: str, said: str, part: str, key: str = "delta") -> _Reader:
    """Return the reader of an event that brings the next words of a text."""

    def read(output: _Output, tree: Tree) -> Iterator[ChoiceDelta]:
        place = _Place(_number(tree.get("output_index")), field, _number(tree.get(part)))
        words = openai_json.text(tree.get(key))
        new = output.more(place, words) if key == "delta" else output.whole(place, words)
        if new:
            yield replace(ChoiceDelta(), **{said: new})

    return read


def _argued(key: str) -> _Reader:
    """Return the reader of an event that brings more of a call's arguments."""

    def read(output: _Output, tree: Tree) -> Iterator[ChoiceDelta]:
        number, words = _number(tree.get("output_index")), openai_json.text(tree.get(key))
        place = _Place(number, "arguments")
        if new := output.more(place, words) if key == "delta" else output.whole(place, words):
            yield output.argued(number, new)

    return read


def _of_item(output: _Output, tree: Tree) -> Iterator[ChoiceDelta]:
    return output.item(_number(tree.get("output_index")), _object(tree.get("item")))


def _of_part(output: _Output, tree: Tree) -> Iterator[ChoiceDelta]:
    """Read an event about one part of a message."""
    number, place, part = (
        _number(tree.get("output_index")),
        _number(tree.get("content_index")),
        _object(tree.get("part")),
    )
    if new := output.whole(_Place(number, "text", place), part_text(part)):
        yield ChoiceDelta(text=new)
    if new := output.whole(_Place(number, "refusal", place), openai_json.text(part.get("refusal"))):
        yield ChoiceDelta(refusal=new)


def _of_summary(output: _Output, tree: Tree) -> Iterator[ChoiceDelta]:
    """Read an event about one part of a reasoning's summary."""
    place = _Place(_number(tree.get("output_index")), "summary", _number(tree.get("summary_index")))
    if new := output.whole(place, openai_json.text(_object(tree.get("part")).get("text"))):
        yield ChoiceDelta(reasoning=new)


def _of_response(output: _Output, tree: Tree) -> Iterator[ChoiceDelta]:
    for number, item in enumerate(_items(_object(tree.get("response")))):
        yield from output.item(number, item)


READ: Mapping[str, _Reader] = {
    "response.created": _of_response,
    "response.queued": _of_response,
    "response.in_progress": _of_response,
    "response.completed": _of_response,
    "response.incomplete": _of_response,
    "response.output_item.added": _of_item,
    "response.output_item.done": _of_item,
    "response.content_part.added": _of_part,
    "response.content_part.done": _of_part,
    "response.output_text.delta": _more("text", "text", "content_index"),
    "response.output_text.done": _more("text", "text", "content_index", "text"),
    "response.audio.transcript.delta": _more("audio", "text", "content_index"),
    "response.audio.transcript.done": _nothing,
    "response.refusal.delta": _more("refusal", "refusal", "content_index"),
    "response.refusal.done": _more("refusal", "refusal", "content_index", "refusal"),
    "response.reasoning_text.delta": _more("content", "reasoning", "content_index"),
    "response.reasoning_text.done": _more("content", "reasoning", "content_index", "text"),
    "response.reasoning_summary_text.delta": _more("summary", "reasoning", "summary_index"),
    "response.reasoning_summary_text.done": _more("summary", "reasoning", "summary_index", "text"),
    "response.reasoning_summary_part.added": _of_summary,
    "response.reasoning_summary_part.done": _of_summary,
    "response.function_call_arguments.delta": _argued("delta"),
    "response.function_call_arguments.done": _argued("arguments"),
    "response.custom_tool_call_input.delta": _argued("delta"),
    "response.custom_tool_call_input.done": _argued("input"),
}
"""What each event says."""
