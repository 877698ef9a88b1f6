"""Owns `handrail.yaml`: from text and environment to a Snapshot, with every problem reported at once.

Reads files and the environment at start-up and at reload only; a running walk never sees any of it.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import msgspec

from proxy import accounting, identity, plugins, policy
from proxy.documents import Problems, Source, Text, check, read
from proxy.errors import ConfigError
from proxy.ports import Guard, Provider
from proxy.routing import Table, Unlisted
from proxy.snapshot import Limits, Price, Snapshot, UnknownPrice
from proxy.terms import Finding, Json, Level, ProviderSettings, Secret, Target
from proxy.wire import DIALECTS

OPENAI_URL = "https://api.openai.com/v1"
SIMULATED = "simulated"
"""The dialect that names the built-in simulated model instead of a file in `providers/`."""

POLICY_FILE = "policy.yaml"
MAX_PORT = 65535

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AgentSection(_Section, frozen=True, kw_only=True):
    """Which agent this Handrail stands beside."""

    id: str = "agent"
    level: Level = Level.EXECUTE
    tenant: str = ""


class ProviderSection(_Section, frozen=True, kw_only=True):
    """One provider; `prices` names the price book where the base URL does not give it away."""

    dialect: str
    base_url: str = ""
    api_key_env: str = ""
    api_key_file: str = ""
    prices: str = ""
    headers: Mapping[str, str] = {}


class ModelSection(_Section, frozen=True, kw_only=True):
    """One alias that agents may ask for."""

    provider: str
    model: str = ""
    tags: tuple[str, ...] = ()
    context: int = 0
    max_output: int = 0
    price: Mapping[str, str | float] = {}


class CeilingSection(_Section, frozen=True, kw_only=True):
    """What to take a model to cost whose price is not known."""

    ceiling: Mapping[str, str | float]


class AuthSection(_Section, frozen=True, kw_only=True):
    """Who may call."""

    keys_file: str


class StateSection(_Section, frozen=True, kw_only=True):
    """Where records and budgets are kept."""

    path: str = ".handrail/handrail.sqlite"


class TelemetrySection(_Section, frozen=True, kw_only=True):
    """Where spans go, how many, and how much is logged."""

    otlp_endpoint: str = ""
    sample: float = 1.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class HandoffSection(_Section, frozen=True, kw_only=True):
    """Where packets for humans go; with a secret they are signed."""

    url: str
    secret_file: str
    timeout_s: float = 10.0


class Config(_Section, frozen=True, kw_only=True):
    """The whole file, as written, with its defaults."""

    listen: str = "127.0.0.1:8321"
    health_listen: str = "127.0.0.1:8322"
    admin_listen: str = "127.0.0.1:8323"
    admin_token_file: str = ""
    auth: AuthSection | None = None
    agent: AgentSection = AgentSection()
    providers: Mapping[str, ProviderSection] = {}
    default_provider: str = ""
    models: Mapping[str, ModelSection] = {}
    pools: Mapping[str, tuple[str, ...]] = {}
    default_model: str = ""
    unlisted_models: Unlisted = "pass"
    unknown_price: Literal["deny", "mark"] | CeilingSection = "deny"
    prices: Mapping[str, Mapping[str, str | float]] = {}
    policies: tuple[str, ...] = ()
    state: StateSection = StateSection()
    handoff: HandoffSection | None = None
    telemetry: TelemetrySection = TelemetrySection()
    limits: Limits = Limits()


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


def build(
    loaded: Loaded, environment: Mapping[str, str], *, simulated_url: str, prices: accounting.PriceTable
) -> Snapshot:
    """Compile a config into a Snapshot; raise ConfigError with every problem at once."""
    return _Builder(loaded, environment, simulated_url, prices).snapshot()


# --- reading --------------------------------------------------------------------------------------------------------


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
        problems.add(text.at(()), "no `providers`: name at least one, e.g. providers: {openai: {dialect: openai, …}}")
    places = (*config.models, *config.pools)
    for name, model in config.models.items():
        _refers(text, ("models", name, "provider"), model.provider, config.providers, problems)
    for name, aliases in config.pools.items():
        if name in config.models:
            problems.add(text.at_key(("pools", name)), f"`{name}` is already a model")
        for index, alias in enumerate(aliases):
            _refers(text, ("pools", name, index), alias, config.models, problems)
    if config.default_model:
        _refers(text, ("default_model",), config.default_model, places, problems)
    if config.default_provider:
        _refers(text, ("default_provider",), config.default_provider, config.providers, problems)
    if config.unlisted_models == "default" and not config.default_model:
        problems.add(text.at(("unlisted_models",)), "`default` needs a `default_model`")
    for key in ("listen", "health_listen", "admin_listen"):
        port = getattr(config, key).rpartition(":")[2]
        if port.isdecimal() and int(port) > MAX_PORT:
            problems.add(text.at((key,)), f"{port} is no port: the highest is {MAX_PORT}")
    if not is_loopback(config.admin_listen):
        problems.add(text.at(("admin_listen",)), "the admin listener must be on a loopback address or a unix socket")
    if not is_loopback(config.listen) and config.auth is None:
        problems.add(
            text.at(("listen",)),
            f"{config.listen} can be reached from other machines: set `auth: {{keys_file: …}}` or listen on 127.0.0.1",
        )


def _refers(text: Text, path: tuple[str | int, ...], name: str, known: object, problems: Problems) -> None:
    names = list(cast("Mapping[str, object]", known))
    if name not in names:
        problems.add(text.at(path), f"there is no `{name}`", name, names)


def is_loopback(address: str) -> bool:
    """Say whether an address can be reached from this host alone."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}", host))


