"""Owns the identities that are forged: each a request that shows what proves nothing, or asks for more than is granted.

In: what is really valid. Out: what somebody would send who has less. Never: a proof that should open.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

import msgspec

from bench.security.asking import Headers
from proxy.identity import digest_of, new_key


class Proofs(NamedTuple):
    """What there is, and was: `good` opens the data plane for one model and endpoint, `admin` the admin listener."""

    good: str
    second: str
    """Opens all of the data plane, until it is revoked."""
    expired: str
    admin: str


class Forged(NamedTuple):
    """One request. `widening`: it shows a good proof, and says it is more than that."""

    name: str
    headers: Headers = ()
    path: str = "/v1/chat/completions"
    method: str = "POST"
    listener: str = "data"
    widening: bool = False
    model: str = "small"
    more: dict[str, object] = {}  # noqa: RUF012 - never changed

    @property
    def body(self) -> bytes | None:
        """Return what is sent; nothing with GET."""
        asked = {"model": self.model, "messages": [{"role": "user", "content": "Hello"}], **self.more}
        return msgspec.json.encode(asked) if self.method == "POST" else None


def bearer(text: str) -> Headers:
    """Return the header that shows a proof."""
    return (("authorization", f"Bearer {text}"),)


def keys(proofs: Proofs) -> list[Forged]:
    """Return what is no key, or no key any more."""
    good = proofs.good
    near = new_key(bytes.fromhex(good[3:19]) + bytes(8))[0]
    texts = {
        "a wrong checksum": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "never given out": new_key(bytes(16))[0],
        "the same beginning": near,
        "expired": proofs.expired,
        "revoked": proofs.second,
        "upper case": good.upper(),
        "upper case but for the prefix": "hr_" + good[3:].upper(),
        "cut by one": good[:-1],
        "cut to its beginning": good[:20],
        "longer by one": good + "0",
        "without its prefix": good.removeprefix("hr_"),
        "a space inside": f"{good[:12]} {good[12:]}",
        "two keys": f"{good}, {good}",
        "quoted": f'"{good}"',
        "percent-encoded": good.replace("_", "%5f"),
        "its hash": digest_of(good),
        "a wildcard": "*",
        "empty": "",
        "the admin token": proofs.admin,
    }
    return [Forged(f"key: {name}", bearer(text)) for name, text in texts.items()]


def carriers(proofs: Proofs) -> list[Forged]:
    """Return a good key, brought in a way that is none."""
    good = proofs.good
    basic = base64.b64encode(f"key:{good}".encode()).decode()
    headers: dict[str, Headers] = {
        "no proof": (),
        "Basic": (("authorization", f"Basic {basic}"),),
        "no scheme": (("authorization", good),),
        "another scheme": (("authorization", f"Token {good}"),),
        "a tab for a space": (("authorization", f"Bearer\t{good}"),),
        "sent twice": bearer(good) * 2,
        "beside another": (*bearer("x"), *bearer(good)),
        "beside another, in the other order": (*bearer(good), *bearer("x")),
        "x-api-key": (("x-api-key", good),),
        "api-key": (("api-key", good),),
        "proxy-authorization": (("proxy-authorization", f"Bearer {good}"),),
        "a cookie": (("cookie", f"authorization=Bearer {good}"),),
        "x-forwarded-authorization": (("x-forwarded-authorization", f"Bearer {good}"),),
        "x-original-authorization": (("x-original-authorization", f"Bearer {good}"),),
        "an underscore": (("x_authorization", f"Bearer {good}"), *bearer("x")),
    }
    found = [Forged(f"brought by: {name}", sent) for name, sent in headers.items()]
    return [*found, Forged("brought by: the query", path=f"/v1/chat/completions?api_key={good}&access_token={good}")]


def claimed() -> list[Forged]:
    """Return names that somebody gives themselves, without a proof."""
    names = (
        "x-agent-id", "x-team", "x-user-id", "x-principal", "x-tenant", "x-roles", "x-remote-user", "x-real-ip",
        "x-forwarded-user", "x-forwarded-email", "x-forwarded-for", "x-forwarded-client-cert", "x-handrail-principal",
    )  # fmt: skip
    return [Forged(f"claimed by: {name}", ((name, "127.0.0.1" if "for" in name else "web"),)) for name in names]


def widened(proofs: Proofs) -> list[Forged]:
    """Return a good key whose holder says that it is somebody else, or may do more."""
    good = bearer(proofs.good)
    headers = ("x-agent-id", "x-team", "x-tenant", "x-roles", "x-scope", "x-handrail-agent", "x-handrail-level",
               "x-forwarded-user", "x_agent_id", "x-handrail-models", "x-http-method-override")  # fmt: skip
    bodies: dict[str, dict[str, object]] = {
        "user": {"user": "root"},
        "metadata": {"metadata": {"agent": "root", "tier": "gold", "principal": "key:root", "tenant": "other"}},
        "agent": {"agent": "root", "models": ["big"]},
    }
    return [
        *(Forged(f"widened by: {name}", (*good, (name, "root")), widening=True) for name in headers),
        *(Forged(f"widened by the body: {name}", good, widening=True, more=more) for name, more in bodies.items()),
        Forged("another model", good, model="big"),
        Forged("another model, by its own name", good, model="gpt-5"),
        Forged("another endpoint", good, "/v1/models", "GET"),
        Forged("another endpoint with claims", (*good, ("x-scope", "models.list")), "/v1/models/small", "GET"),
    ]


def admin(proofs: Proofs) -> list[Forged]:
    """Return what does not open the admin listener."""
    token = proofs.admin
    texts = {
        "a key": proofs.good,
        "cut": token[:-1],
        "longer": token + "x",
        "upper case": token.upper(),
        "empty": "",
    }
    basic = base64.b64encode(f"admin:{token}".encode()).decode()
    others: dict[str, Headers] = {
        "Basic": (("authorization", f"Basic {basic}"),),
        "twice": bearer(token) * 2,
        "x-api-key": (("x-api-key", token),),
        "claims": (("x-agent-id", "admin"), ("x-forwarded-for", "127.0.0.1")),
    }
    sent = {**{name: bearer(text) for name, text in texts.items()}, **others}
    found = [Forged(f"admin: {name}", headers, "/status", "GET", "admin") for name, headers in sent.items()]
    return [*found, Forged("admin: the query", (), f"/status?token={token}", "GET", "admin")]


def everything(proofs: Proofs) -> list[Forged]:
    """Return all of them."""
    return [*keys(proofs), *carriers(proofs), *claimed(), *widened(proofs), *admin(proofs)]
