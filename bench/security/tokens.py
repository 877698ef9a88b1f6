"""Owns the tokens that are forged: signed by nobody, by another, for another, at another time, or as their header says.

In: the time. Out: one token of the issuer, and what somebody would make who has its public keys and that token.
"""

from __future__ import annotations

import base64
import json

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519

from bench.security.forging import Forged, bearer
from tests.identity.issuing import AUDIENCE, KEYS, NAME, claims, jwks, token

CONFIG = f"  jwt: {{issuer: '{NAME}', audience: {AUDIENCE}, jwks_file: jwks.json}}\n"
KEY_SET = jwks()
_OTHER = ed25519.Ed25519PrivateKey.generate()


def good(at_s: int) -> str:
    """Return a token that opens."""
    return token(claims(iat=at_s, exp=at_s + 600))


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _with_secret(said: object, secret: bytes) -> str:
    """Sign as if a public key were a secret."""
    return jwt.PyJWS().encode(json.dumps(said).encode(), secret.hex(), "HS256", headers={"kid": "rsa"})


def _named(kid: str, said: object) -> str:
    return jwt.PyJWS().encode(json.dumps(said).encode(), _OTHER, "EdDSA", headers={"kid": kid})


def forged(proven: str, at_s: int) -> list[Forged]:
    """Return what must not open; `proven` has opened before."""
    now = {"iat": at_s, "exp": at_s + 600}
    said = claims(**now)
    head, payload, signature = proven.split(".")
    texts = {
        "alg none": f"{_part({'alg': 'none', 'kid': 'ed'})}.{payload}.",
        "alg none, with a signature": f"{_part({'alg': 'none', 'kid': 'ed'})}.{payload}.{signature}",
        "HS256 with the public key": _with_secret(said, json.dumps(KEYS["rsa"][2]).encode()),
        "another key under its name": token(said, key=_OTHER),
        "an unknown kid": _named("unknown", said),
        "a kid that is a path": _named("../../../dev/null", said),
        "an embedded jwk": token(said, key=_OTHER, jwk=KEYS["ed"][2]),
        "jku": token(said, jku="https://elsewhere.example/jwks"),
        "x5u": token(said, x5u="https://elsewhere.example/cert"),
        "x5c": token(said, x5c=["AA=="]),
        "another issuer": token(claims(**now, iss="https://other.example")),
        "another audience": token(claims(**now, aud="other")),
        "no audience": token(claims(**now, aud=None)),
        "no subject": token(claims(**now, sub=None)),
        "no end": token(claims(iat=at_s, exp=None)),
        "expired": token(claims(iat=at_s - 7200, exp=at_s - 3600)),
        "not valid yet": token(claims(**now, nbf=at_s + 3600)),
        "a cut signature": proven[:-4],
        "no signature": f"{head}.{payload}.",
        "another subject under the signature": f"{head}.{_part(claims(**now, sub='root'))}.{signature}",
        "the same first characters": f"{proven[:20]}{proven[20:][::-1]}",
        "the proven one and more": f"{proven}.{signature}",
    }
    return [Forged(f"token: {name}", bearer(text)) for name, text in texts.items()]
