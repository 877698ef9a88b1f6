"""Owns the public keys of an issuer of tokens: from a JWK set (RFC 7517) to keys that verify one algorithm each.

In: the set's bytes, the algorithms that config allows. Out: keys by their id. Never: a key that could sign, or one of
an algorithm for which signing and verifying take the same secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

import msgspec

from proxy.errors import ConfigError
from proxy.terms import Json

ALGORITHMS = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""The one algorithm that a kind of key verifies here, by `kty` and `crv`: what a token says of it cannot choose."""
MAX_KEYS = 100
SHORTEST_RSA = 2048
"""Bits (RFC 7518, section 3.3)."""


class KeySet(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of an issuer, and until when they may be believed."""

    keys: Mapping[str, Any]
    """By `kid`; a key without one has an empty one."""
    until_ms: int | None = None
    """None: they come from a file, whose owner says when they change."""


def key_set(text: bytes, algorithms: Collection[str]) -> Mapping[str, Any]:
    """Return the keys of a JWK set that verify one of the algorithms; raise ValueError if there is none, or not exactly
    one of an id, and ConfigError without the library."""
    found: dict[str, Any] = {}
    for row in _rows(text):
        algorithm = ALGORITHMS.get((str(row.get("kty")), str(row.get("crv", ""))))
        if algorithm is None or algorithm not in algorithms or not _verifies(row, algorithm):
            continue
        kid = row.get("kid", "")
        if not isinstance(kid, str) or kid in found:
            raise ValueError("two keys have the same `kid`")
        found[kid] = _key(row, algorithm)
    if not found:
        raise ValueError(f"there is no key in it that verifies {' or '.join(sorted(algorithms))}")
    return found


def library() -> Any:
    """Return what verifies signatures; raise ConfigError without it."""
    try:
        import_module("cryptography")
        return import_module("jwt")
    except ImportError:
        raise ConfigError(["`auth.jwt` needs the extra `jwt`: pip install 'handrail[jwt]'"]) from None


def _rows(text: bytes) -> list[dict[str, Json]]:
    try:
        tree = msgspec.json.decode(text)
        rows = msgspec.convert(tree, dict[str, Any])["keys"]
        return msgspec.convert(rows, list[dict[str, Any]])[:MAX_KEYS]
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError):
        raise ValueError('it is no JWK set: {"keys": [{"kty": …}, …]}') from None


def _verifies(row: Mapping[str, Json], algorithm: str) -> bool:
    """Say whether a key is meant for this, and is no private one that somebody gave away."""
    return row.get("use", "sig") == "sig" and row.get("alg", algorithm) == algorithm and "d" not in row


def _key(row: Mapping[str, Json], algorithm: str) -> Any:
    jwt = library()
    try:
        key = jwt.PyJWK(row, algorithm)
    except jwt.exceptions.PyJWTError:
        raise ValueError("a key in it is broken") from None
    if algorithm == "RS256" and key.key.key_size < SHORTEST_RSA:
        raise ValueError(f"an RSA key in it has fewer than {SHORTEST_RSA} bits")
    return key
