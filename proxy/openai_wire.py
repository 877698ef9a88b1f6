"""Owns what OpenAI and Azure serve alike: which dialects, where, and how each is sent and read.

In: a request in one of these dialects. Out: its path, its bytes, its decoder. Never: a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from proxy import chat_wire, responses_wire
from proxy.ports import Decoder
from proxy.terms import Request


class Wire(msgspec.Struct, frozen=True):
    """One dialect."""

    path: str
    body: Callable[[Request, str], bytes]
    decoder: Callable[[Request], Decoder]


WIRES: Mapping[str, Wire] = {
    "chat": Wire(chat_wire.PATH, chat_wire.body, chat_wire.decoder),
    "responses": Wire(responses_wire.PATH, responses_wire.body, responses_wire.decoder),
}
"""By dialect."""
DIALECTS = frozenset(WIRES)
