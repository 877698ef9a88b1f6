"""Owns who is calling: the ladder of proofs, from the loopback address to a signed token.

In: a request, and how its listener may be opened, the time. Out: a Caller, or Unauthenticated, or Forbidden. Never: a
header that a client may set at will, such as `x-agent-id`, taken for identity; a credential kept in the clear.
"""

from __future__ import annotations

from proxy.identity.access import LOCAL, Access, identify
from proxy.identity.grants import Grant
from proxy.identity.key_sets import KeySet, key_set, library
from proxy.identity.keys import RANDOM_BYTES, Key, digest_of, expires_ms, load_keys, new_key
from proxy.identity.peers import Peer
from proxy.identity.tokens import Issuer, Tokens

__all__ = [
    "LOCAL",
    "RANDOM_BYTES",
    "Access",
    "Grant",
    "Issuer",
    "Key",
    "KeySet",
    "Peer",
    "Tokens",
    "digest_of",
    "expires_ms",
    "identify",
    "key_set",
    "library",
    "load_keys",
    "new_key",
]
