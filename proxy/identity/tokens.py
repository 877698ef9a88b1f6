"""Owns signed tokens (RFC 7519): whether one is the issuer's, for us, valid now, and for whom.

In: a token, the issuer as configured, its keys, the time. Out: a principal and what it may do. Never: an algorithm, a
key or an address that the token names: its `kid` looks a key up among those of the issuer, and that is all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from proxy.errors import Overloaded, Unauthenticated
from proxy.identity.grants import Grant
from proxy.identity.key_sets import KeySet, library
from proxy.terms import Json

MAX_CHARS = 8192
MAX_NUMBER = 2**53
"""The largest number that every JSON parser reads alike."""
REMEMBERED = 4096
"""Tokens whose proof is remembered."""
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
_MISLEADING = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"})
"""Header fields that would have a token say how, or by what, it is to be verified."""

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens open, and what is read from them."""

    issuer: str
    audience: str
    leeway_s: float = 60.0
    """How far its clock and ours may be apart."""
    claims: Mapping[str, str] = {}
    """What rules know as `caller.claims.X`, by X: the name of the token's claim, or its path, `/a/b`."""
    subjects: Mapping[str, Grant] = {}
    """Who may call, and what for; empty: whoever the issuer gives a token for this audience."""


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that every token has to have, and those that bound its time."""

    iss: str
    aud: str | list[str]
    sub: Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,255}$")]
    exp: _Seconds
    nbf: _Seconds = 0.0
    iat: _Seconds = 0.0


class _Proof(msgspec.Struct, frozen=True, kw_only=True):
    principal: str
    grant: Grant
    until_ms: float


class Tokens:
    """Proves tokens of one issuer, and remembers those that it has proven until they end, or its keys change."""

    def __init__(
        self,
        issuer: Issuer,
        keys: Callable[[], KeySet | None],
        missed: Callable[[], None],
        remembered: int = REMEMBERED,
    ) -> None:
        self._issuer = issuer
        self._remembered = remembered
        self._keys = keys
        self._missed = missed
        """Is told of a token whose key is not known: the issuer may have a new one."""
        self._proven: dict[bytes, _Proof] = {}
        self._proven_by: object = None

    def proven(self, text: str, at_ms: int) -> tuple[str, Grant]:
        """Return the principal of a token and what it may do; raise Unauthenticated, or Overloaded while the issuer's
        keys are not known."""
        held = self._keys()
        if held is None or (held.until_ms is not None and held.until_ms <= at_ms):
            raise Overloaded("The keys of the tokens' issuer are not known now.", code="issuer_away", headers=AGAIN)
        if held.keys is not self._proven_by:
            self._proven.clear()
            self._proven_by = held.keys
        name = self._name(text)
        proof = self._proven.get(name)
        if proof is None or proof.until_ms <= at_ms:
            proof = self._prove(text, held.keys, at_ms)
            self._remember(name, proof, at_ms)
        return proof.principal, proof.grant

    def _name(self, text: str) -> bytes:
        # Of all of the token: what only begins like one that is known is another one.
        whole = "\0".join((text, self._issuer.issuer, self._issuer.audience))
        return hashlib.sha256(whole.encode(errors="surrogatepass")).digest()

    def _remember(self, name: bytes, proof: _Proof, at_ms: int) -> None:
        self._proven.pop(name, None)
        if len(self._proven) >= self._remembered:
            del self._proven[next(iter(self._proven))]
        if proof.until_ms > at_ms:
            self._proven[name] = proof

    def _prove(self, text: str, keys: Mapping[str, Any], at_ms: int) -> _Proof:
        payload = self._verified(text, keys)
        try:
            said = msgspec.json.decode(payload, type=_Said)
            tree = msgspec.json.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Unauthenticated("The token lacks a claim that it has to have: iss, aud, sub or exp.") from None
        self._check(said, at_ms)
        return _Proof(principal=f"jwt:{said.sub}", grant=self._grant(said.sub, tree), until_ms=said.exp * 1000)

    def _verified(self, text: str, keys: Mapping[str, Any]) -> bytes:
        """Return what a token says, once it is proven that the issuer says it."""
        if len(text) > MAX_CHARS or not _SHAPE.fullmatch(text):
            raise Unauthenticated("Send a token of the issuer, or a Handrail key: Authorization: Bearer …")
        jwt = library()
        try:
            header = jwt.PyJWS().get_unverified_header(text)
            key = keys.get(header.get("kid", ""))
            if key is None:
                self._missed()
            if key is None or _MISLEADING & header.keys() or str(header.get("typ", "")).lower() not in _TYPES:
                raise Unauthenticated("No key of the issuer has signed this token.")
            payload: bytes = jwt.PyJWS().decode(text, key, algorithms=[key.algorithm_name])
        except jwt.exceptions.PyJWTError:
            raise Unauthenticated("No key of the issuer has signed this token.") from None
        return payload

    def _check(self, said: _Said, at_ms: int) -> None:
        leeway_ms = self._issuer.leeway_s * 1000
        audiences = [said.aud] if isinstance(said.aud, str) else said.aud
        if said.iss != self._issuer.issuer or self._issuer.audience not in audiences:
            raise Unauthenticated("The token is of another issuer, or for another audience.")
        if said.exp * 1000 + leeway_ms <= at_ms:
            raise Unauthenticated("The token has expired.")
        if max(said.nbf, said.iat) * 1000 - leeway_ms > at_ms:
            raise Unauthenticated("The token is not valid yet.")

    def _grant(self, subject: str, tree: Json) -> Grant:
        grant = self._issuer.subjects.get(subject)
        if grant is None:
            if self._issuer.subjects:
                raise Unauthenticated("`auth.jwt.subjects` does not name who this token is for.")
            grant = Grant()
        read = {name: text for name, path in self._issuer.claims.items() if (text := _text(_at(tree, path)))}
        return replace(grant, claims={**read, **grant.claims})


AGAIN = {"retry-after": "5"}


def _at(tree: Json, path: str) -> Json:
    names = path[1:].split("/") if path.startswith("/") else [path]
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _text(value: Json) -> str:
    """Return a claim as rules read it. Of a list whatever has a comma in it is left out: it would read as two."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(item for item in value if isinstance(item, str) and "," not in item)
    if isinstance(value, int):
        return str(value) if abs(value) <= MAX_NUMBER else ""
    return value if isinstance(value, str) else ""
