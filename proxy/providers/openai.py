"""Owns the provider OpenAI, and everyone who serves chat completions as it does.

In: a Request and a Target; a failure. Out: an UpstreamCall; a Fault. Never: a credential outside its Secret.
"""

from __future__ import annotations

from proxy import chat_wire
from proxy.ports import Decoder
from proxy.provider_errors import openai_error, refused
from proxy.terms import Fault, Headers, ProviderSettings, Request, Secret, Target, UpstreamCall


def create(settings: ProviderSettings) -> OpenAI:
    """Return the provider."""
    return OpenAI(settings)


class OpenAI:
    """One configured provider that speaks OpenAI chat completions."""

    dialects = frozenset({"chat"})

    def __init__(self, settings: ProviderSettings) -> None:
        self.name = settings.name
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._key = settings.key
        self._auth = Secret(f"Bearer {settings.key.reveal()}") if settings.key else None
        self._headers = chat_wire.headers(settings.headers)

    def encode(self, request: Request, target: Target) -> UpstreamCall:
        """Return the HTTP call: the client's own bytes, unless the model or something else had to change."""
        return UpstreamCall(
            method="POST",
            url=self._url,
            headers=self._headers[request.stream],
            body=chat_wire.body(request, target.model),
            auth=self._auth,
        )

    def decoder(self, request: Request, headers: Headers, at_ms: int) -> Decoder:
        """Return a decoder for a reply with status 2xx."""
        return chat_wire.decoder(request)

    def error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Return the fault for a reply with another status."""
        return refused(status, headers, body, self._key, read=openai_error)
