"""Owns putting the house together: the only place that picks concrete stores, clocks and doors."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from proxy import accounting, config, credentials, delivery, journal, plugins, simulated
from proxy.app.doors import listen
from proxy.app.files import (
    admin_token,
    content_seal,
    conversation_settings,
    customer_key,
    delivery_settings,
    key_source,
    log_settings,
    password,
    secret_file,
)
from proxy.app.instance import Options, Running
from proxy.app.machine import (
    LazyEstimator,
    RandomIds,
    SystemClock,
    Turns,
    keep_memory_private,
    raise_file_limit,
    spare_the_collector,
)
from proxy.app.tiers import LAST_S, open_shelves, shipping_to
from proxy.app.upkeep import (
    background,
    delete_old,
    hear_notices,
    keep_leases,
    note,
    note_candidate,
    note_recovered,
    read_marked,
    reload_on_change,
    tell_of_trouble,
)
from proxy.pipeline import House
from proxy.routing import Health as TargetHealth
from proxy.snapshot import Limits, Snapshot
from proxy.stores import sqlite
from proxy.telemetry import TelemetrySettings, log, open_log, open_telemetry
from proxy.upstream import UpstreamSettings, open_upstream

if TYPE_CHECKING:
    from proxy.stores.redis import SharedBudgets, SharedConversations

T = TypeVar("T")

PLACEHOLDER_URL = "http://127.0.0.1:9/v1"
"""Where the simulated model is said to be while nothing is served."""


async def serve(options: Options, ready: Callable[[Running], None]) -> None:
    """Run until SIGTERM or SIGINT, then let open calls end within `limits.grace_s`."""
    keep_memory_private()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(options) as here:
        spare_the_collector()
        ready(here)
        await stop.wait()


@contextlib.asynccontextmanager
async def running(options: Options) -> AsyncIterator[Running]:
    """Start everything; leaving stops it in the reverse order, so that every open call still settles and is recorded.

    Raises ConfigError, before anything listens.
    """
    loaded, seen = await asyncio.to_thread(read_marked, options)
    prices = await asyncio.to_thread(accounting.price_table)
    raise_file_limit()
    key_sets = credentials.Fetched()
    async with contextlib.AsyncExitStack() as stack:
        simulated_url = await stack.enter_async_context(simulated.serve()) if loaded.simulated else ""

        def build(fresh: config.Loaded) -> Snapshot:
            return config.build(
                fresh, options.environment, simulated_url=simulated_url, prices=prices, key_sets=key_sets
            )

        here = await _start(stack, loaded, await asyncio.to_thread(build, loaded), options.environment)
        settings = await asyncio.to_thread(delivery_settings, loaded)
        work = [
            keep_leases(here),
            delete_old(here),
            hear_notices(here),
            tell_of_trouble(lambda: here.store.trouble, _tell_of_records),
            reload_on_change(here, options, build, seen),
        ]
        work += [shipper.ship() for shipper in here.shippers]
        work.append(
            credentials.keep_fresh(key_sets, lambda: key_source(here.loaded), here.house.clock, tell=_tell_of_issuer)
        )
        if settings:
            work.append(delivery.deliver(here.house.desk, settings, here.house.clock))
        if here.audit_log and loaded.config.audit and loaded.config.audit.anchor.url:
            work.append(_anchor(here.audit_log, loaded.config.audit.anchor.url))
        await stack.enter_async_context(background(*work))
        yield here


async def _start(
    stack: contextlib.AsyncExitStack, loaded: config.Loaded, snapshot: Snapshot, environment: Mapping[str, str]
) -> Running:
    settings, limits = loaded.config, snapshot.limits
    state = loaded.folder / settings.state.path
    store = await stack.enter_async_context(
        sqlite.open(
            sqlite.Settings(
                path=str(state),
                seal=await asyncio.to_thread(content_seal, loaded),
                lease_ms=int(limits.lease_s * 1000),
                durability=settings.durability,
            )
        )
    )
    token_path = await asyncio.to_thread(admin_token, settings, loaded.folder, state.parent)
    vault_key = await asyncio.to_thread(secret_file, state.parent / "vault.key", "state.path")
    customers = await asyncio.to_thread(customer_key, loaded)
    await stack.enter_async_context(_off_loop(open_log(settings.telemetry.log_level, sys.stderr)))
    shared = await _shared(stack, loaded, environment, store)
    conversations = await _conversations(stack, loaded, environment, store)
    telemetry = await stack.enter_async_context(
        _off_loop(
            open_telemetry(
                TelemetrySettings(
                    otlp_endpoint=settings.telemetry.otlp_endpoint,
                    sample=settings.telemetry.sample,
                    in_flight=lambda: len(house.open_holds),
                    records_pending=lambda: store.backlog,
                    tier_rows_pending=lambda: {shipper.name: shipper.standing.pending for shipper in here.shippers},
                    ledger_away=lambda: bool(shared and shared.trouble),
                    conversations_away=lambda: bool(conversations and conversations.trouble),
                    budget_unheld=lambda: shared.unheld if shared else 0,
                    config_stale=lambda: bool(here.stale),
                    records_unwritable=lambda: bool(store.trouble),
                    audit_unwritable=lambda: bool(here.audit_log and here.audit_log.trouble),
                    policy_digest=lambda: house.snapshot.policies.digest,
                )
            )
        )
    )
    clock = SystemClock()
    shelves = await stack.enter_async_context(open_shelves(loaded, environment))
    audit_log = await stack.enter_async_context(_open_audit(loaded, clock.wall_ms()))
    estimator = LazyEstimator()
    house = House(
        snapshot=snapshot,
        clock=clock,
        ids=RandomIds(),
        upstream=await stack.enter_async_context(open_upstream(_upstream_settings(limits))),
        budgets=shared or store,
        records=journal.AuditedRecords(store, audit_log) if audit_log else store,
        sessions=conversations or store,
        desk=conversations or store,
        estimator=estimator,
        health=TargetHealth(),
        observe=telemetry.observe,
        pause=Turns().pause,
        vault_key=vault_key.encode(),
        customer_key=customers,
    )
    here = Running(
        listen=settings.listen,
        health_listen=settings.health_listen,
        admin_listen=settings.admin_listen,
        admin_token_path=token_path,
        loaded=loaded,
        opened_by=config.opened_by(settings),
        house=house,
        telemetry=telemetry,
        store=store,
        budgets=shared or store,
        shared=shared,
        conversations=conversations,
        shelves=shelves,
        shippers=await shipping_to(shelves, loaded, clock),
        audit_log=audit_log,
        lock=await asyncio.to_thread(config.lock_of, loaded),
    )
    note_candidate(snapshot)
    note(here, "started", version=await asyncio.to_thread(version, "handrail"))
    note_recovered(here, await here.budgets.recover(house.clock.wall_ms()))
    stack.push_async_callback(_ship_rest, here)
    await listen(stack, here)
    stack.callback(estimator.close)
    return here


async def _ship_rest(here: Running) -> None:
    """Ship what the last calls left: the disk of a pod may go with it."""
    if here.shippers:
        await here.store.recover(0)
        await asyncio.gather(*(shipper.finish(LAST_S) for shipper in here.shippers))


async def _shared(
    stack: contextlib.AsyncExitStack, loaded: config.Loaded, environment: Mapping[str, str], store: sqlite.SqliteStore
) -> SharedBudgets | None:
    """Return the budgets that replicas share, where the config asks for them: nothing of Redis is loaded before."""
    if loaded.config.budgets is None:
        return None
    section = loaded.config.budgets.redis
    redis = await asyncio.to_thread(plugins.load, "stores", "redis")
    settings = redis.Settings(
        url=section.url,
        password=await asyncio.to_thread(password, section, loaded.folder, environment),
        ledger=section.ledger,
        timeout_ms=section.timeout_ms,
        on_outage=section.on_outage,
        lease_ms=int(loaded.config.limits.lease_s * 1000),
        replica_path=str((loaded.folder / loaded.config.state.path).with_name("replica.id")),
    )
    shared: SharedBudgets = await stack.enter_async_context(redis.open(settings, store, _tell_of_ledger))
    return shared


async def _conversations(
    stack: contextlib.AsyncExitStack, loaded: config.Loaded, environment: Mapping[str, str], store: sqlite.SqliteStore
) -> SharedConversations | None:
    """Return the conversations that replicas share, where the config asks for them."""
    hot = loaded.config.tiers.hot
    if hot is None:
        return None
    redis = await asyncio.to_thread(plugins.load, "stores", "redis")
    settings = await asyncio.to_thread(conversation_settings, loaded, hot, environment)
    seal = await asyncio.to_thread(content_seal, loaded)
    shared: SharedConversations = await stack.enter_async_context(
        redis.open_conversations(settings, store, seal, _tell_of_conversations)
    )
    return shared


def _tell_of_records(trouble: str) -> None:
    log("error" if trouble else "info", "records_unwritable" if trouble else "records_written_again", why=trouble)


def _tell_of_issuer(trouble: str) -> None:
    log("warning" if trouble else "info", "issuer_away" if trouble else "issuer_answers", why=trouble)


def _tell_of_ledger(trouble: str) -> None:
    if trouble:
        log("warning", "ledger_away", why=trouble)
    else:
        log("info", "ledger_joined")


def _tell_of_conversations(trouble: str) -> None:
    if trouble:
        log("error", "conversations_away", why=trouble)
    else:
        log("info", "conversations_joined")


@contextlib.asynccontextmanager
async def _off_loop(context: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave on a thread what starts or joins one of its own: calls that are still open go on meanwhile."""
    value = await asyncio.to_thread(context.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def _open_audit(loaded: config.Loaded, at_ms: int) -> AsyncIterator[journal.Journal | None]:
    """Yield the audit log if one is to be kept; what is signed last is anchored last."""
    section = loaded.config.audit
    if section is None:
        yield None
        return
    settings = await asyncio.to_thread(log_settings, loaded, section)
    async with journal.open(
        settings, required=section.required, at_ms=at_ms, tell=_log_audit, tell_anchor=_log_anchor
    ) as opened:
        yield opened
    if section.anchor.url:
        await delivery.anchor_once(opened.newest, section.anchor.url)


def _log_audit(trouble: str) -> None:
    log("error" if trouble else "info", "audit_unwritable" if trouble else "audit_written_again", why=trouble)


def _log_anchor(place: str, failure: str) -> None:
    if failure:
        log("warning", "audit_not_anchored", place=place, why=failure)
    else:
        log("info", "audit_anchored_again", place=place)


def _anchor(log: journal.Journal, url: str) -> Coroutine[None, None, None]:
    """Send every newest checkpoint to where it is kept."""
    return delivery.anchor(lambda: log.newest, url, lambda failure: log.anchored("url", failure))


def _upstream_settings(limits: Limits) -> UpstreamSettings:
    return UpstreamSettings(
        connect_ms=int(limits.connect_s * 1000),
        first_byte_ms=int(limits.first_byte_s * 1000),
        idle_ms=int(limits.idle_s * 1000),
        max_reply_bytes=limits.max_reply_bytes,
    )
