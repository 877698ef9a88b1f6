"""Owns the nouns of a call: who asks, what, and in which conversation."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.terms.values import Headers, Json, Level


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as the street door hands it in: body read whole and within limits, nothing decoded."""

    method: str
    path: str
    headers: Headers
    body: bytes
    peer: str
    endpoint: str = ""
    """Its name in the route table."""
    uid: int | None = None
    """The user at the other end of a Unix socket, as the kernel says; None on any other connection."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling. `agent` and `level` come from config; `principal` is what authentication proved."""

    agent: str
    level: Level
    principal: str
    tenant: str = ""
    claims: Mapping[str, str] = {}
    """What config says of whom was proven, such as `tier` and `roles` (separated by commas)."""
    models: tuple[str, ...] = ()
    """The names that it may ask for; empty: all."""


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the request offers to the model; `schema` is its JSON Schema for arguments, as sent."""

    name: str
    schema: Json = None
    description: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool by the model; `arguments` is the raw JSON text, exactly as received."""

    id: str
    name: str
    arguments: str
    index: int = 0
    choice: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the history; `text` joins all its text parts with newlines."""

    role: str
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    media: tuple[str, ...] = ()
    """Kinds of the parts that are not text, e.g. `image_url`, `input_audio`, `file`."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded model call: a typed lens over `body`, which is the whole JSON tree and exactly what `raw` says."""

    dialect: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    stream: bool = False
    usage_asked: bool = False
    """The client itself asked for usage in the stream."""
    max_output_tokens: int | None = None
    choices: int = 1
    temperature: float | None = None
    structured: bool = False
    """The client asked for JSON by schema or JSON mode."""
    metadata: Mapping[str, str] = {}
    user: str = ""
    previous: str = ""
    """The provider's name of the reply that it goes on from, whose history it does not bring along."""
    body: dict[str, Json]
    raw: bytes
    """The client's own bytes; empty as soon as anything in `body` was changed, so they can never be sent by mistake."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation that a call belongs to."""

    id: str
    turn: int = 1
    """1 for the first call of the conversation."""
    link: str = "new"
    """How it was found: `header`, `metadata`, `previous` (a reply that the call names), `prefix` (all of its history),
    `trace` (less), `key` (less, and the `prompt_cache_key`), or `new`."""
    issued: tuple[Issued, ...] = ()
    """The newest tool calls that Handrail let through, oldest first."""
    tools: Mapping[str, str] = {}
    """Digests of the definitions that tools were first offered with, if some rule asks for changes."""
    labels: tuple[str, ...] = ()
    """What rules have labelled it with, each once."""
    escalation: str = ""
    """Id of the open escalation: a human owns this conversation."""
    level: Level | None = None
    """What rules have lowered the agent to in this conversation."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a conversation was after one of its calls."""

    session_id: str
    turn: int


class Stand(Place, frozen=True, kw_only=True):
    """Where a call leaves its conversation, by digests of what the next call will show of it."""

    user: str = ""
    """Digest of whom the call named as its user."""
    end: str = ""
    """Digest of all there is; empty: it stands nowhere yet."""
    marks: tuple[str, ...] = ()
    """Digests of less, by which it can be told as long as no other conversation has left them."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call that Handrail let through."""

    id: str
    tool: str
    at_ms: int
    booked: tuple[Booked, ...] = ()
    """What it added to totals, as far as its result may take that back."""


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call added to a total, until its result is known."""

    id: str
    """Of the reservation."""
    total: str
    amount_nano: int
    counters: tuple[tuple[str, str], ...]
