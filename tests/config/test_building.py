"""Owns the proof of proxy/config/building.py: what a config comes to, and what of it cannot be."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from proxy import config
from proxy.errors import Unauthenticated
from proxy.identity import new_key
from proxy.terms import RawRequest
from tests.config.written import ASK, BASE, MILLION, MODEL_PRICE, UNKNOWN, build, changed, cost, load, problems, sent


def test_default_provider_takes_unlisted_models() -> None:
    """With several providers only the default one gets what nobody configured."""
    two = {"two": {"dialect": "openai", "base_url": "http://127.0.0.1:2/v1"}}
    tree = {**BASE, "providers": {**BASE["providers"], **two}, "default_provider": "two"}

    assert "two" == build(tree).table.asked("new")[0].provider


def test_an_unknown_price_can_have_a_ceiling() -> None:
    """`unknown_price: {ceiling: …}` is what a model is taken to cost whose price nobody knows."""
    snapshot = build(changed("unknown_price", {"ceiling": MODEL_PRICE}))

    assert ("ceiling", 2 * 10**9) == (snapshot.unknown_price, cost(snapshot, UNKNOWN, input_tokens=MILLION))


def test_a_key_file_is_read(tmp_path: Path) -> None:
    """`api_key_file` gives the credential, without the line's end."""
    (tmp_path / "key").write_text("sk-file\n")

    assert "Bearer sk-file" == sent(build(changed("providers.one.api_key_file", "key"), tmp_path)).auth.reveal()


@pytest.mark.parametrize(
    ("options", "url"),
    [
        pytest.param({}, "http://127.0.0.1:1/openai/v1/chat/completions", id="none"),
        pytest.param(
            {"api_version": "2024-10-21"},
            "http://127.0.0.1:1/openai/deployments/large/chat/completions?api-version=2024-10-21",
            id="another version",
        ),
    ],
)
def test_a_dialect_has_options_of_its_own(options: dict[str, str], url: str) -> None:
    """They change what is sent."""
    provider = {"dialect": "azure", "base_url": "http://127.0.0.1:1", "options": options}

    assert url == sent(build(changed("providers.one", provider))).url


@pytest.mark.parametrize(
    ("provider", "what"),
    [
        pytest.param("dialect: azure, options: {version: x}", "unknown field `version`", id="no such option"),
        pytest.param("dialect: azure, options: {entra: x}", "Expected `bool`, got `str` - at `$.entra`", id="type"),
        pytest.param("dialect: openai, options: {entra: true}", "unknown field `entra`", id="not of this dialect"),
    ],
)
def test_options_are_those_of_the_dialect(provider: str, what: str) -> None:
    """Others are a mistake, told with its place."""
    (said,) = problems(f"providers: {{one: {{base_url: 'http://a/v1', {provider}}}}}\n")

    assert said.startswith("handrail.yaml:1:")
    assert what in said


def test_keys_are_asked_for(tmp_path: Path) -> None:
    """With `auth.keys_file` a caller without a key is turned away, and one with a key is known by its name."""
    key, digest = new_key(bytes(16))
    (tmp_path / "keys.yaml").write_text(f"- {{name: web, sha256: {digest}}}\n")
    snapshot = build({**BASE, "auth": {"keys_file": "keys.yaml"}}, tmp_path)
    bearer = RawRequest(method="POST", path="/", headers={"authorization": f"Bearer {key}"}, body=b"", peer="p")

    assert "key:web" == snapshot.identify(bearer, 0).principal
    with pytest.raises(Unauthenticated):
        snapshot.identify(ASK, 0)


def test_a_key_may_call_only_endpoints_that_there_are(tmp_path: Path) -> None:
    """A scope that names no endpoint is a mistake, told with the key's name."""
    (tmp_path / "keys").write_text(f"- {{name: web, sha256: {'0' * 64}, endpoints: [chat]}}\n")

    said = problems(yaml.safe_dump({**BASE, "auth": {"keys_file": "keys"}}), tmp_path)

    assert ["keys: web: there is no endpoint `chat`"] == [problem[:38] for problem in said]


@pytest.mark.parametrize(
    "who", [{"uid": os.getuid()}, {"user": pwd.getpwuid(os.getuid()).pw_name}], ids=["uid", "user"]
)
def test_peers_are_users_of_this_machine(who: dict[str, Any]) -> None:
    """`auth.peers` knows a user by number or name, and says what it may do; another user is turned away."""
    peer = {"name": "web", "agent": "shop", "models": ["large"], "claims": {"tier": "gold"}, **who}
    snapshot = build({**BASE, "listen": "unix:/s", "socket_mode": "0666", "auth": {"peers": [peer]}})

    caller = snapshot.identify(replace(ASK, uid=os.getuid()), 0)

    assert ("peer:web", "shop", ("large",), {"tier": "gold"}) == (
        caller.principal,
        caller.agent,
        caller.models,
        caller.claims,
    )
    with pytest.raises(Unauthenticated):
        snapshot.identify(replace(ASK, uid=os.getuid() + 1), 0)


def test_a_revision_names_the_content() -> None:
    """The revision changes with the configuration and only with it."""
    assert build(BASE).revision == build(BASE).revision != build(changed("agent.id", "b")).revision


def test_everything_that_means_a_reload_is_watched(tmp_path: Path) -> None:
    """Policies, what stands beside them, the kill switch and key files are watched."""
    (tmp_path / "pack").mkdir()
    text = yaml.safe_dump(
        {
            **changed("providers.one.api_key_file", "key"),
            "policies": ["pack"],
            "kill_switch": "kill.yaml",
            "auth": {"keys_file": "keys.yaml"},
        }
    )

    names = {path.relative_to(tmp_path).as_posix() for path in config.watched(load(text, tmp_path))}

    beside = {f"pack/{name}.yaml" for name in ("policy", "topics", "tests")}
    assert beside | {"policies.lock", "kill.yaml", "key", "keys.yaml"} <= names


@pytest.mark.parametrize(
    ("name", "content", "tree"),
    [
        pytest.param("key", b"\n", changed("providers.one.api_key_file", "key"), id="empty key file"),
        pytest.param("key", b"\xff", changed("providers.one.api_key_file", "key"), id="key file that is no text"),
        pytest.param("keys", b"- {name: x}", {**BASE, "auth": {"keys_file": "keys"}}, id="broken keys file"),
        pytest.param("policy.yaml", b"a: b", {**BASE, "policies": ["policy.yaml"]}, id="broken policy"),
        pytest.param("policy.yaml", b"\xff", {**BASE, "policies": ["policy.yaml"]}, id="policy that is no text"),
    ],
)
def test_broken_files_are_told(name: str, content: bytes, tree: dict[str, Any], tmp_path: Path) -> None:
    """A file that cannot be used is named in the problem."""
    (tmp_path / name).write_bytes(content)

    assert any(name in problem for problem in problems(yaml.safe_dump(tree), tmp_path))
