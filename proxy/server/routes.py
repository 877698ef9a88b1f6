"""Owns the one table of what the data plane serves; a route that is not in it is 404, never a blind relay.

In: a path. Out: the endpoints there, and the coverage matrix. Never: I/O, or a second list of routes elsewhere.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from proxy.terms import Json


class Inspection(enum.StrEnum):
    """Who reads what passes through an endpoint."""

    INSPECTED = "inspected"
    """Guards and policy see it."""
    NOT_INSPECTED = "not_inspected"
    """It is identified, budgeted and recorded, and passes unread."""
    LOCAL = "local"
    """Handrail itself answers; nothing leaves for a provider."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to ask for: its route, and what of it is inspected. A path that ends in `{id}` takes any rest."""

    name: str
    method: str
    path: str
    streams: tuple[bool, ...]
    """The kinds of reply it has: False for whole, True for streamed."""
    request: Inspection
    reply: Inspection
    tool_arguments: Inspection
    text: str


ENDPOINTS = (
    Endpoint(
        name="chat.completions",
        method="POST",
        path="/v1/chat/completions",
        streams=(False, True),
        request=Inspection.INSPECTED,
        reply=Inspection.INSPECTED,
        tool_arguments=Inspection.INSPECTED,
        text="A chat completion: policy, budgets, routing and records apply.",
    ),
    Endpoint(
        name="responses",
        method="POST",
        path="/v1/responses",
        streams=(False, True),
        request=Inspection.INSPECTED,
        reply=Inspection.INSPECTED,
        tool_arguments=Inspection.INSPECTED,
        text="A response: policy, budgets, routing and records apply. What the provider's own tools do is not judged.",
    ),
    Endpoint(
        name="models.list",
        method="GET",
        path="/v1/models",
        streams=(False,),
        request=Inspection.LOCAL,
        reply=Inspection.LOCAL,
        tool_arguments=Inspection.LOCAL,
        text="The models that may be asked for, from the configuration.",
    ),
    Endpoint(
        name="models.retrieve",
        method="GET",
        path="/v1/models/{id}",
        streams=(False,),
        request=Inspection.LOCAL,
        reply=Inspection.LOCAL,
        tool_arguments=Inspection.LOCAL,
        text="One of these models.",
    ),
)


def _by_path(endpoints: tuple[Endpoint, ...]) -> dict[str, dict[str, Endpoint]]:
    table: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        table.setdefault(endpoint.path.partition("{")[0], {})[endpoint.method] = endpoint
    return table


_TABLE = _by_path(ENDPOINTS)
_PREFIXES = tuple(prefix for prefix in _TABLE if prefix.endswith("/"))


def find(path: str) -> Mapping[str, Endpoint]:
    """Return the endpoints at a path by method; empty where there is nothing."""
    if path in _TABLE and not path.endswith("/"):
        return _TABLE[path]
    for prefix in _PREFIXES:
        if path.startswith(prefix) and len(path) > len(prefix):
            return _TABLE[prefix]
    return {}


def coverage() -> list[dict[str, Json]]:
    """Return the coverage matrix: one row per endpoint and kind of reply, saying what is inspected each way."""
    return [
        {
            "endpoint": endpoint.name,
            "method": endpoint.method,
            "path": endpoint.path,
            "stream": stream,
            "request": endpoint.request.value,
            "reply": endpoint.reply.value,
            "tool_arguments": endpoint.tool_arguments.value,
            "description": endpoint.text,
        }
        for endpoint in ENDPOINTS
        for stream in endpoint.streams
    ]
