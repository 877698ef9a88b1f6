"""Owns a session's state as it stands in Redis: when it was saved last, and what."""

from __future__ import annotations

import msgspec

from proxy.terms import Session

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Session).decode


def written(session: Session, at_ms: int) -> bytes:
    """Return what stands under the session's key."""
    return b"%d %b" % (at_ms, _encode(session))


def read(body: bytes) -> tuple[Session, int]:
    """Return a session, and when it was saved."""
    at_ms, _, session = body.partition(b" ")
    return _decode(session), int(at_ms)
