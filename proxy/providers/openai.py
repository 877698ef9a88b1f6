"""Owns the wire format of OpenAI chat completions, as OpenAI and everyone compatible with it serve it.

In: a Request and a Target; reply bytes in any slicing. Out: an UpstreamCall; Deltas whose frames are the provider's own
bytes. Never: an exception because of what a provider sent, or an end that it did not send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from proxy import framing, openai_json
from proxy.errors import NO_RETRY
from proxy.framing import Event, EventDecoder
from proxy.openai_json import Tree
from proxy.ports import Decoder
from proxy.terms import ChoiceDelta, Delta, End, Fault, Headers, ProviderSettings, Request, Secret, Target, UpstreamCall

AGENT = f"handrail/{metadata.version('handrail')}"
DONE = b"[DONE]"
BRACE = b"{"
"""Without one of these, nothing can be read as a reply."""
PLAIN = b"data: \n\n"
"""All that an event is, beside its data, where nothing else stands in it."""
RETRYABLE = frozenset({408, 409, 425, 429})
OUR_KEY = frozenset({401, 403})
DEEP = 500
"""Our parsers read this many levels at least; broken JSON that could be deeper does not pass."""
LONGEST_CODE = 64
"""Most characters of a provider's error code that are taken over: it is kept in records."""
PASSED_HEADERS = ("retry-after", "retry-after-ms", "x-request-id")
PASSED_PREFIX = "x-ratelimit-"


def create(settings: ProviderSettings) -> OpenAI:
    """Return the provider."""
    return OpenAI(settings)


class OpenAI:
    """One configured provider that speaks OpenAI chat completions."""

    dialect = "chat"

    def __init__(self, settings: ProviderSettings) -> None:
        self.name = settings.name
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._key = settings.key
        self._auth = Secret(f"Bearer {settings.key.reveal()}") if settings.key else None
        self._headers = {
            streamed: {
                "content-type": "application/json",
                "accept": "text/event-stream" if streamed else "application/json",
                "user-agent": AGENT,
                **settings.headers,
            }
            for streamed in (False, True)
        }

    def encode(self, request: Request, target: Target) -> UpstreamCall:
        """Return the HTTP call: the client's own bytes, unless the model or something else had to change."""
        body = request.raw
        if not body or target.model != request.model or (request.stream and not request.usage_asked):
            body = openai_json.dump(_with_usage({**request.body, "model": target.model}, request.stream))
        return UpstreamCall(
            method="POST", url=self._url, headers=self._headers[request.stream], body=body, auth=self._auth
        )

    def decoder(self, request: Request, headers: Headers) -> Decoder:
        """Return a decoder for a reply with status 2xx."""
        return _Stream(request.choices) if request.stream else _Whole()

    def error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Return the fault for a reply with another status."""
        passed = {
            name: value for name, value in headers.items() if name in PASSED_HEADERS or name.startswith(PASSED_PREFIX)
        }
        if status in OUR_KEY:
            return Fault(
                status=502,
                type="upstream_error",
                code="provider_auth",
                message=f"The provider did not accept Handrail's credential for it ({status}).",
                headers={**passed, **NO_RETRY},
            )
        # Some servers repeat what was sent to them, the key as well.
        repeats = self._key is not None and self._key.reveal().encode() in body
        return _refused(status, b"" if repeats else body, passed)


def _with_usage(body: Any, streamed: bool) -> Any:
    if streamed:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body


def _refused(status: int, body: bytes, headers: Mapping[str, str]) -> Fault:
    tree = openai_json.parse(body) or {}
    theirs = 400 <= status < 500
    said = _error_in(tree)
    return Fault(
        status=status if theirs or status == 504 else 502,
        type=openai_json.text(said.get("type")) or ("invalid_request_error" if theirs else "upstream_error"),
        code=openai_json.text(said.get("code"))[:LONGEST_CODE] or "upstream_error",
        message=openai_json.text(said.get("message")) or f"The provider answered with status {status}.",
        retryable=status in RETRYABLE or status >= 500,
        headers=headers,
        body=body if said is tree.get("error") else b"",
    )


def _error_in(tree: Tree) -> Tree:
    """Return what a body or an event says went wrong; some vendors leave the `error` around it out."""
    said = tree.get("error")
    return said if type(said) is dict else {"message": said} if said else tree


def _broken(code: str, message: str, *, body: bytes = b"", frame: bytes = b"") -> Fault:
    return Fault(status=502, type="upstream_error", code=code, message=message, retryable=True, body=body, frame=frame)


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
            return [], _broken("stream_cut", "The provider's reply is not complete JSON.")
        if tree.get("error"):
            said = _error_alone(body, tree, "message", openai_json.messages(tree))
            return [], _broken("provider_error", "The provider answered with an error.", body=said)
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
            return [], _broken("event_too_large", "The provider sent an event that is too large to be judged.")
        if (last := self._events.close()) and _readable(last):
            self._read(last, deltas)
        if self._fault:
            return [], self._fault
        if self._done or len(self._finished) >= len(self._asked):
            return deltas, End()
        return [], _broken("stream_cut", "The provider's stream ended before its reply did.")

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
            self._fault = _broken("provider_error", "The provider reported an error mid-reply.", body=said, frame=frame)
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
            self._fault = _broken("event_unreadable", "The provider sent an event that cannot be judged.")
        else:
            deltas.append(Delta(frame=raw, clear=BRACE not in raw))
