"""Owns the provider OpenAI, and everyone who serves chat completions as it does.

In: a Request and a Target; a failure. Out: an UpstreamCall; a Fault. Never: a credential outside its Secret.
"""

from __future__ import annotations

import msgspec

from proxy import chat_wire
from proxy.openai_wire import DIALECTS, WIRES
from proxy.ports import Decoder
from proxy.provider_errors import openai_error, refused
from proxy.terms import Fault, Headers, ProviderSettings, Request, Secret, Target, UpstreamCall

OWN = "https://api.openai.com/"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs among those who serve chat completions."""

    responses: bool | None = None
    """It serves the Responses API as well; None: if it is OpenAI itself. Elsewhere that is said as chat completions."""


def create(settings: ProviderSettings) -> OpenAI:
    """Return the provider."""
    return OpenAI(settings)


class OpenAI:
    """One configured provider that speaks OpenAI's dialects."""

    def __init__(self, settings: ProviderSettings) -> None:
        options: Options = settings.options or Options()
        responses = settings.base_url.startswith(OWN) if options.responses is None else options.responses
        self.name = settings.name
        self.dialects = DIALECTS if responses else DIALECTS - {"responses"}
        self._base = settings.base_url.rstrip("/")
        self._key = settings.key
        self._auth = Secret(f"Bearer {settings.key.reveal()}") if settings.key else None
        self._headers = chat_wire.headers(settings.headers)

    def encode(self, request: Request, target: Target) -> UpstreamCall:
        """Return the HTTP call: the client's own bytes, unless the model or something else had to change."""
        wire = WIRES[request.dialect]
        return UpstreamCall(
            method="POST",
            url=self._base + wire.path,
            headers=self._headers[request.stream],
            body=wire.body(request, target.model),
            auth=self._auth,
        )

    def decoder(self, request: Request, headers: Headers, at_ms: int) -> Decoder:
        """Return a decoder for a reply with status 2xx."""
        return WIRES[request.dialect].decoder(request)

    def error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Return the fault for a reply with another status."""
        return refused(status, headers, body, self._key, read=openai_error)
