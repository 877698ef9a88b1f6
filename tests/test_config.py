"""Owns the proof of proxy/config.py: every key changes something, every mistake is told with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import accounting, config
from proxy.documents import Source
from proxy.errors import ConfigError, Unauthenticated
from proxy.identity import new_key
from proxy.snapshot import Limits, Snapshot
from proxy.terms import Level, Message, RawRequest, Request, Target, Usage

PRICES = accounting.price_table()
AT_MS = 1_767_225_600_000
SCHEMA = json.loads((Path(config.__file__).with_name("config.schema.json")).read_text())
MODEL_PRICE = {"input_usd_per_mtok": 2, "output_usd_per_mtok": 10}
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, when: 'true', action: deny}]}
"""
BASE: dict[str, Any] = {
    "providers": {"one": {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"large": {"provider": "one", "price": MODEL_PRICE}},
}
ENVIRONMENT = {"KEY": "sk-1", "NAME": "web"}
ASK = RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=b"", peer="p")


def load(text: str, folder: Path = Path()) -> config.Loaded:
    """Read a config text."""
    return config.load(Source(path="handrail.yaml", text=text), ENVIRONMENT, folder)


def build(tree: dict[str, Any], folder: Path = Path()) -> Snapshot:
    """Compile a config tree."""
    loaded = load(yaml.safe_dump(tree), folder)
    return config.build(loaded, ENVIRONMENT, simulated_url="http://127.0.0.1:2/v1", prices=PRICES)


