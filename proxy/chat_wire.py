"""Owns chat completions on the wire, as OpenAI and everyone compatible with it speak them.

In: a chat request; reply bytes in any slicing. Out: the bytes to send, the client's own where nothing had to change;
Deltas with the provider's own bytes, and how the reply ended. Never: an exception because of what a provider
sent, or an end that it did not send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from proxy import framing, openai_json
from proxy.framing import Event, EventDecoder
from proxy.openai_json import Tree
from proxy.ports import Decoder
from proxy.provider_errors import broken
from proxy.terms import ChoiceDelta, Delta, End, Fault, Headers, Request

AGENT = f"handrail/{metadata.version('handrail')}"
PATH = "/chat/completions"
DONE = b"[DONE]"
BRACE = b"{"
"""Without one of these, nothing can be read as a reply."""
PLAIN = b"data: \n\n"
"""All that an event is, beside its data, where nothing else stands in it."""
DEEP = 500
"""Our parsers read this many levels at least; broken JSON that could be deeper does not pass."""


def headers(more: Headers) -> Mapping[bool, Headers]:
    """Return the headers to send, by whether the reply is to be streamed."""
    accepted = {False: "application/json", True: "text/event-stream"}
    return {
        streamed: {"content-type": "application/json", "accept": kind, "user-agent": AGENT, **more}
        for streamed, kind in accepted.items()
    }


def body(request: Request, model: str) -> bytes:
    """Return the client's own bytes, unless the model or something else had to change; a stream always says usage."""
    if request.raw and model == request.model and (request.usage_asked or not request.stream):
        return request.raw
    tree: dict[str, Any] = {**request.body, "model": model}
    if request.stream:
        tree["stream_options"] = {**(tree.get("stream_options") or {}), "include_usage": True}
    return openai_json.dump(tree)


def decoder(request: Request) -> Decoder:
    """Return a decoder for the reply to this request."""
    return _Stream(request.choices) if request.stream else _Whole()


def _error_alone(data: bytes, tree: Tree, key: str, beside: Sequence[ChoiceDelta]) -> bytes:
    """Return an error as it came, unless there is a reply beside it, which nobody would judge."""
    says = any(piece.text or piece.reasoning or piece.refusal or piece.tool_calls for piece in beside)
    if says or not openai_json.clear(data, tree, key):
        return openai_json.dump({"error": tree["error"]})
    return data


class _Whole:
    """Collects an unstreamed reply, which is one delta."""

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
            said = _error_alone(body, tree, "message", openai_json.messages(tree))
            return [], broken("provider_error", "The provider answered with an error.", body=said)
        delta = Delta(
            frame=body,
            tree=tree,
            choices=openai_json.messages(tree),
            usage=openai_json.usage(tree),
            model=openai_json.text(tree.get("model")),
            clear=openai_json.clear(body, tree, "message"),
        )
        return [delta], End()


def _readable(last: Event) -> bool:
    """Tell an event that only lacks its blank line from half of one."""
    return last.data is not None and (last.data.startswith(DONE) or openai_json.parse(last.data) is not None)


class _Stream:
    """Reads a streamed reply event by event."""

    def __init__(self, choices: int) -> None:
        self._events = EventDecoder()
        self._numbers = openai_json.CallNumbers()
        self._asked = frozenset(range(choices))
        self._finished: set[int] = set()
        self._done = False
        self._fault: Fault | None = None

    @property
    def over(self) -> bool:
        return self._fault is not None or self._events.overflowed

    def feed(self, data: bytes) -> list[Delta]:
        deltas: list[Delta] = []
        for event in self._events.feed(data):
            self._read(event, deltas)
        return deltas

    def close(self) -> tuple[list[Delta], End | Fault]:
        deltas: list[Delta] = []
        if self._events.overflowed:
            return [], broken("event_too_large", "The provider sent an event that is too large to be judged.")
        if (last := self._events.close()) and _readable(last):
            self._read(last, deltas)
        if self._fault:
            return [], self._fault
        if self._done or len(self._finished) >= len(self._asked):
            return deltas, End()
        return [], broken("stream_cut", "The provider's stream ended before its reply did.")

    def _read(self, event: Event, deltas: list[Delta]) -> None:
        if self._fault:
            return
        data = event.data
        if data is None:
            deltas.append(Delta(frame=event.raw, clear=BRACE not in event.raw))
        elif data.startswith(DONE):
            self._done = True
            deltas.append(Delta(frame=event.raw, final=True, clear=BRACE not in event.raw))
        else:
            self._chunk(event.raw, data, deltas)

    def _chunk(self, raw: bytes, data: bytes, deltas: list[Delta]) -> None:
        tree = openai_json.parse(data)
        if tree is None:
            self._unreadable(raw, deltas)
            return
        choices = openai_json.deltas(tree, self._numbers)
        if tree.get("error"):
            said = _error_alone(data, tree, "delta", choices)
            frame = raw if said is data else framing.encode(said)
            self._fault = broken("provider_error", "The provider reported an error mid-reply.", body=said, frame=frame)
            return
        usage = openai_json.usage(tree)
        for choice in choices:
            if choice.finish_reason:
                self._finished.add(choice.index)
        model = tree.get("model")
        deltas.append(
            Delta(
                frame=raw,
                tree=tree,
                choices=choices,
                usage=usage,
                usage_only=usage is not None and not choices,
                model=model if type(model) is str else "",
                clear=self._clear(raw, data, tree, choices),
            )
        )

    def _clear(self, raw: bytes, data: bytes, tree: Tree, choices: Sequence[ChoiceDelta]) -> bool:
        """Tell whether every client reads the same: also one that goes by lines, trims them, or minds no numbers."""
        places = {choice.index for choice in choices}
        if len(places) < len(choices) or not places <= self._asked:
            return False
        if len(raw) > len(data) + len(PLAIN) and raw.count(BRACE) > data.count(BRACE):
            return False
        lines = data.splitlines() if b"\n" in data else ()
        return not any(map(openai_json.parse, lines)) and openai_json.clear(data, tree, "delta")

    def _unreadable(self, raw: bytes, deltas: list[Delta]) -> None:
        """Pass what is not JSON as it is, though not as clear: a client may be more lenient than any that we know."""
        if raw.count(b"[") + raw.count(b"{") > DEEP:
            self._fault = broken("event_unreadable", "The provider sent an event that cannot be judged.")
        else:
            deltas.append(Delta(frame=raw, clear=BRACE not in raw))
