"""Owns which provider a recording is played as, and what a client asks for to get it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bench.replay.cassettes import Cassette

CHAT = "/v1/chat/completions"


class Play(msgspec.Struct, frozen=True):
    """One way to play recordings: the provider as configured, and where and what the client asks."""

    provider: Mapping[str, Any]
    path: str
    body: Callable[[Cassette], bytes]
    native: bool
    """The client speaks as the provider does: it gets the provider's own bytes."""


def recorded(cassette: Cassette) -> bytes:
    """Ask what was asked when it was recorded."""
    return cassette.request.data


def deployed(cassette: Cassette) -> bytes:
    """Ask what was asked, with the deployment of its path as the model."""
    tree = msgspec.json.decode(cassette.request.data)
    found = re.search("/deployments/([^/]+)/", cassette.request.path)
    return msgspec.json.encode({**tree, "model": found[1]}) if found else cassette.request.data


def chat(cassette: Cassette) -> bytes:
    """Ask for a chat completion, streamed if the recording is; which tools there were does not matter to the reply."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "What do you say?"}]}
    if cassette.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


OPENAI = {"dialect": "openai", "base_url": "https://provider.invalid/v1", "options": {"responses": True}}
AZURE = {"dialect": "azure", "base_url": "https://provider.invalid", "options": {"api_version": "2024-10-21"}}

RESPONSES = "/v1/responses"
AZURE_V1 = {"dialect": "azure", "base_url": "https://provider.invalid"}


def anew(cassette: Cassette) -> bytes:
    """Ask what was asked, without the reply that it went on from: nobody has got that here."""
    tree = msgspec.json.decode(cassette.request.data)
    if "previous_response_id" not in tree:
        return cassette.request.data
    return msgspec.json.encode({key: value for key, value in tree.items() if key != "previous_response_id"})


PLAYS: Mapping[tuple[str, str], Play] = {
    ("*", "chat.completions"): Play(OPENAI, CHAT, recorded, native=True),
    ("azure-openai", "chat.completions"): Play(AZURE, CHAT, deployed, native=True),
    ("*", "responses"): Play(OPENAI, RESPONSES, anew, native=True),
    ("azure-openai", "responses"): Play(AZURE_V1, RESPONSES, anew, native=True),
}
"""By provider and endpoint of the recording; `*` is every provider that has no row of its own."""


def play(cassette: Cassette) -> Play | None:
    """Return how a recording is played; None where Handrail has no such endpoint."""
    return PLAYS.get((cassette.provider, cassette.endpoint)) or PLAYS.get(("*", cassette.endpoint))
