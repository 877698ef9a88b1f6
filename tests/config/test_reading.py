"""Owns the proof of proxy/config/reading.py: what is written is taken over, every mistake is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy import config
from tests.config.written import BASE, PROVIDER, load, problems


def test_the_environment_is_put_in() -> None:
    """`${NAME}` is the variable, `${NAME:-x}` falls back; other dollars stay."""
    text = yaml.safe_dump(BASE) + "agent: {id: '${NAME}', tenant: '${NONE:-t}$'}\n"

    assert ("web", "t$") == (load(text).config.agent.id, load(text).config.agent.tenant)


def test_without_a_file_the_environment_decides() -> None:
    """No file and no key is the simulated model; with OPENAI_API_KEY it is OpenAI."""
    simulated = config.load(None, {}, Path())
    real = config.load(None, {"OPENAI_API_KEY": "sk"}, Path())

    assert (True, False) == (simulated.simulated, real.simulated)
    assert config.OPENAI_URL == real.config.providers["openai"].base_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("- a\n", ["handrail.yaml:1:1: a config is one YAML mapping"], id="not a mapping"),
        pytest.param("a: [\n", ["handrail.yaml:2:1: this is not YAML"], id="not YAML"),
        pytest.param("agent: {}\n", ["handrail.yaml:1:1: no `providers`"], id="no providers"),
        pytest.param(
            PROVIDER + "lisen: a\nagent: {levl: x}\n",
            [
                "handrail.yaml:2:1: unknown key `lisen` (did you mean `listen`?)",
                "handrail.yaml:3:9: unknown key `levl`",
            ],
            id="unknown keys, all at once",
        ),
        pytest.param(
            PROVIDER + "agent: {id: '${NOBODY}'}\n",
            ["handrail.yaml:2:13: the environment has no NOBODY"],
            id="missing variable",
        ),
        pytest.param(
            PROVIDER + "models: {a: {provider: on}}\npools: {p: [b], a: [a]}\ndefault_model: c\ndefault_provider: d\n",
            [
                "handrail.yaml:2:24: there is no provider `on` (did you mean `one`?)",
                "handrail.yaml:3:13: there is no model `b`",
                "handrail.yaml:3:17: `a` is already a model",
                "handrail.yaml:4:16: there is no model or pool `c`",
                "handrail.yaml:5:19: there is no provider `d`",
            ],
            id="names that are not there",
        ),
        pytest.param(
            PROVIDER + "unlisted_models: default\n",
            ["handrail.yaml:2:18: `default` needs a `default_model`"],
            id="default without a model",
        ),
        pytest.param(
            PROVIDER + "listen: 0.0.0.0:80\nadmin_listen: 10.0.0.1:1\n",
            ["handrail.yaml:3:15: the admin listener must be", "handrail.yaml:2:9: 0.0.0.0:80 can be reached"],
            id="open to others",
        ),
        pytest.param(
            PROVIDER + "listen: '[::ffff:0.0.0.0]:80'\n",
            ["handrail.yaml:2:9: [::ffff:0.0.0.0]:80 can be reached"],
            id="open to others by another spelling",
        ),
        pytest.param(
            PROVIDER + "listen: unix:/run/h.sock\nsocket_mode: '0662'\n",
            ["handrail.yaml:3:14: 0662 lets every user of this machine call: set `auth: {peers: …}` or another mode"],
            id="open to every user",
        ),
        pytest.param(
            PROVIDER + "auth: {peers: [{name: web, uid: 1}]}\n",
            ["handrail.yaml:2:15: only a Unix socket tells who calls: `listen` is 127.0.0.1:8321"],
            id="peers that nobody can tell",
        ),
        pytest.param(
            PROVIDER + "listen: unix:/s\nauth: {peers: [{name: a, uid: 1}, {name: b, uid: 1, endpoints: [chat]}, "
            "{name: a, user: nobody-here}]}\n",
            [
                "handrail.yaml:3:35: there is no endpoint `chat`",
                "handrail.yaml:3:35: the name b, or its user, is there twice",
                "handrail.yaml:3:73: this machine has no user nobody-here",
                "handrail.yaml:3:73: the name a, or its user, is there twice",
            ],
            id="peers that cannot be",
        ),
        pytest.param(
            PROVIDER + "health_listen: 127.0.0.1:65536\n",
            ["handrail.yaml:2:16: 65536 is no port: the highest is 65535"],
            id="no port",
        ),
        pytest.param(
            PROVIDER + "admin_token_file: gone\n",
            ["handrail.yaml:2:19: gone cannot be read: No such file or directory"],
            id="missing token file",
        ),
        pytest.param(
            "providers: {one: {dialect: opnai, base_url: 'http://a/v1'}, two: {dialect: openai}}\n",
            [
                "handrail.yaml:1:28: there is no dialect `opnai`, only ",
                "handrail.yaml:1:66: `two` needs a `base_url`",
            ],
            id="providers that cannot be",
        ),
        pytest.param(
            "providers: {one: {dialect: openai, base_url: 'http://a/v1', api_key_env: GONE}}\n",
            ["handrail.yaml:1:74: the environment has no GONE"],
            id="missing key",
        ),
        pytest.param(
            "providers: {one: {dialect: openai, base_url: 'http://a/v1', api_key_file: gone}}\n",
            ["handrail.yaml:1:75: gone cannot be read: No such file or directory"],
            id="missing key file",
        ),
        pytest.param(
            PROVIDER + "auth: {keys_file: gone}\n",
            ["handrail.yaml:2:19: gone cannot be read"],
            id="missing keys file",
        ),
        pytest.param(
            PROVIDER + "budgets: {redis: {url: 'redis://h:1', password_env: GONE}}\n",
            ["handrail.yaml:2:53: the environment has no GONE"],
            id="missing password",
        ),
        pytest.param(
            PROVIDER + "budgets: {redis: {url: 'redis://h:1', password_file: gone}}\n",
            ["handrail.yaml:2:54: gone cannot be read"],
            id="missing password file",
        ),
        pytest.param(
            PROVIDER + "budgets: {redis: {url: 'redis://:secret@h:1'}}\n",
            ["handrail.yaml:2:24: this is no address such as redis://user@host:6379; a password goes into"],
            id="a password where it is seen",
        ),
        pytest.param(PROVIDER + "policies: [gone]\n", ["handrail.yaml:2:12: no file matches gone"], id="no policy"),
        pytest.param(
            PROVIDER + "policies: [.]\n",
            ["handrail.yaml:2:12: . has no policy.yaml: name a pack's folder; for all packs in it write */policy.yaml"],
            id="a folder of packs",
        ),
        pytest.param(
            PROVIDER + "prices: {one/x: {input_usd: 1}}\n",
            ["handrail.yaml: prices.one/x.input_usd: unknown field"],
            id="unknown price field",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, expected: list[str]) -> None:
    """Each mistake is told as file:line:column with what to do, all of them at once."""
    found = problems(text)

    assert (len(expected), []) == (
        len(found),
        [e for e, f in zip(expected, found, strict=False) if not f.startswith(e)],
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("unix:/run/a.sock", True),
        ("127.8.9.1:1", True),
        ("[0:0::1]:1", True),
        ("0.0.0.0:1", False), ("10.0.0.1:1", False), ("127.evil.com:1", False), ("[::]:1", False),
        (":1", False), ("*:1", False), ("0:1", False), ("handrail.internal:1", False), ("localhost.evil:1", False),
        ("[::ffff:0.0.0.0]:1", False), ("[::ffff:10.0.0.1]:1", False), ("[fe80::1]:1", False), ("127.0.0.256:1", False),
    ],
)  # fmt: skip
def test_loopback_is_known(address: str, expected: bool) -> None:
    """Only what this host alone can reach counts as loopback."""
    assert expected is config.is_loopback(address)