# --- building -------------------------------------------------------------------------------------------------------


class _Builder:
    def __init__(
        self, loaded: Loaded, environment: Mapping[str, str], simulated_url: str, prices: accounting.PriceTable
    ) -> None:
        self._config = loaded.config
        self._text = loaded.text
        self._folder = loaded.folder
        self._environment = environment
        self._simulated_url = simulated_url
        self._table = prices
        self._problems = Problems()

    def snapshot(self) -> Snapshot:
        config = self._config
        providers = {name: self._provider(name, section) for name, section in config.providers.items()}
        books = {name: self._book(section) for name, section in config.providers.items()}
        access = self._access()
        if config.admin_token_file:
            self._file(config.admin_token_file, "admin_token_file")
        if config.handoff:
            self._file(config.handoff.secret_file, "handoff", "secret_file")
        prices = self._prices()
        guards, policies = self._policies()
        if self._problems.found or prices is None or policies is None:
            raise ConfigError(self._problems.found)
        return Snapshot(
            revision=hashlib.sha256(
                msgspec.json.encode([self._text.value, policies.digest], order="sorted")
            ).hexdigest()[:16],
            identify=lambda raw, at_ms: identity.identify(raw, access, at_ms),
            dialects=DIALECTS,
            policies=policies,
            guards=guards,
            find=FUNCTIONS.find,
            providers={name: provider for name, provider in providers.items() if provider},
            table=self._routes(),
            price=self._pricer(prices, books),
            prices_digest=prices.digest,
            unknown_price=self._unknown_price(),
            limits=config.limits,
        )

    def _at(self, *path: str | int) -> str:
        return self._text.at(path)

    # providers, models, prices

    def _provider(self, name: str, section: ProviderSection) -> Provider | None:
        shelf = "openai" if section.dialect == SIMULATED else section.dialect
        try:
            create = cast("Callable[[ProviderSettings], Provider]", plugins.load("providers", shelf).create)
        except plugins.UnknownPlugin as error:
            self._problems.add(self._at("providers", name, "dialect"), str(error))
            return None
        url = section.base_url or (self._simulated_url if section.dialect == SIMULATED else "")
        if not url:
            self._problems.add(self._at("providers", name), f"`{name}` needs a `base_url`")
        return create(ProviderSettings(name=name, base_url=url, key=self._key(name, section), headers=section.headers))

    def _key(self, name: str, section: ProviderSection) -> Secret | None:
        if section.api_key_env:
            if key := self._environment.get(section.api_key_env, ""):
                return Secret(key)
            self._problems.add(
                self._at("providers", name, "api_key_env"),
                f"the environment has no {section.api_key_env}, or it is empty",
            )
        if section.api_key_file:
            key = self._file(section.api_key_file, "providers", name, "api_key_file").strip()
            return Secret(key) if key else None
        return None

    def _file(self, path: str, *place: str | int) -> str:
        try:
            text = (self._folder / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._problems.add(self._at(*place), f"{path} cannot be read: {_reason(error)}")
            return ""
        if not text.strip():
            self._problems.add(self._at(*place), f"{path} is empty")
        return text

    def _book(self, section: ProviderSection) -> str:
        return section.prices or self._table.vendor_of(section.base_url)

    def _prices(self) -> accounting.PriceTable | None:
        overrides = {alias: model.price for alias, model in self._config.models.items() if model.price}
        try:
            return self._table.with_overrides({**self._config.prices, **overrides})
        except ConfigError as error:
            for problem in error.problems:
                self._problems.add(self._text.path, problem)
            return None

    def _pricer(
        self, prices: accounting.PriceTable, books: Mapping[str, str]
    ) -> Callable[[Target, int, str], Price | None]:
        """Return the function that knows what a target costs: override, price book, then the configured ceiling."""
        unknown = self._config.unknown_price
        ceiling = None
        if isinstance(unknown, CeilingSection):
            ceiling = self._table.with_overrides({"ceiling": unknown.ceiling}).find("", "ceiling", 0)

        def price(target: Target, at_ms: int, mode: str) -> Price | None:
            book, model = books[target.provider], target.model
            return (
                prices.find(book, model, at_ms, mode=mode, alias=target.alias)
                or prices.find(book, model, at_ms, mode=mode, alias=f"{target.provider}/{model}")
                or ceiling
            )

        return price

    def _routes(self) -> Table:
        config = self._config
        only = next(iter(config.providers)) if len(config.providers) == 1 else ""
        return Table(
            targets={
                alias: Target(
                    alias=alias,
                    provider=model.provider,
                    model=model.model or alias,
                    tags=model.tags,
                    context=model.context,
                    max_output=model.max_output,
                )
                for alias, model in config.models.items()
            },
            pools=config.pools,
            default_model=config.default_model,
            default_provider=config.default_provider or only,
            unlisted=config.unlisted_models,
        )

    def _unknown_price(self) -> UnknownPrice:
        return "ceiling" if isinstance(self._config.unknown_price, CeilingSection) else self._config.unknown_price

    # who may call

    def _access(self) -> identity.Access:
        section, agent = self._config.auth, self._config.agent
        keys: tuple[identity.Key, ...] = ()
        if section:
            text = self._file(section.keys_file, "auth", "keys_file")
            try:
                keys = identity.load_keys(text, section.keys_file) if text.strip() else ()
            except ConfigError as error:
                self._problems.found += error.problems
        return identity.Access(agent=agent.id, level=agent.level, tenant=agent.tenant, keys=keys)

    # policies and the guards that they read

    def _guards(self, policies: list[Path]) -> dict[str, Guard]:
        try:
            return guards_of(policies)
        except ConfigError as error:
            self._problems.found += error.problems
            return {}

    def _policies(self) -> tuple[dict[str, Guard], policy.PolicySet | None]:
        files = [path for index, pattern in enumerate(self._config.policies) for path in self._found(index, pattern)]
        sources = [source for path in dict.fromkeys(files) if (source := self._source(path)) is not None]
        guards = self._guards(files)
        routes = {*self._config.models, *self._config.pools}
        try:
            policies = policy.load(
                sources,
                functions=FUNCTIONS,
                guards={name: guard.labels for name, guard in guards.items()},
                routes=routes,
            )
        except policy.PolicyProblems as error:
            self._problems.found += error.problems
            return guards, None
        return guards, policies

    def _found(self, index: int, pattern: str) -> list[Path]:
        found = policy_files(self._folder, pattern)
        if not found:
            self._problems.add(self._at("policies", index), f"no file matches {pattern}")
        return found

    def _source(self, path: Path) -> Source | None:
        try:
            return source_of(path)
        except ConfigError as error:
            self._problems.found += error.problems
            return None


def policies_of(paths: Sequence[Path]) -> policy.PolicySet:
    """Compile policy files by themselves, with the guards of their packs; raise ConfigError or PolicyProblems."""
    guards = guards_of(paths)
    return policy.load(
        [source_of(path) for path in paths],
        functions=FUNCTIONS,
        guards={name: guard.labels for name, guard in guards.items()},
    )


def guards_of(policies: Sequence[Path]) -> dict[str, Guard]:
    """Create every guard, each with the files beside the policies that are named like it (`topics.yaml` teaches the
    guard `topics`); one that learns from such a file is there only where a pack has it."""
    guards: dict[str, Guard] = {}
    for name in plugins.names("guards"):
        paths = dict.fromkeys(path.with_name(f"{name}.yaml") for path in policies)
        sources = [source_of(path) for path in paths if path.exists()]
        module = plugins.load("guards", name)
        if sources or not getattr(module, "LEARNS", False):
            guards[name] = module.create(sources)
    return guards


def source_of(path: Path) -> Source:
    """Read a file, named as seen from the working folder; raise ConfigError."""
    name = os.path.relpath(path)
    try:
        return Source(path=name, text=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name}: cannot be read: {_reason(error)}"]) from error


def _window_key(window: str, zone: str, at_ms: int) -> str:
    return accounting.window_key(accounting.Window(window), at_ms, accounting.zone_named(zone))


_FINDERS: tuple[Guard, ...] = tuple(plugins.load("guards", name).create(()) for name in ("pii", "secrets"))


@functools.lru_cache(maxsize=512)
def _found(text: str) -> tuple[Finding, ...]:
    """Return all personal data and secrets in a text; a history comes again with each turn of its conversation."""
    return tuple(finding for guard in _FINDERS for finding in guard.scan(text, ()))


FUNCTIONS = policy.Functions(
    tokens=accounting.estimate,
    window_key=_window_key,
    find=_found,
    kinds=frozenset(label for guard in _FINDERS for label in guard.labels),
)
"""What policies can compute with the help of other rooms."""


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8"


def policy_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files that one entry of `policies` means: a file, a pack's folder (its policy.yaml), or a glob."""
    path = folder / pattern
    return [path / POLICY_FILE] if path.is_dir() else [Path(name) for name in sorted(glob.glob(str(path)))]


def watched(loaded: Loaded) -> Iterator[Path]:
    """Yield every file and folder whose change means a reload."""
    config, folder = loaded.config, loaded.folder
    for pattern in config.policies:
        for path in policy_files(folder, pattern):
            yield path
            yield from (path.with_name(f"{name}.yaml") for name in plugins.names("guards"))
    for provider in config.providers.values():
        if provider.api_key_file:
            yield folder / provider.api_key_file
    if config.auth:
        yield folder / config.auth.keys_file