def problems(text: str, folder: Path = Path()) -> list[str]:
    """Return what is wrong with a config text."""
    with pytest.raises(ConfigError) as caught:
        config.build(load(text, folder), ENVIRONMENT, simulated_url="", prices=PRICES)
    return caught.value.problems


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the base config with one value set, at a path like `models.large.tags`."""
    tree: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BASE))
    *folders, name = path.split(".")
    spot = tree
    for folder in folders:
        spot = spot.setdefault(folder, {})
    spot[name] = value
    return tree


def sent(snapshot: Snapshot, model: str = "large") -> Any:
    """Return the call that goes upstream for a model."""
    request = Request(
        dialect="chat", model=model, messages=(Message(role="user", text="x"),), body={"model": model}, raw=b"{}"
    )
    target = snapshot.table.asked(model)[0]
    return snapshot.providers[target.provider].encode(request, target)


def cost(snapshot: Snapshot, target: Target, input_tokens: int = 0, output_tokens: int = 0) -> int | None:
    """Return what a usage costs at a target, None where no price is known."""
    price = snapshot.price(target, AT_MS, "")
    return price.cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens)).nanousd if price else None


UNKNOWN = Target(alias="new", provider="one", model="new")
MILLION = 10**6
"""One dollar per million tokens is 1000 nano-dollars per token, so a million tokens cost 10**9."""


# --- each key changes something -------------------------------------------------------------------------------------

Look = Callable[[Snapshot], object]
KEYS: dict[str, tuple[object, Look, object, object]] = {
    "agent.id": ("web", lambda s: s.identify(ASK, 0).agent, "agent", "web"),
    "agent.level": ("assist", lambda s: s.identify(ASK, 0).level, Level.EXECUTE, Level.ASSIST),
    "agent.tenant": ("acme", lambda s: s.identify(ASK, 0).tenant, "", "acme"),
    "providers.one.base_url": (
        "http://127.0.0.1:9/v2",
        lambda s: sent(s).url,
        "http://127.0.0.1:1/v1/chat/completions",
        "http://127.0.0.1:9/v2/chat/completions",
    ),
    "providers.one.dialect": (
        "simulated",
        lambda s: sent(s).url,
        "http://127.0.0.1:1/v1/chat/completions",
        "http://127.0.0.1:1/v1/chat/completions",
    ),
    "providers.one.api_key_env": (
        "KEY",
        lambda s: sent(s).auth and sent(s).auth.reveal(),
        None,
        "Bearer sk-1",
    ),
    "providers.one.headers": ({"x-team": "a"}, lambda s: sent(s).headers.get("x-team"), None, "a"),
    "providers.one.prices": (
        "openai",
        lambda s: cost(s, Target(alias="n", provider="one", model="gpt-4o"), input_tokens=MILLION) is not None,
        False,
        True,
    ),
    "models.large.model": ("gpt-x", lambda s: s.table.targets["large"].model, "large", "gpt-x"),
    "models.large.tags": (["tools"], lambda s: s.table.targets["large"].tags, (), ("tools",)),
    "models.large.context": (9, lambda s: s.table.targets["large"].context, 0, 9),
    "models.large.max_output": (9, lambda s: s.table.targets["large"].max_output, 0, 9),
    "models.large.price": (
        {"input_usd_per_mtok": "0.5", "output_usd_per_mtok": 1},
        lambda s: cost(s, s.table.targets["large"], input_tokens=MILLION),
        2 * 10**9,
        5 * 10**8,
    ),
    "pools": ({"both": ["large"]}, lambda s: len(s.table.expand("both")), 0, 1),
    "default_model": ("large", lambda s: s.table.default_model, "", "large"),
    "default_provider": ("one", lambda s: s.table.asked("new")[0].provider, "one", "one"),
    "unlisted_models": ("deny", lambda s: s.table.unlisted, "pass", "deny"),
    "unknown_price": ("mark", lambda s: s.unknown_price, "deny", "mark"),
    "prices": (
        {"one/new": MODEL_PRICE},
        lambda s: cost(s, UNKNOWN, output_tokens=MILLION),
        None,
        10 * 10**9,
    ),
}
LIMITS = dict.fromkeys(Limits.__struct_fields__, 7) | {
    "max_body_bytes": 2048,
    "max_reply_bytes": 2048,
    "max_attempts": 2,
}


@pytest.mark.parametrize("key", KEYS)
def test_key_changes_behaviour(key: str) -> None:
    """Setting the key changes what the compiled configuration does."""
    value, look, before, after = KEYS[key]

    assert (before, after) == (look(build(BASE)), look(build(changed(key, value))))


@pytest.mark.parametrize("name", LIMITS)
def test_limit_reaches_the_walk(name: str) -> None:
    """Each limit is taken over; what it does is proven where it acts."""
    assert LIMITS[name] == getattr(build(changed(f"limits.{name}", LIMITS[name])).limits, name)


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


def test_keys_are_asked_for(tmp_path: Path) -> None:
    """With `auth.keys_file` a caller without a key is turned away, and one with a key is known by its name."""
    key, digest = new_key(bytes(16))
    (tmp_path / "keys.yaml").write_text(f"- {{name: web, sha256: {digest}}}\n")
    snapshot = build({**BASE, "auth": {"keys_file": "keys.yaml"}}, tmp_path)
    bearer = RawRequest(method="POST", path="/", headers={"authorization": f"Bearer {key}"}, body=b"", peer="p")

    assert "key:web" == snapshot.identify(bearer, 0).principal
    with pytest.raises(Unauthenticated):
        snapshot.identify(ASK, 0)


@pytest.mark.parametrize("entry", ["pack", "pack/policy.yaml", "*/policy.yaml"])
def test_policies_are_found(entry: str, tmp_path: Path) -> None:
    """An entry of `policies` is a pack's folder, a file or a glob."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY)

    assert ["p"] == [document.name for document in build({**BASE, "policies": [entry]}, tmp_path).policies.documents]


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


def test_a_revision_names_the_content() -> None:
    """The revision changes with the configuration and only with it."""
    assert build(BASE).revision == build(BASE).revision != build(changed("agent.id", "b")).revision


