"""Owns the step from a Config to the Snapshot that calls are served with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import msgspec

from proxy import accounting, identity, plugins
from proxy.config.access import NONE_FETCHED, KeySets, access_of
from proxy.config.policies import CANDIDATE, FINDER, compiled, watched_policies, why_unreadable
from proxy.config.reading import SIMULATED, Loaded
from proxy.config.settings import (
    AuthSection,
    CeilingSection,
    ConversationsSection,
    PostgresSection,
    ProviderSection,
    RedisSection,
)
from proxy.documents import Problems
from proxy.errors import ConfigError
from proxy.ports import Provider
from proxy.routing import Table
from proxy.snapshot import Bundle, Price, Snapshot, UnknownPrice
from proxy.terms import ProviderSettings, Secret, Target
from proxy.wire import DIALECTS


def build(
    loaded: Loaded,
    environment: Mapping[str, str],
    *,
    simulated_url: str,
    prices: accounting.PriceTable,
    key_sets: KeySets = NONE_FETCHED,
) -> Snapshot:
    """Compile a config into a Snapshot; raise ConfigError with every problem at once."""
    return _Builder(loaded, environment, simulated_url, prices, key_sets).snapshot()


class _NoOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a provider's file has that declares none."""


def _nowhere(_: object) -> str:
    return ""


def watched(loaded: Loaded) -> Iterator[Path]:
    """Yield every file and folder whose change means a reload."""
    config, folder = loaded.config, loaded.folder
    yield from watched_policies(loaded)
    for provider in config.providers.values():
        if provider.api_key_file:
            yield folder / provider.api_key_file
    auth = config.auth or AuthSection()
    for path in (auth.keys_file, auth.jwt.jwks_file if auth.jwt else ""):
        if path:
            yield folder / path


class _Builder:
    def __init__(
        self,
        loaded: Loaded,
        environment: Mapping[str, str],
        simulated_url: str,
        prices: accounting.PriceTable,
        key_sets: KeySets,
    ) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._text = loaded.text
        self._folder = loaded.folder
        self._environment = environment
        self._simulated_url = simulated_url
        self._table = prices
        self._key_sets = key_sets
        self._problems = Problems()

    def snapshot(self) -> Snapshot:
        config = self._config
        providers = {name: self._provider(name, section) for name, section in config.providers.items()}
        books = {name: self._book(section) for name, section in config.providers.items()}
        access = access_of(self._loaded, self._file, self._key_sets, self._problems)
        if config.admin_token_file:
            self._file(config.admin_token_file, "admin_token_file")
        if config.budgets:
            self._password(config.budgets.redis, "budgets", "redis")
        if config.tiers.hot:
            self._password(config.tiers.hot.redis, "tiers", "hot", "redis")
        if config.tiers.warm:
            self._password(config.tiers.warm.postgres, "tiers", "warm", "postgres")
        if config.handoff:
            self._file(config.handoff.secret_file, "handoff", "secret_file")
        prices = self._prices()
        guards, policies = compiled(self._loaded, self._problems)
        candidate, refused = self._candidate()
        if self._problems.found or prices is None or policies is None:
            raise ConfigError(self._problems.found)
        return Snapshot(
            revision=hashlib.sha256(
                msgspec.json.encode(
                    [self._text.value, policies.digest, candidate and candidate.policies.digest], order="sorted"
                )
            ).hexdigest()[:16],
            identify=lambda raw, at_ms: identity.identify(raw, access, at_ms),
            dialects=DIALECTS,
            policies=policies,
            guards=guards,
            search=FINDER.search,
            providers={name: provider for name, provider in providers.items() if provider},
            table=self._routes(),
            price=self._pricer(prices, books),
            prices_digest=prices.digest,
            unknown_price=self._unknown_price(),
            limits=config.limits,
            candidate=candidate,
            candidate_problems=refused,
        )

    def _candidate(self) -> tuple[Bundle | None, tuple[str, ...]]:
        """Compile what is only tried out; what is wrong with it keeps nothing else from serving."""
        problems = Problems()
        if self._config.candidate is None:
            return None, ()
        guards, policies = compiled(self._loaded, problems, CANDIDATE)
        if policies is None or problems.found:
            return None, tuple(problems.found)
        return Bundle(policies=policies, guards=guards), ()

    def _at(self, *path: str | int) -> str:
        return self._text.at(path)

    # providers, models, prices

    def _provider(self, name: str, section: ProviderSection) -> Provider | None:
        shelf = "openai" if section.dialect == SIMULATED else section.dialect
        dialects = sorted((*plugins.names("providers"), SIMULATED))
        if section.dialect not in dialects:
            told = f"there is no dialect `{section.dialect}`, only {', '.join(dialects)}"
            way = "; what is OpenAI-compatible is `openai`"
            self._problems.add(self._at("providers", name, "dialect"), told + way, section.dialect, dialects)
            return None
        try:
            file = plugins.load("providers", shelf)
        except plugins.UnknownPlugin as error:
            self._problems.add(self._at("providers", name, "dialect"), str(error))
            return None
        try:
            options = msgspec.convert(section.options, getattr(file, "Options", _NoOptions))
        except msgspec.ValidationError as error:
            self._problems.add(self._at("providers", name, "options"), f"of `{name}`: {error}")
            return None
        known = self._simulated_url if section.dialect == SIMULATED else getattr(file, "base_url", _nowhere)(options)
        url = section.base_url or known
        if not url:
            self._problems.add(self._at("providers", name), f"`{name}` needs a `base_url`")
        settings = ProviderSettings(
            name=name,
            base_url=url,
            key=self._key(name, section),
            headers=section.headers,
            options=options,
        )
        return cast("Callable[[ProviderSettings], Provider]", file.create)(settings)

    def _key(self, name: str, section: ProviderSection) -> Secret | None:
        return self._secret("api_key", section.api_key_env, section.api_key_file, "providers", name)

    def _password(self, section: RedisSection | ConversationsSection | PostgresSection, *place: str) -> Secret | None:
        return self._secret("password", section.password_env, section.password_file, *place)

    def _secret(self, what: str, variable: str, file: str, *place: str | int) -> Secret | None:
        if variable:
            if value := self._environment.get(variable, ""):
                return Secret(value)
            self._problems.add(self._at(*place, f"{what}_env"), f"the environment has no {variable}, or it is empty")
        if file:
            value = self._file(file, *place, f"{what}_file").strip()
            return Secret(value) if value else None
        return None

    def _file(self, path: str, *place: str | int) -> str:
        try:
            text = (self._folder / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._problems.add(self._at(*place), f"{path} cannot be read: {why_unreadable(error)}")
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
