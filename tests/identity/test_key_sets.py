"""Owns the proof that of a key set only keys are taken that verify, each its one algorithm."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from proxy.errors import ConfigError
from proxy.identity.key_sets import ALGORITHMS, KeySet, key_set, library
from tests.identity.issuing import KEYS, jwks

ALL = tuple(ALGORITHMS.values())


@pytest.mark.parametrize(
    ("algorithms", "kids"),
    [
        pytest.param(ALL, ["ec", "ed", "rsa"], id="all"),
        pytest.param(("RS256",), ["rsa"], id="one"),
        pytest.param(("ES256", "EdDSA"), ["ec", "ed"], id="two"),
    ],
)
def test_keys_of_the_named_algorithms_are_taken(algorithms: tuple[str, ...], kids: list[str]) -> None:
    """Of a set those keys are taken whose algorithm config names, each bound to it."""
    found = key_set(jwks(), algorithms)

    assert kids == sorted(found)
    assert [KEYS[kid][0] for kid in kids] == [found[kid].algorithm_name for kid in kids]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"use": "enc"}, id="for another use"),
        pytest.param({"alg": "RS512"}, id="for another algorithm"),
        pytest.param({"alg": "HS256"}, id="for a shared secret"),
        pytest.param({"d": "AAAA"}, id="a private one"),
        pytest.param({"kty": "oct", "k": "AAAA"}, id="a shared secret"),
        pytest.param({"kty": "EC", "crv": "P-384"}, id="another curve"),
        pytest.param({"kty": 1}, id="of no kind"),
    ],
)
def test_other_keys_are_passed_over(more: dict[str, object]) -> None:
    """A key for anything else in a set is not ours; a set without ours is refused."""
    both = json.dumps({"keys": [*json.loads(jwks("rsa", **more))["keys"], *json.loads(jwks("ed"))["keys"]]}).encode()

    assert ["ed"] == list(key_set(both, ALL))
    with pytest.raises(ValueError, match="there is no key in it that verifies ES256 or EdDSA or RS256"):
        key_set(jwks("rsa", **more), ALL)


def _short() -> dict[str, Any]:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is refused is what is proven
    return {**RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "kid": "s"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"", "no JWK set", id="empty"),
        pytest.param(b"<html>", "no JWK set", id="a page"),
        pytest.param(b"[]", "no JWK set", id="a list"),
        pytest.param(b"{}", "no JWK set", id="no keys"),
        pytest.param(b'{"keys": {}}', "no JWK set", id="keys that are no list"),
        pytest.param(b'{"keys": ["a"]}', "no JWK set", id="a key that is none"),
        pytest.param(b'{"keys": "\xff"}', "no JWK set", id="not UTF-8"),
        pytest.param(b"[" * 9000, "no JWK set", id="nested"),
        pytest.param(b'{"keys": []}', "there is no key in it", id="none"),
        pytest.param(json.dumps({"keys": [KEYS["ed"][2]] * 2}).encode(), "the same `kid`", id="two without an id"),
        pytest.param(jwks("ed", kid=1), "the same `kid`", id="an id that is no text"),
        pytest.param(jwks("ed", x="!"), "a key in it is broken", id="broken"),
        pytest.param(json.dumps({"keys": [_short()]}).encode(), "fewer than 2048 bits", id="short"),
    ],
)
def test_what_is_no_key_set_is_refused(text: bytes, message: str) -> None:
    """A set that cannot be understood in one way is refused whole, so that the last good one stays."""
    with pytest.raises(ValueError, match=message):
        key_set(text, ALL)


def test_a_key_without_an_id_is_found_by_none() -> None:
    """An issuer with one key may leave its id out."""
    rows = {"keys": [OKPAlgorithm.to_jwk(KEYS["ed"][1].public_key(), as_dict=True)]}

    assert [""] == list(KeySet(keys=key_set(json.dumps(rows).encode(), ALL)).keys)


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_library_it_is_said_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever configures tokens without the extra is told its name."""
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ConfigError, match=r"pip install 'handrail\[jwt\]'"):
        library()
