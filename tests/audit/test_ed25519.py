"""Owns the proof of proxy/audit/ed25519.py: the keys and signatures of RFC 8032."""

from __future__ import annotations

import sys

import pytest

from proxy.audit.ed25519 import LIBRARY, key_pair, verified
from proxy.errors import ConfigError

# RFC 8032, 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_vector_of_the_rfc() -> None:
    """Key and signature come out as the RFC has them."""
    public, sign = key_pair(SEED)

    assert (PUBLIC, SIGNATURE) == (public, sign(b"\x72"))


@pytest.mark.parametrize(
    ("signature", "message", "fits"),
    [
        pytest.param(SIGNATURE, b"\x72", True, id="right"),
        pytest.param(SIGNATURE, b"\x73", False, id="another message"),
        pytest.param(bytes([SIGNATURE[0] ^ 1]) + SIGNATURE[1:], b"\x72", False, id="a flipped bit"),
        pytest.param(b"", b"\x72", False, id="none"),
    ],
)
def test_only_the_right_signature_fits(signature: bytes, message: bytes, fits: bool) -> None:
    """Anything else does not."""
    assert fits == verified(PUBLIC, signature, message)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, LIBRARY, None)

    with pytest.raises(ConfigError, match=r"handrail\[audit\]"):
        key_pair(SEED)
