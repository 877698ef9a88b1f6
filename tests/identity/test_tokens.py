"""Owns the proof that a token opens if its issuer has signed it, for us and for now, and that no other does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Overloaded, Unauthenticated
from proxy.identity import tokens
from proxy.identity.grants import Grant
from proxy.identity.key_sets import KeySet, key_set
from proxy.identity.tokens import Issuer, Tokens
from tests.identity.issuing import AT_S, AUDIENCE, KEYS, NAME, SUBJECT, claims, jwks, token

AT_MS = AT_S * 1000
SET = KeySet(keys=key_set(jwks(), ("RS256", "ES256", "EdDSA")))
PLAIN = Issuer(issuer=NAME, audience=AUDIENCE)


def proving(
    issuer: Issuer = PLAIN,
    keys: KeySet | None = SET,
    missed: Callable[[], None] = lambda: None,
    remembered: int = tokens.REMEMBERED,
) -> Tokens:
    """Build what proves tokens."""
    return Tokens(issuer, lambda: keys, missed, remembered)


def opens(text: str, issuer: Issuer = PLAIN, at_ms: int = AT_MS) -> bool:
    """Say whether a token opens."""
    try:
        return proving(issuer).proven(text, at_ms)[0] == f"jwt:{SUBJECT}"
    except Unauthenticated:
        return False


def part(tree: object) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(tree).encode()).rstrip(b"=").decode()


def spelled(header: object, signature: str = "AAAA") -> str:
    """Return a token with any header, and a signature of nobody."""
    return f"{part(header)}.{part(claims())}.{signature}"


@pytest.mark.parametrize("kid", KEYS)
def test_a_token_of_the_issuer_opens(kid: str) -> None:
    """Whichever of its keys has signed it, by whichever of the allowed algorithms."""
    assert opens(token(kid=kid))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({"aud": ["x", AUDIENCE]}, True, id="several audiences"),
        pytest.param({"aud": "x"}, False, id="another audience"),
        pytest.param({"aud": ["x"]}, False, id="other audiences"),
        pytest.param({"aud": AUDIENCE[:-1]}, False, id="part of the audience"),
        pytest.param({"aud": None}, False, id="no audience"),
        pytest.param({"aud": {AUDIENCE: 1}}, False, id="an audience that is none"),
        pytest.param({"iss": f"{NAME}/"}, False, id="another issuer"),
        pytest.param({"iss": None}, False, id="no issuer"),
        pytest.param({"sub": None}, False, id="no subject"),
        pytest.param({"sub": ""}, False, id="an empty subject"),
        pytest.param({"sub": "a\nb"}, False, id="a subject of two lines"),
        pytest.param({"sub": "x" * 256}, False, id="a long subject"),
        pytest.param({"exp": None}, False, id="no end"),
        pytest.param({"exp": str(AT_S + 600)}, False, id="an end that is a text"),
        pytest.param({"exp": True}, False, id="an end that is no number"),
        pytest.param({"exp": 1e300}, False, id="an end that never comes"),
        pytest.param({"exp": AT_S - 59}, True, id="ended within the leeway"),
        pytest.param({"exp": AT_S - 60}, False, id="ended"),
        pytest.param({"nbf": AT_S + 60}, True, id="begins within the leeway"),
        pytest.param({"nbf": AT_S + 61}, False, id="begins later"),
        pytest.param({"iat": AT_S + 61}, False, id="not made yet"),
        pytest.param({"iat": None}, True, id="made at any time"),
    ],
)
def test_a_token_is_for_us_and_for_now(changed: dict[str, object], expected: bool) -> None:
    """Issuer, audience, subject and end have to be there and right; `leeway_s` is given either way."""
    assert expected is opens(token(claims(**changed)))


@pytest.mark.parametrize("leeway_s", [0.0, 10.0])
def test_the_leeway_is_as_configured(leeway_s: float) -> None:
    """A token counts as long after its end as config says, and no longer."""
    issuer = Issuer(issuer=NAME, audience=AUDIENCE, leeway_s=leeway_s)
    end_ms = (AT_S + 600 + int(leeway_s)) * 1000

    assert (True, False) == (opens(token(), issuer, end_ms - 1), opens(token(), issuer, end_ms))


def _shared_secret(kid: str) -> str:
    """Return a token signed with the public key as if it were a shared secret (CVE-2016-10555)."""
    public = KEYS[kid][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = f"{part({'alg': 'HS256', 'kid': kid})}.{part(claims())}"
    mac = hmac.digest(pem, body.encode(), hashlib.sha256)
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


STRANGER = ed25519.Ed25519PrivateKey.generate()
OWN_KEY = {"kty": "OKP", "crv": "Ed25519", "x": part("")}
GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(".")

FORGED = {
    "none": spelled({"alg": "none"}, "A"),
    "none without a signature": spelled({"alg": "none"}, ""),
    "None": spelled({"alg": "None", "kid": "ed"}, SIGNATURE),
    "no algorithm": spelled({"kid": "ed"}, SIGNATURE),
    "an algorithm that is none": spelled({"alg": ["EdDSA"], "kid": "ed"}, SIGNATURE),
    "the public RSA key as a secret": _shared_secret("rsa"),
    "the public EC key as a secret": _shared_secret("ec"),
    "another key's algorithm": spelled({"alg": "RS256", "kid": "ed"}, SIGNATURE),
    "another hash": spelled({"alg": "RS512", "kid": "rsa"}, SIGNATURE),
    "a stranger's key": token(key=STRANGER),
    "a key that nobody has": token(kid="ed").replace(HEAD, part({"alg": "EdDSA", "kid": "new"})),
    "a path for a key": spelled({"alg": "EdDSA", "kid": "../../dev/null"}),
    "a query for a key": spelled({"alg": "EdDSA", "kid": "ed' OR '1'='1"}),
    "a number for a key": spelled({"alg": "EdDSA", "kid": 0}),
    "no key": spelled({"alg": "EdDSA"}),
    "a key of its own": token(key=STRANGER, jwk=OWN_KEY),
    "an address of keys": token(jku="https://evil.example/jwks"),
    "a certificate's address": token(x5u="https://evil.example/x"),
    "a certificate": token(x5c=["AAAA"]),
    "something critical": spelled({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}, SIGNATURE),
    "a body elsewhere": spelled({"alg": "EdDSA", "kid": "ed", "b64": False, "crit": ["b64"]}, SIGNATURE),
    "another kind of token": token(typ="logout+jwt"),
    "other claims": f"{HEAD}.{part(claims(sub='root'))}.{SIGNATURE}",
    "another header": f"{part({'alg': 'EdDSA', 'kid': 'ed', 'x': 1})}.{BODY}.{SIGNATURE}",
    "cut short": GOOD[:-4],
    "without its signature": f"{HEAD}.{BODY}.",
    "in two parts": f"{HEAD}.{BODY}",
    "in four parts": f"{GOOD}.AAAA",
    "twice": f"{GOOD},{GOOD}",
    "with a line's end": f"{GOOD}\n",
    "with padding": f"{GOOD}==",
    "in another alphabet": GOOD.replace("_", "/").replace("-", "+") + "+/",
    "encrypted": "e30.AA.AA.AA.AA",
    "nothing": "",
    "dots": "..",
    "a header that is no object": f"{part([])}.{BODY}.{SIGNATURE}",
    "a header that is no JSON": f"AAAA.{BODY}.{SIGNATURE}",
    "too long": token(claims(pad="x" * tokens.MAX_CHARS)),
    "no claims": token([]),
    "a lone surrogate": "\udcff.a.a",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in FORGED.items()])
def test_nothing_that_is_forged_opens(text: str) -> None:
    """What a token says of its own proof is never believed, and the refusal says nothing of it either."""
    with pytest.raises(Unauthenticated) as refused:
        proving().proven(text, AT_MS)

    assert not text or text not in refused.value.message


@settings(max_examples=60)
@given(st.integers(min_value=0, max_value=len(GOOD) - 1), st.integers(min_value=1, max_value=127))
def test_no_other_text_opens(place: int, flip: int) -> None:
    """Whatever one character of a known token becomes, it is not the token any more: not even the remembered one."""
    proven = proving()
    proven.proven(GOOD, AT_MS)
    changed = GOOD[:place] + chr(ord(GOOD[place]) ^ flip) + GOOD[place + 1 :]

    with pytest.raises(Unauthenticated):
        proven.proven(changed, AT_MS)


def test_a_token_that_begins_like_a_known_one_is_another() -> None:
    """CVE-2026-35030: a proof is remembered by all of the token, not by how it begins."""
    proven = proving()
    proven.proven(GOOD, AT_MS)
    other = f"{GOOD[:-20]}{'A' * 20}"

    assert GOOD[:200] == other[:200]
    with pytest.raises(Unauthenticated):
        proven.proven(other, AT_MS)


class Library:
    """Counts how often a key is looked up, which a remembered token needs not."""

    def __init__(self) -> None:
        self.seen = 0
        self.keys = dict(SET.keys)

    def get(self, kid: str) -> object:
        self.seen += 1
        return self.keys.get(kid)


def test_a_proof_is_remembered_until_the_token_ends() -> None:
    """A known token costs no signature check; past its end, within the leeway, each use is checked anew."""
    library = Library()
    proven = proving(keys=KeySet(keys=library))  # type: ignore[arg-type]  # of a Mapping only `get` is asked
    counts = []
    for at_s in (0, 1, 599, 600, 601):
        proven.proven(GOOD, AT_MS + at_s * 1000)
        counts.append(library.seen)

    assert [1, 1, 1, 2, 3] == counts


def test_only_so_many_proofs_are_remembered() -> None:
    """The oldest is forgotten for the newest, which costs a check and opens still."""
    library = Library()
    proven = proving(keys=KeySet(keys=library), remembered=2)  # type: ignore[arg-type]  # it counts what is asked
    texts = [token(claims(jti=str(number))) for number in range(3)]
    for text in (*texts, texts[2], texts[0]):
        proven.proven(text, AT_MS)

    assert 4 == library.seen


def test_a_key_that_is_gone_proves_nothing_any_more() -> None:
    """When the issuer takes a key back, tokens that it had signed are refused, remembered or not."""
    held = [SET]
    proven = Tokens(PLAIN, lambda: held[0], lambda: None)
    proven.proven(GOOD, AT_MS)
    held[0] = KeySet(keys={kid: key for kid, key in SET.keys.items() if kid != "ed"})

    with pytest.raises(Unauthenticated):
        proven.proven(GOOD, AT_MS)


def test_an_unknown_key_is_asked_for() -> None:
    """A token with a key that is not known says that the set may be old; one with a known key does not."""
    asked: list[str] = []
    proven = proving(missed=lambda: asked.append("!"))
    proven.proven(GOOD, AT_MS)
    before = list(asked)
    with pytest.raises(Unauthenticated):
        proven.proven(FORGED["a key that nobody has"], AT_MS)

    assert ([], ["!"]) == (before, asked)


@pytest.mark.parametrize(
    "keys", [pytest.param(None, id="none yet"), pytest.param(KeySet(keys=SET.keys, until_ms=AT_MS), id="too old")]
)
def test_without_keys_nobody_is_let_in(keys: KeySet | None) -> None:
    """While the issuer's keys are not known the answer is to come again, for good tokens and bad ones alike."""
    for text in (GOOD, "x"):
        with pytest.raises(Overloaded) as refused:
            proving(keys=keys).proven(text, AT_MS)

        assert (503, "issuer_away", "5") == (
            refused.value.status,
            refused.value.code,
            refused.value.headers["retry-after"],
        )


