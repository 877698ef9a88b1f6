"""Owns the reading of `handrail.yaml`: from text and environment to a checked Config, every problem with its place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from proxy.config.settings import Config
from proxy.documents import Problems, Source, Text, check, read
from proxy.errors import ConfigError
from proxy.server.address import UNIX
from proxy.terms import Json

OPENAI_URL = "https://api.openai.com/v1"
SIMULATED = "simulated"
"""The dialect that names the built-in simulated model instead of a file in `providers/`."""
MAX_PORT = 65535
FOR_EVERYBODY = 0o002
"""The bit of a mode that lets every user connect to a Unix socket (unix(7))."""
NO_PROVIDERS = (
    "no `providers`: name one, such as `providers: {openai: {dialect: openai, base_url: https://api.openai.com/v1, "
    "api_key_env: OPENAI_API_KEY}}`, or to try things `providers: {model: {dialect: simulated, prices: openai}}`"
)
OPENED = {
    "listen": "can be reached from other machines: set `auth: {keys_file: …}` or listen on 127.0.0.1",
    "socket_mode": "lets every user of this machine call: set `auth: {peers: …}` or another mode",
}

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

_POSTGRES_URL = re.compile(
    r"postgres(ql)?://([^@/:?#\s]+@)?(\[[0-9A-Fa-f:.]+\]|[^@/:?#\s\[\]]*)(:[0-9]{1,5})?(/[^/?#\s]*)?(\?[^#\s]*)?"
)
_REDIS_URL = re.compile(r"rediss?://([^@/:?#\s]+@)?(\[[0-9A-Fa-f:.]+\]|[^@/:?#\s\[\]]+)(:[0-9]{1,5})?(/[0-9]+)?")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A config that was read: its values, the files it came from, and where each value stands."""

    config: Config
    text: Text
    folder: Path
    simulated: bool
    """Some provider is the simulated model, which `app` has to start."""


def load(source: Source | None, environment: Mapping[str, str], folder: Path) -> Loaded:
    """Read a config, or the embedded defaults if there is none; raise ConfigError with every problem at once.

    `folder` is what relative paths in it start from.
    """
    problems = Problems()
    text = _text(source or _defaults(environment), environment, problems)
    if not check(text, _schema(), problems):
        raise ConfigError(problems.found)
    config = msgspec.convert(text.value, Config, strict=False)
    _check_names(config, text, problems)
    if problems.found:
        raise ConfigError(problems.found)
    simulated = any(provider.dialect == SIMULATED for provider in config.providers.values())
    return Loaded(config=config, text=text, folder=folder, simulated=simulated)


def _defaults(environment: Mapping[str, str]) -> Source:
    if "OPENAI_API_KEY" in environment:
        provider = f"openai: {{dialect: openai, base_url: {OPENAI_URL}, api_key_env: OPENAI_API_KEY}}"
    else:
        provider = f"simulated: {{dialect: {SIMULATED}, prices: openai}}"
    return Source(path="(defaults)", text=f"providers: {{{provider}}}\n")


def _text(source: Source, environment: Mapping[str, str], problems: Problems) -> Text:
    texts = read(source, problems)
    if problems.found:
        raise ConfigError(problems.found)
    if len(texts) != 1 or not isinstance(texts[0].value, dict):
        raise ConfigError([f"{source.path}:1:1: a config is one YAML mapping"])
    text = texts[0]
    value = _substituted(text.value, (), text, environment, problems)
    if problems.found:
        raise ConfigError(problems.found)
    return msgspec.structs.replace(text, value=value)


def _substituted(
    value: Json, path: tuple[str | int, ...], text: Text, environment: Mapping[str, str], problems: Problems
) -> Json:
    """Put the environment's values in place of `${NAME}` and `${NAME:-default}`."""
    if isinstance(value, dict):
        return {key: _substituted(item, (*path, key), text, environment, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, (*path, index), text, environment, problems) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def one(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name not in environment and default is None:
            problems.add(text.at(path), f"the environment has no {name}: set it, or write ${{{name}:-default}}")
        return environment.get(name, default or "")

    return _VARIABLE.sub(one, value)


def _schema() -> bytes:
    return Path(__file__).with_name("config.schema.json").read_bytes()


def _check_names(config: Config, text: Text, problems: Problems) -> None:
    """Check that every name a value refers to exists."""
    if not config.providers:
        problems.add(text.at(()), NO_PROVIDERS)
    models = (*config.models, *config.pools)
    for name, model in config.models.items():
        _refers(text, ("models", name, "provider"), "provider", model.provider, config.providers, problems)
    for name, aliases in config.pools.items():
        if name in config.models:
            problems.add(text.at_key(("pools", name)), f"`{name}` is already a model")
        for index, alias in enumerate(aliases):
            _refers(text, ("pools", name, index), "model", alias, config.models, problems)
    if config.default_model:
        _refers(text, ("default_model",), "model or pool", config.default_model, models, problems)
    if config.default_provider:
        _refers(text, ("default_provider",), "provider", config.default_provider, config.providers, problems)
    for at, url in _redis_urls(config):
        if not _REDIS_URL.fullmatch(url):
            # It may have a password in it, so it is not shown.
            problems.add(
                text.at(at),
                "this is no address such as redis://user@host:6379; "
                "a password goes into `password_env` or `password_file`",
            )
    if config.tiers.warm and not _POSTGRES_URL.fullmatch(config.tiers.warm.postgres.url):
        problems.add(
            text.at(("tiers", "warm", "postgres", "url")),
            "this is no address such as postgresql://user@host:5432/database; a password goes into `password_env` or "
            "`password_file`",
        )
    if config.unlisted_models == "default" and not config.default_model:
        problems.add(text.at(("unlisted_models",)), "`default` needs a `default_model`")
    for key in ("listen", "health_listen", "admin_listen"):
        port = getattr(config, key).rpartition(":")[2]
        if port.isdecimal() and int(port) > MAX_PORT:
            problems.add(text.at((key,)), f"{port} is no port: the highest is {MAX_PORT}")
    if not is_loopback(config.admin_listen):
        problems.add(text.at(("admin_listen",)), "the admin listener must be on a loopback address or a unix socket")
    _check_access(config, text, problems)


def _check_access(config: Config, text: Text, problems: Problems) -> None:
    """Check that whoever can reach the listener has to prove who calls, unless only this user can."""
    key = opened_by(config)
    if key and config.auth is None:
        problems.add(text.at((key,)), f"{getattr(config, key)} {OPENED[key]}")
    if config.auth and config.auth.peers and not config.listen.startswith(UNIX):
        problems.add(text.at(("auth", "peers")), f"only a Unix socket tells who calls: `listen` is {config.listen}")


def opened_by(config: Config) -> str:
    """Return the key that lets others than this machine, or this user, reach the listener; empty if they cannot."""
    if not is_loopback(config.listen):
        return "listen"
    by_all = config.listen.startswith(UNIX) and int(config.socket_mode, 8) & FOR_EVERYBODY
    return "socket_mode" if by_all else ""


def _redis_urls(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    if config.budgets:
        yield ("budgets", "redis", "url"), config.budgets.redis.url
    if config.tiers.hot:
        yield ("tiers", "hot", "redis", "url"), config.tiers.hot.redis.url


def _refers(
    text: Text, path: tuple[str | int, ...], what: str, name: str, known: Collection[str], problems: Problems
) -> None:
    if name not in known:
        problems.add(text.at(path), f"there is no {what} `{name}`", name, known)


def is_loopback(address: str) -> bool:
    """Say whether an address can be reached from this host alone; a name but `localhost` may be any machine's."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
