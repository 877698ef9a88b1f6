"""Owns Ed25519 (RFC 8032), by the one cryptographic library, which only whoever keeps an audit log has to install.

In: bytes. Out: bytes, or whether they fit. Never: randomness; a seed comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

from proxy.errors import ConfigError

LIBRARY = "cryptography.hazmat.primitives.asymmetric.ed25519"

Sign: TypeAlias = Callable[[bytes], bytes]


def key_pair(seed: bytes) -> tuple[bytes, Sign]:
    """Return the public key of a private one, and what signs with it; raise ConfigError without the library."""
    key = _library().Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes_raw(), key.sign


def verified(public: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether a signature fits; raise ConfigError without the library."""
    key = _library().Ed25519PublicKey.from_public_bytes(public)
    try:
        key.verify(signature, message)
    except import_module("cryptography.exceptions").InvalidSignature:
        return False
    return True


def _library() -> Any:
    try:
        return import_module(LIBRARY)
    except ImportError:
        raise ConfigError(["the audit log needs the extra `audit`: pip install 'handrail[audit]'"]) from None
