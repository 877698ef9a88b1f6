"""Owns what content looks like where it is stored: sealed with AES-256-GCM, or as it is where no key is configured.

In: keys, a row's table and id, its body. Out: an envelope, and the body again. Never: randomness; nonces come in.
A body that cannot be opened is an error, never an empty answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from proxy.errors import ConfigError, Overloaded
from proxy.terms import Table

LIBRARY = "cryptography.hazmat.primitives.ciphers.aead"
CONTENT = frozenset((Table.FACTS, Table.HELD, Table.HANDOFFS))
"""The tables with content: what was said, with what arguments a tool was called, what a human has to know."""
KEY_BYTES = 32
NONCE_BYTES = 12
_MARK = "sealed:1:"
"""How an envelope begins, and no JSON document: `sealed:1:KEY:` and, in base64, nonce and ciphertext."""


class Seal:
    """Seals with the newest of its keys, and opens with whichever was used."""

    def __init__(self, secrets: Sequence[bytes] = (), nonce: Callable[[], bytes] | None = None) -> None:
        """Take keys, newest first, and what gives a nonce that never comes twice. Without keys bodies stay as they are;
        raise ConfigError without the library."""
        self._ciphers = {_name(secret): _cipher(secret) for secret in secrets}
        self._newest = next(iter(self._ciphers), "")
        self._oldest = secrets[-1] if secrets else b""
        self._nonce = nonce or bytes

    def seal(self, table: Table, row_id: str, body: bytes) -> str:
        """Return a body as it is stored. The row's name is bound to it, so that it opens in no other row's place."""
        if not self._newest or table not in CONTENT:
            return body.decode()
        nonce = self._nonce()
        sealed = self._ciphers[self._newest].encrypt(nonce, body, _about(table, row_id))
        return f"{_MARK}{self._newest}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, table: Table, row_id: str, stored: str | bytes) -> bytes:
        """Return the body of what is stored; raise Overloaded naming the key that is not here, or the row whose body is
        not the one that was sealed for it."""
        text = stored if isinstance(stored, str) else stored.decode()
        if not text.startswith(_MARK):
            return text.encode()
        name, _, sealed = text.removeprefix(_MARK).partition(":")
        if name not in self._ciphers:
            raise _unopened(f"{table} {row_id} is sealed with key {name}, which `state.content_key_file` does not have")
        try:
            data = base64.b64decode(sealed, validate=True)
            body: bytes = self._ciphers[name].decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _about(table, row_id))
        except (binascii.Error, ValueError, import_module("cryptography.exceptions").InvalidTag):
            raise _unopened(f"{table} {row_id} is not as it was sealed with key {name}") from None
        return body

    def keyed(self, digest: str) -> str:
        """Return what a row is found by instead of a digest of its content, at which whoever has the rows could try out
        what it may be. The oldest key makes it: it is the same after a newer one was added."""
        if not self._oldest:
            return digest
        return hmac.digest(self._oldest, b"handrail row\0" + digest.encode(), "sha256").hex()[:32]


PLAIN = Seal()
"""Without keys."""


def keys(text: str, where: str) -> list[bytes]:
    """Read a file of keys, newest first, one a line in hexadecimal; raise ConfigError for what is none."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            secret = bytes.fromhex(line)
        except ValueError:
            secret = b""
        if len(secret) != KEY_BYTES:
            raise ConfigError([f"{where}:{number}: is no key: it has {KEY_BYTES} bytes in hexadecimal"])
        found.append(secret)
    if not found:
        raise ConfigError([f"{where}: has no key: `openssl rand -hex {KEY_BYTES}` makes one"])
    return found


def _name(secret: bytes) -> str:
    """Name a key by what nobody can turn back into it, so that a file of keys needs no names."""
    return hashlib.sha256(b"handrail content key\0" + secret).hexdigest()[:8]


def _about(table: Table, row_id: str) -> bytes:
    return f"{table}\0{row_id}".encode("utf-8", "surrogatepass")


def _cipher(secret: bytes) -> Any:
    try:
        return import_module(LIBRARY).AESGCM(secret)
    except ImportError:
        raise ConfigError(["`state.content_key_file` needs the extra `audit`: pip install 'handrail[audit]'"]) from None


def _unopened(why: str) -> Overloaded:
    return Overloaded(f"{why}.", code="content_sealed")
