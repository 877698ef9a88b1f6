"""Owns the proof that `auth` becomes the proofs that it names, and that none of its keys is without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from proxy import config
from proxy.errors import HandrailError
from proxy.terms import RawRequest
from tests.config.written import ASK, BASE, build, load, problems
from tests.identity.issuing import AT_S, AUDIENCE, NAME, SUBJECT, claims, jwks, token

JWT = {"issuer": NAME, "audience": AUDIENCE, "jwks_file": "jwks.json"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an issuer's keys, and what else the configurations here name."""
    (tmp_path / "jwks.json").write_bytes(jwks())
    (tmp_path / "ca.pem").write_text("x")
    return tmp_path


def seen(folder: Path, changed: dict[str, Any], said: dict[str, object], at_s: int = AT_S) -> Any:
    """Return who a caller with a token is under `auth.jwt`, or the code of the refusal."""
    snapshot = build({**BASE, "auth": {"jwt": {**JWT, **changed}}}, folder)
    raw = RawRequest(
        method="POST", path="/", headers={"authorization": f"Bearer {token(said)}"}, body=b"", peer="p", endpoint="e"
    )
    try:
        return snapshot.identify(raw, at_s * 1000)
    except HandrailError as error:
        return error.code


@pytest.mark.parametrize(
    ("changed", "said", "at_s", "before", "after"),
    [
        pytest.param({"issuer": "x"}, {"iss": "x"}, AT_S, False, True, id="issuer"),
        pytest.param({"audience": "x"}, {"aud": "x"}, AT_S, False, True, id="audience"),
        pytest.param({"algorithms": ["RS256"]}, {}, AT_S, True, False, id="algorithms"),
        pytest.param({"leeway_s": 0}, {}, AT_S + 601, True, False, id="leeway_s"),
        pytest.param({"subjects": {"other": {}}}, {}, AT_S, True, False, id="subjects"),
    ],
)
def test_key_changes_who_is_let_in(
    folder: Path, changed: dict[str, Any], said: dict[str, object], at_s: int, before: bool, after: bool
) -> None:
    """Each key of `auth.jwt` decides who gets in."""
    found = [seen(folder, more, claims(**said), at_s) for more in ({}, changed)]

    assert [before, after] == [not isinstance(caller, str) for caller in found]


def test_a_subject_is_what_config_says(folder: Path) -> None:
    """A projected service-account token: its subject is the principal, and config says which agent that is."""
    grant = {"agent": "support-web", "models": ["large"], "claims": {"tier": "gold"}}
    changed = {"claims": {"namespace": "/kubernetes.io/namespace"}, "subjects": {SUBJECT: grant}}

    caller = seen(folder, changed, claims(**{"kubernetes.io": {"namespace": "shop"}}))

    assert (f"jwt:{SUBJECT}", "support-web", ("large",)) == (caller.principal, caller.agent, caller.models)
    assert {"namespace": "shop", "tier": "gold"} == caller.claims


def test_without_a_token_nobody_is_let_in(folder: Path) -> None:
    """Where only tokens are configured, a call without one is refused; so is a Handrail key that nobody knows."""
    snapshot = build({**BASE, "auth": {"jwt": JWT}}, folder)
    for sent in ("", "Bearer hr_" + "0" * 40, "Basic x"):
        with pytest.raises(HandrailError) as refused:
            snapshot.identify(replace(ASK, headers={"authorization": sent}), AT_S * 1000)

        assert 401 == refused.value.status


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        pytest.param({"jwks_file": "gone"}, "gone cannot be read", id="no file"),
        pytest.param({"jwks_file": "ca.pem"}, "ca.pem: it is no JWK set", id="no key set"),
        pytest.param({"subjects": {"x": {"endpoints": ["chat"]}}}, "there is no endpoint `chat`", id="no endpoint"),
        pytest.param(
            {"jwks_url": "https://a/b"}, "`jwt` needs one of `jwks_file`, `jwks_url`, and only one", id="two places"
        ),
        pytest.param({"jwks_ca_file": "ca.pem"}, "jwks_url", id="an authority for a file"),
        pytest.param({"jwks_url": "http://a/b"}, "not an address such as https://issuer/keys", id="a set in the clear"),
        pytest.param({"algorithms": ["HS256"]}, "HS256", id="a shared secret"),
        pytest.param({"algorithms": ["none"]}, "none", id="no signature"),
    ],
)
def test_what_cannot_be_is_told(folder: Path, changed: dict[str, Any], problem: str) -> None:
    """A key set, an algorithm or a scope that cannot hold is a problem with its place."""
    jwt = {**JWT, **changed}
    if changed.get("jwks_url", "").startswith("http:"):
        del jwt["jwks_file"]

    found = problems(yaml.safe_dump({**BASE, "auth": {"jwt": jwt}}), folder)

    assert any(problem in one for one in found), found


def test_files_for_an_address_are_read(folder: Path) -> None:
    """What vouches for an address has to be there."""
    jwt = {"issuer": NAME, "audience": AUDIENCE, "jwks_url": "https://a/b"}
    missing = {**jwt, "jwks_ca_file": "gone", "jwks_token_file": "lost"}

    found = problems(yaml.safe_dump({**BASE, "auth": {"jwt": missing}}), folder)

    assert [True, True] == ["gone cannot be read" in found[0], "lost cannot be read" in found[1]]


def test_a_set_that_is_fetched_opens(folder: Path) -> None:
    """With an address it is asked what was fetched from there; without a set nobody is let in, and until then a missing
    key is told."""
    tree = {**BASE, "auth": {"jwt": {"issuer": NAME, "audience": AUDIENCE, "jwks_url": "https://a/b"}}}

    with pytest.raises(HandrailError) as refused:
        build(tree, folder).identify(replace(ASK, headers={"authorization": "Bearer a.a.a"}), 0)

    assert "issuer_away" == refused.value.code


def test_the_key_set_is_watched(folder: Path) -> None:
    """A changed file of keys means a reload."""
    watched = config.watched(load(yaml.safe_dump({**BASE, "auth": {"jwt": JWT}}), folder))

    assert folder / "jwks.json" in list(watched)


def test_without_the_extra_it_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever configures tokens without `handrail[jwt]` is told before anything listens."""
    import sys

    monkeypatch.setitem(sys.modules, "jwt", None)

    found = problems(yaml.safe_dump({**BASE, "auth": {"jwt": JWT}}), folder)

    assert ["`auth.jwt` needs the extra `jwt`: pip install 'handrail[jwt]'"] == found
