"""Owns an issuer of tokens in tests: its keys, its key set, and what it signs."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.upstream.scripted import CERTIFICATE

AT_S = 1_767_225_600
NAME, AUDIENCE = "https://issuer.example", "handrail"
SUBJECT = "system:serviceaccount:shop:support-web"

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_EC = ec.generate_private_key(ec.SECP256R1())
_ED = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "rsa": ("RS256", _RSA, RSAAlgorithm.to_jwk(_RSA.public_key(), as_dict=True)),
    "ec": ("ES256", _EC, ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True)),
    "ed": ("EdDSA", _ED, OKPAlgorithm.to_jwk(_ED.public_key(), as_dict=True)),
}
"""By `kid`: algorithm, private key, public key as in the set."""


def jwks(*kids: str, **more: object) -> bytes:
    """Return a key set with these keys, or all."""
    rows = [{**KEYS[kid][2], "kid": kid, "use": "sig", **more} for kid in kids or KEYS]
    return json.dumps({"keys": rows}).encode()


def claims(**changed: object) -> dict[str, object]:
    """Return the claims of a good token, changed; None takes one away."""
    whole = {"iss": NAME, "aud": AUDIENCE, "sub": SUBJECT, "iat": AT_S, "exp": AT_S + 600, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def token(said: object = None, *, kid: str = "ed", key: Any = None, **header: object) -> str:
    """Return a token that is signed by the key of this id, or by another under its name."""
    algorithm, own, _ = KEYS[kid]
    payload = json.dumps(claims() if said is None else said).encode()
    return jwt.PyJWS().encode(payload, key or own, algorithm, headers={"kid": kid, **header})


class Site:
    """What an issuer answers, and what it was asked with."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, jwks("ed"))
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.Response:
        """Answer as was said."""
        self.asked.append(request.headers.get("authorization", ""))
        return web.Response(status=self.answer[0], body=self.answer[1], headers=self.headers)


@asynccontextmanager
async def issuer(*, tls: bool = False) -> AsyncIterator[Site]:
    """Serve a key set on loopback."""
    site, served = Site(), web.Application()
    served.router.add_get("/jwks", site.serve)
    runner = web.AppRunner(served, shutdown_timeout=0.1)
    await runner.setup()
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    site.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{runner.addresses[0][1]}/jwks"
    try:
        yield site
    finally:
        await runner.cleanup()
