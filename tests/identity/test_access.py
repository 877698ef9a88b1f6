"""Owns the proof that a caller is who a proof says, and that nothing else says it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.errors import Forbidden, Unauthenticated
from proxy.identity import Access, Grant, Issuer, Key, KeySet, Peer, Tokens, identify, key_set, new_key
from proxy.terms import Caller, Level, RawRequest
from tests.identity.issuing import AT_S, AUDIENCE, NAME, SUBJECT, jwks, token

TEXT, HASH = new_key(bytes(range(16)))
OTHER, _ = new_key(bytes(16))
KEY = Key(name="mine", sha256=HASH)
PEER = Peer(name="web", uid=1000)


def access(*, keys: tuple[Key, ...] = (), peers: tuple[Peer, ...] = ()) -> Access:
    """Build the access of an agent."""
    return Access(agent="support", level=Level.EXECUTE, tenant="shop", keys=keys, peers=peers)


def raw(endpoint: str = "chat.completions", uid: int | None = None, **headers: str) -> RawRequest:
    """Build a request with headers; `_` stands for `-`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawRequest(method="POST", path="/", headers=names, body=b"", peer="p", endpoint=endpoint, uid=uid)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no key"),
        pytest.param({"authorization": "Bearer sk-placeholder"}, id="a placeholder"),
        pytest.param({"authorization": "nonsense"}, id="nonsense"),
        pytest.param({"x_agent_id": "root", "x_handrail_agent": "root", "x_team": "root"}, id="claims"),
    ],
)
@pytest.mark.parametrize("uid", [None, 1000])
def test_without_proofs_everybody_is_the_agent(headers: dict[str, str], uid: int | None) -> None:
    """Where no proof is configured, whoever reaches the listener is the local caller, whatever is sent."""
    caller = identify(raw(uid=uid, **headers), access(), 0)

    assert Caller(agent="support", level=Level.EXECUTE, principal="local", tenant="shop") == caller


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(scheme: str) -> None:
    """RFC 9110: the name of an authentication scheme is case-insensitive."""
    assert "key:mine" == identify(raw(authorization=f"{scheme} {TEXT}"), access(keys=(KEY,)), 0).principal


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": ""}, id="empty"),
        pytest.param({"authorization": "Bearer"}, id="no key"),
        pytest.param({"authorization": f"Basic {TEXT}"}, id="another scheme"),
        pytest.param({"authorization": TEXT}, id="no scheme"),
        pytest.param({"authorization": f"Bearer {OTHER}"}, id="a key of somebody else"),
        pytest.param({"authorization": f"Bearer {TEXT}, Bearer {TEXT}"}, id="two"),
        pytest.param({"x_api_key": TEXT}, id="another header"),
        pytest.param({"x_agent_id": "support"}, id="a claim"),
    ],
)
@pytest.mark.parametrize("uid", [None, 1000])
def test_with_keys_nothing_else_opens(headers: dict[str, str], uid: int | None) -> None:
    """Where there are keys, a request without a valid one is refused, by whatever socket it comes."""
    with pytest.raises(Unauthenticated):
        identify(raw(uid=uid, **headers), access(keys=(KEY,)), 0)


@pytest.mark.parametrize(
    ("uid", "keys", "text", "principal"),
    [
        pytest.param(1000, (), "sk-placeholder", "peer:web", id="a peer"),
        pytest.param(1000, (KEY,), OTHER, "peer:web", id="a peer, whatever it sends"),
        pytest.param(1001, (KEY,), TEXT, "key:mine", id="a key of somebody who is no peer"),
        pytest.param(1001, (KEY,), OTHER, "", id="neither"),
        pytest.param(1001, (), TEXT, "", id="another user"),
        pytest.param(None, (), TEXT, "", id="nobody that the kernel knows"),
    ],
)
def test_the_kernel_is_asked_first(uid: int | None, keys: tuple[Key, ...], text: str, principal: str) -> None:
    """A user that `auth.peers` names needs no key; others need one, where there are any."""
    try:
        found = identify(raw(uid=uid, authorization=f"Bearer {text}"), access(keys=keys, peers=(PEER,)), 0).principal
    except Unauthenticated:
        found = ""

    assert principal == found


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["tokens", "keys as well"])
def test_a_token_is_known_from_a_key(keys: tuple[Key, ...]) -> None:
    """Where tokens open, whatever is no Handrail key is taken for one, and a key for a key."""
    both = replace(access(keys=keys), tokens=Tokens(ISSUER, lambda: KEYS, lambda: None))

    def principal(text: str) -> str:
        try:
            return identify(raw(authorization=f"Bearer {text}"), both, AT_S * 1000).principal
        except Unauthenticated:
            return ""

    assert (f"jwt:{SUBJECT}", "key:mine" if keys else "", "") == (principal(token()), principal(TEXT), principal("x"))


ISSUER = Issuer(issuer=NAME, audience=AUDIENCE)
KEYS = KeySet(keys=key_set(jwks(), ("EdDSA",)))
GRANT = Grant(agent="web", models=("small",), endpoints=("models.list",), claims={"tier": "gold"})


@pytest.mark.parametrize(
    "proof",
    [
        pytest.param(access(keys=(Key(name="n", sha256=HASH, agent="web", models=("small",),
                                      endpoints=("models.list",), claims={"tier": "gold"}),)), id="key"),
        pytest.param(access(peers=(Peer(name="n", uid=1000, agent="web", models=("small",),
                                        endpoints=("models.list",), claims={"tier": "gold"}),)), id="peer"),
    ],
)  # fmt: skip
def test_a_proof_says_what_its_holder_may_do(proof: Access) -> None:
    """Agent, models and claims come from the configuration; what the request says of them changes nothing."""
    said = {"authorization": f"Bearer {TEXT}", "x_agent_id": "root", "tier": "x", "x_models": "all"}

    caller = identify(raw("models.list", 1000, **said), proof, 0)

    assert (GRANT.agent, GRANT.models, GRANT.claims) == (caller.agent, caller.models, caller.claims)


@pytest.mark.parametrize("endpoint", ["chat.completions", "", "models"])
def test_an_endpoint_that_is_not_granted_is_forbidden(endpoint: str) -> None:
    """Who may call some endpoints may call no other, one without a name included."""
    key = Key(name="n", sha256=HASH, endpoints=("models.list",))

    with pytest.raises(Forbidden) as refused:
        identify(raw(endpoint, authorization=f"Bearer {TEXT}"), access(keys=(key,)), 0)

    assert (403, "endpoint_not_allowed") == (refused.value.status, refused.value.code)
