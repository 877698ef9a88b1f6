"""Owns which tiers there are by the configuration: how each is opened, shipped to, and for how long it keeps what."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import ModuleType

from proxy import config, plugins
from proxy.app.files import content_seal, conversation_settings, password
from proxy.app.machine import DAY_MS, SystemClock
from proxy.errors import ConfigError, HandrailError
from proxy.ports import Clock, Shelf, Tier
from proxy.shipping import Pace, Shipper
from proxy.stores import sqlite
from proxy.telemetry import log
from proxy.terms import Table

LAST_S = 2.0
"""For what was written last, once the last call has ended; what does not arrive waits on disk."""
WARM, COLD = "warm", "cold"
LARGE_ROWS = 20_000
"""At most in one batch for the cold tier: fewer and larger objects are read in a fraction of the time."""


@contextlib.asynccontextmanager
async def open_shelves(loaded: config.Loaded, environment: Mapping[str, str]) -> AsyncIterator[dict[str, Shelf]]:
    """Yield the tiers that rows are shipped to, by name; raise ConfigError for one that cannot be opened here."""
    async with contextlib.AsyncExitStack() as stack:
        shelves: dict[str, Shelf] = {}
        if loaded.config.tiers.warm:
            section = loaded.config.tiers.warm.postgres
            shelf = await asyncio.to_thread(_plugin, "postgres", "tiers.warm.postgres")
            settings = shelf.Settings(
                url=section.url, password=await asyncio.to_thread(password, section, loaded.folder, environment)
            )
            with _naming("tiers.warm.postgres.url"):
                shelves[WARM] = await stack.enter_async_context(shelf.open(settings))
        if loaded.config.tiers.cold:
            shelves[COLD] = await stack.enter_async_context(await _cold(loaded.config.tiers.cold, loaded))
        yield shelves


async def _cold(section: config.ColdSection, loaded: config.Loaded) -> AbstractAsyncContextManager[Shelf]:
    objects = await asyncio.to_thread(_plugin, "objects", "tiers.cold", "archive")
    settings = objects.Settings(
        url=section.url, endpoint=section.endpoint, region=section.region, account=section.account
    )
    opened: AbstractAsyncContextManager[Shelf] = objects.open(settings, loaded.folder, SystemClock().wall_ms)
    return opened


@contextlib.asynccontextmanager
async def open_tiers(loaded: config.Loaded, environment: Mapping[str, str]) -> AsyncIterator[dict[str, Tier]]:
    """Yield every tier by name, in the order in which rows come to them."""
    async with open_hot(loaded, environment) as hot, open_shelves(loaded, environment) as shelves:
        yield {**hot, sqlite.LocalTier.name: sqlite.LocalTier(state_path(loaded)), **shelves}


@contextlib.asynccontextmanager
async def open_hot(loaded: config.Loaded, environment: Mapping[str, str]) -> AsyncIterator[dict[str, Tier]]:
    """Yield the conversations that hosts share by their name, if they share any."""
    if loaded.config.tiers.hot is None:
        yield {}
        return
    redis = await asyncio.to_thread(plugins.load, "stores", "redis")
    settings = await asyncio.to_thread(conversation_settings, loaded, loaded.config.tiers.hot, environment)
    async with redis.open_tier(settings, await asyncio.to_thread(content_seal, loaded)) as tier:
        yield {tier.name: tier}


@contextlib.asynccontextmanager
async def nothing_under_way(loaded: config.Loaded, tiers: Iterable[str]) -> AsyncIterator[None]:
    """Hold up shipping in every process, so that no row comes to a tier after it was erased there."""
    path = state_path(loaded)
    turns = [sqlite.turn(path, name) for name in tiers if name != sqlite.LocalTier.name]
    async with contextlib.AsyncExitStack() as stack:
        for turn in turns:
            await asyncio.to_thread(turn.__enter__)
            stack.push_async_callback(asyncio.to_thread, turn.__exit__, None, None, None)
        yield


def state_path(loaded: config.Loaded) -> str:
    """Return where the local file is."""
    return str(loaded.folder / loaded.config.state.path)


async def shipping_to(shelves: Mapping[str, Shelf], loaded: config.Loaded, clock: Clock) -> tuple[Shipper, ...]:
    """Have rows wait for these shelves from now on, and return what ships to each of them."""
    path = state_path(loaded)
    await asyncio.to_thread(sqlite.enlist, path, [*shelves])
    return tuple(
        Shipper(sqlite.Spool(path, name), shelf, clock, _tell_of(name), _pace(name, loaded.config))
        for name, shelf in shelves.items()
    )


def _pace(name: str, settings: config.Config) -> Pace:
    cold = settings.tiers.cold
    return Pace(rows=LARGE_ROWS, every_s=cold.every_s) if cold and name == COLD else Pace()


def retention(settings: config.Config) -> dict[str, dict[Table, float]]:
    """Return, by tier and table, for how many days rows are kept; what is not named is kept for ever."""
    state, warm, cold = settings.state, settings.tiers.warm, settings.tiers.cold
    facts = min(state.keep_facts_days, state.keep_days or state.keep_facts_days)
    return {
        sqlite.LocalTier.name: {**_all(state.keep_days), Table.FACTS: facts},
        WARM: _all(warm.keep_days) if warm else {},
        COLD: _all(cold.keep_days) if cold else {},
    }


async def purge(
    tiers: Mapping[str, Tier], settings: config.Config, now_ms: int, *, dry_run: bool
) -> AsyncIterator[tuple[str, Table, float, int | HandrailError]]:
    """Delete what each tier has kept for long enough, or with `dry_run` nothing; yield (tier, table, days, how many
    rows, or why that cannot be told)."""
    for name, tables in retention(settings).items():
        for table, days in tables.items() if name in tiers else ():
            try:
                count = await tiers[name].purge(table, now_ms - int(days * DAY_MS), dry_run=dry_run)
            except HandrailError as error:
                yield name, table, days, error
            else:
                yield name, table, days, count


def _all(days: float | None) -> dict[Table, float]:
    """Return the same for every table; what was kept of calls goes before their records, through which it is found."""
    return dict.fromkeys((Table.FACTS, *Table), days) if days else {}


def _tell_of(name: str) -> Callable[[str], None]:
    def tell(why: str) -> None:
        if why:
            log("warning", "tier_away", tier=name, why=why)
        else:
            log("info", "tier_joined", tier=name)

    return tell


def _plugin(name: str, key: str, extra: str = "") -> ModuleType:
    try:
        return plugins.load("stores", name, extra)
    except plugins.UnknownPlugin as error:
        raise ConfigError([f"{key}: {error}"]) from None


@contextlib.contextmanager
def _naming(key: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError([f"{key}: {getattr(error, 'strerror', None) or error}"]) from None
