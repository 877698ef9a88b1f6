"""Owns the provider Azure OpenAI: chat completions at a deployment, or on its v1 surface.

In: a Request and a Target, whose model is the deployment's name; a failure. Out: an UpstreamCall; a Fault. Never: a
credential outside its Secret. Follows Microsoft's "Azure OpenAI REST API reference".
"""

from __future__ import annotations

import msgspec

from proxy import chat_wire
from proxy.openai_wire import DIALECTS, WIRES
from proxy.ports import Decoder
from proxy.provider_errors import openai_error, refused
from proxy.terms import Fault, Headers, ProviderSettings, Request, Secret, Target, UpstreamCall


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only Azure has."""

    api_version: str = "v1"
    """`v1`: the surface that has no versions; else the version to name, such as `2024-10-21`."""
    entra: bool = False
    """The key is a token of Microsoft Entra ID, not a key of the resource."""


def create(settings: ProviderSettings) -> Azure:
    """Return the provider; its base URL is the resource's endpoint."""
    return Azure(settings)


class Azure:
    """One configured resource."""

    dialects = DIALECTS

    def __init__(self, settings: ProviderSettings) -> None:
        options: Options = settings.options
        self.name = settings.name
        self._base = settings.base_url.rstrip("/").removesuffix("/openai/v1").removesuffix("/openai")
        self._version = options.api_version
        self._key = settings.key
        self._entra = options.entra
        self._auth = Secret(f"{'Bearer ' * options.entra}{settings.key.reveal()}") if settings.key else None
        self._headers = chat_wire.headers(settings.headers)

    def encode(self, request: Request, target: Target) -> UpstreamCall:
        """Return the HTTP call: the client's own bytes, unless the model or something else had to change."""
        wire = WIRES[request.dialect]
        return UpstreamCall(
            method="POST",
            url=self._url(request.dialect, target.model),
            headers=self._headers[request.stream],
            body=wire.body(request, target.model),
            auth_header="authorization" if self._entra else "api-key",
            auth=self._auth,
        )

    def _url(self, dialect: str, deployment: str) -> str:
        path = WIRES[dialect].path
        if self._version == "v1":
            return f"{self._base}/openai/v1{path}"
        # Only what is older than the Responses API is asked of a deployment.
        at = f"/deployments/{deployment}" if dialect == "chat" else ""
        return f"{self._base}/openai{at}{path}?api-version={self._version}"

    def decoder(self, request: Request, headers: Headers, at_ms: int) -> Decoder:
        """Return a decoder for a reply with status 2xx."""
        return WIRES[request.dialect].decoder(request)

    def error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Return the fault for a reply with another status."""
        return refused(status, headers, body, self._key, read=openai_error)