def test_keys_that_are_not_too_old_prove() -> None:
    """A set is believed until its age is what config allows."""
    assert proving(keys=KeySet(keys=SET.keys, until_ms=AT_MS + 1)).proven(GOOD, AT_MS)


def test_only_subjects_that_are_named_may_call() -> None:
    """Where config names subjects, each is what config says, and a token for anybody else opens nothing."""
    grant = Grant(agent="web", models=("small",), claims={"tier": "gold"})
    issuer = Issuer(issuer=NAME, audience=AUDIENCE, subjects={SUBJECT: grant})

    assert (f"jwt:{SUBJECT}", grant) == proving(issuer).proven(GOOD, AT_MS)
    assert not opens(token(claims(sub="system:serviceaccount:shop:other")), issuer)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("tier", "gold", id="a text"),
        pytest.param("groups", "a,b", id="a list, without what would read as two"),
        pytest.param("admin", "true", id="true"),
        pytest.param("beta", "false", id="false"),
        pytest.param("level", "7", id="a number"),
        pytest.param("huge", None, id="a number that parsers read differently"),
        pytest.param("/kubernetes.io/namespace", "shop", id="a path"),
        pytest.param("kubernetes.io", None, id="an object"),
        pytest.param("/tier/x", None, id="a path through a text"),
        pytest.param("none", None, id="nothing"),
    ],
)
def test_claims_are_read_as_config_names_them(path: str, expected: str | None) -> None:
    """Rules know a claim of the token by the name that config gives it; config's own word counts more."""
    said = claims(
        tier="gold", groups=["a", "b", "c,d", 1], admin=True, beta=False, level=7, huge=10**20,
        **{"kubernetes.io": {"namespace": "shop"}},
    )  # fmt: skip
    issuer = Issuer(issuer=NAME, audience=AUDIENCE, claims={"x": path, "y": "tier"})
    own = Issuer(issuer=NAME, audience=AUDIENCE, claims={"x": path}, subjects={SUBJECT: Grant(claims={"x": "own"})})

    assert expected == proving(issuer).proven(token(said), AT_MS)[1].claims.get("x")
    assert "own" == proving(own).proven(token(said), AT_MS)[1].claims["x"]