def test_everything_that_means_a_reload_is_watched(tmp_path: Path) -> None:
    """Policies, their guards' files and key files are watched."""
    (tmp_path / "pack").mkdir()
    text = yaml.safe_dump(
        {
            **changed("providers.one.api_key_file", "key"),
            "policies": ["pack"],
            "auth": {"keys_file": "keys.yaml"},
        }
    )

    names = {path.relative_to(tmp_path).as_posix() for path in config.watched(load(text, tmp_path))}

    assert {"pack/policy.yaml", "pack/topics.yaml", "key", "keys.yaml"} <= names


PROVEN_ELSEWHERE = {
    "listen": "tests/test_app.py::test_three_listeners",
    "health_listen": "tests/test_app.py::test_three_listeners",
    "admin_listen": "tests/test_app.py::test_three_listeners",
    "admin_token_file": "tests/test_app.py::test_admin_token_file",
    "auth.keys_file": "tests/test_config.py::test_keys_are_asked_for",
    "providers.*.api_key_file": "tests/test_config.py::test_a_key_file_is_read",
    "models.*.provider": "tests/test_config.py::test_mistakes_are_told_with_their_place",
    "policies": "tests/test_config.py::test_policies_are_found",
    "state.path": "tests/test_app.py::test_state_path",
    **dict.fromkeys(
        ("handoff.url", "handoff.secret_file", "handoff.timeout_s"),
        "tests/test_app.py::test_a_packet_reaches_the_webhook",
    ),
    "telemetry.otlp_endpoint": "tests/test_app.py::test_spans_are_sent",
    "telemetry.sample": "tests/test_app.py::test_spans_are_sent",
    "telemetry.log_level": "tests/test_app.py::test_log_level",
    **dict.fromkeys((f"limits.{name}" for name in LIMITS), "tests/test_config.py::test_limit_reaches_the_walk"),
}


def keys_of(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return the path of every key that a schema accepts; `*` stands for a name that the user chooses."""
    if "$ref" in schema or schema.get("type") != "object":
        return {path}
    found = {name: f"{path}.{name}".lstrip(".") for name in schema.get("properties", {})}
    keys = {key for name, below in found.items() for key in keys_of(schema["properties"][name], below)}
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and more.get("type") == "object":
        return keys | keys_of(more, f"{path}.*")
    return keys or {path}


def test_every_key_has_its_proof() -> None:
    """The schema's keys are exactly those of the two tables: a key that changes nothing is not accepted."""
    tested = {key.replace(".one.", ".*.").replace(".large.", ".*.") for key in KEYS} | set(PROVEN_ELSEWHERE)

    assert (set(), set()) == (keys_of(SCHEMA) - tested, tested - keys_of(SCHEMA))


# --- every mistake is told ------------------------------------------------------------------------------------------

PROVIDER = "providers: {one: {dialect: openai, base_url: 'http://127.0.0.1:1/v1'}}\n"


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
                "handrail.yaml:2:24: there is no `on` (did you mean `one`?)",
                "handrail.yaml:3:13: there is no `b`",
                "handrail.yaml:3:17: `a` is already a model",
                "handrail.yaml:4:16: there is no `c`",
                "handrail.yaml:5:19: there is no `d`",
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
            ["handrail.yaml:1:28: there is no 'opnai' in providers", "handrail.yaml:1:66: `two` needs a `base_url`"],
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
        pytest.param(PROVIDER + "policies: [gone]\n", ["handrail.yaml:2:12: no file matches gone"], id="no policy"),
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


def test_a_broken_guard_file_is_told(tmp_path: Path) -> None:
    """The file that teaches a guard is checked like a policy."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "topics.yaml").write_text("kind: Topics\n")

    assert any(
        "topics.yaml" in problem
        for problem in problems(yaml.safe_dump({**BASE, "policies": ["policy.yaml"]}), tmp_path)
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("unix:/run/a.sock", True),
        ("127.8.9.1:1", True),
        ("0.0.0.0:1", False), ("10.0.0.1:1", False), ("127.evil.com:1", False), ("[::]:1", False),
    ],
)  # fmt: skip
def test_loopback_is_known(address: str, expected: bool) -> None:
    """Only what this host alone can reach counts as loopback."""
    assert expected is config.is_loopback(address)
