"""Owns the nouns of what goes to a provider and what comes of it."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.terms.calls import ToolCall
from proxy.terms.money import Usage
from proxy.terms.values import Headers, Json, Secret


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one configured provider is reached."""

    name: str
    base_url: str
    key: Secret | None = None
    headers: Headers = {}
    """Extra headers, sent with every call."""
    options: Any = None
    """What only this dialect has: the `Options` of its file; None where that has none."""
    drop: bool = False
    """Leave out, by name, what the provider cannot express; else it is refused."""


class UpstreamCall(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request to a provider. The credential stays in a Secret until the socket."""

    method: str
    url: str
    headers: Headers
    body: bytes
    auth_header: str = "authorization"
    auth: Secret | None = None
    """Full header value, e.g. `Bearer …`."""
    dropped: tuple[str, ...] = ()
    """Fields of the request that the provider cannot express, and that were left out."""


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call: `id` and `name` come once, `arguments` in any number of pieces."""

    index: int
    """Which call of the choice; -1 is the one legacy `function_call`, which has no number."""
    id: str = ""
    name: str = ""
    arguments: str = ""
    position: int = 0
    """Its place in this event's own list, by which `wire` finds it again in the tree."""


class ChoiceDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What one event adds to one choice."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Start of a reply: HTTP status and headers."""

    status: int
    headers: Headers = {}


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a reply (an unstreamed reply is one event). `frame` is its bytes as they will leave;
    empty `frame` means it was changed and `wire` encodes it anew from `tree` and `choices`."""

    frame: bytes
    tree: dict[str, Json] | None = None
    choices: tuple[ChoiceDelta, ...] = ()
    usage: Usage | None = None
    usage_only: bool = False
    """The event carries usage and nothing else: hidden from a client that did not ask for it."""
    model: str = ""
    reply_id: str = ""
    """The provider's own name of the reply, where a later call may go on from it by that."""
    final: bool = False
    """The provider's own end marker (`[DONE]`)."""
    clear: bool = True
    """Every client reads in it what we do. What is not clear may leave only where no rule judges replies."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The reply ended as its protocol says."""

    frame: bytes = b""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The reply failed. Before any Delta another target may be tried if `retryable`; after one, it is the end."""

    status: int
    type: str
    code: str
    message: str
    retryable: bool = False
    headers: Headers = {}
    """Headers to pass on, such as `retry-after`."""
    body: bytes = b""
    """The provider's own error body, passed on unchanged where it is an OpenAI error object."""
    frame: bytes = b""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of a reply put together from its deltas, as policy sees it."""

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    model: str = ""
