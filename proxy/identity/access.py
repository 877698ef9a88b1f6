"""Owns the ladder: which proofs open a listener, and in which order a call is held against them.

In: a request, the configured proofs, the time. Out: a Caller. Never: a proof of its own.
"""

from __future__ import annotations

import msgspec

from proxy.errors import Forbidden, Unauthenticated
from proxy.identity import keys
from proxy.identity.grants import Grant
from proxy.identity.keys import Key
from proxy.identity.peers import Peer, peer_of
from proxy.identity.tokens import Tokens
from proxy.terms import Caller, Level, RawRequest

LOCAL = "local"
"""The principal of every caller where no proof is configured: whoever reaches the loopback address or the socket."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The agent behind a listener, and what opens it; without any proof everybody who reaches it is the agent."""

    agent: str
    level: Level
    tenant: str = ""
    peers: tuple[Peer, ...] = ()
    keys: tuple[Key, ...] = ()
    tokens: Tokens | None = None


def identify(raw: RawRequest, access: Access, at_ms: int) -> Caller:
    """Return who is calling; raise Unauthenticated without a proof that holds now, Forbidden where the proof does not
    reach this endpoint."""
    principal, grant = _proven(raw, access, at_ms)
    if grant.endpoints and raw.endpoint not in grant.endpoints:
        raise Forbidden("You may not call this endpoint.", code="endpoint_not_allowed")
    return Caller(
        agent=grant.agent or access.agent,
        level=access.level,
        principal=principal,
        tenant=access.tenant,
        claims=grant.claims,
        models=grant.models,
    )


def _proven(raw: RawRequest, access: Access, at_ms: int) -> tuple[str, Grant]:
    if not access.peers and not access.keys and not access.tokens:
        return LOCAL, Grant()
    if peer := peer_of(raw.uid, access.peers):
        return f"peer:{peer.name}", peer
    text = _bearer(raw)
    if access.tokens and not text.startswith(keys.PREFIX):
        return access.tokens.proven(text, at_ms)
    if not access.keys and not access.tokens:
        raise Unauthenticated(f"`auth.peers` names no user with the number {raw.uid}.")
    key = keys.valid(text, access.keys, at_ms)
    return f"key:{key.name}", key


def _bearer(raw: RawRequest) -> str:
    scheme, _, text = raw.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""
