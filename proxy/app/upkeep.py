"""Owns what goes on in the background: leases, house-keeping, reload, and the notes of it in the audit log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path

from proxy import audit, config, watch
from proxy.app.instance import Options, Running, read_config
from proxy.app.machine import DAY_MS
from proxy.app.tiers import purge, retention
from proxy.errors import ConfigError, HandrailError
from proxy.snapshot import Snapshot
from proxy.telemetry import log
from proxy.terms import Exchange, Json, Table

BEATS_PER_LEASE = 3


CLEANING_S = 3600.0
"""How often what is too old is deleted."""


NOTICES_S = 2.0
TROUBLE_S = 1.0
"""How often the store is asked whether it can be written."""


AT_START = (
    "listen", "socket_mode", "health_listen", "admin_listen", "admin_token_file", "state", "budgets", "tiers",
    "handoff", "audit", "telemetry",
)  # fmt: skip
"""Keys that a reload takes note of and only a restart puts in force."""


def read_marked(options: Options) -> tuple[config.Loaded, watch.Marks]:
    """Read the config; the marks are older than what is read, so no change falls between."""
    before = watch.marks([options.path] if options.path else [])
    loaded = read_config(options)
    return loaded, watch.marks(watched(options, loaded)) | before


def watched(options: Options, loaded: config.Loaded) -> Iterator[Path]:
    """Yield every file whose change means a reload."""
    if options.path:
        yield options.path
    yield from config.watched(loaded)


def note(here: Running, kind: str, **about: Json) -> None:
    """Put into the audit log what Handrail itself does, and under which configuration."""
    if here.audit_log:
        snapshot = here.house.snapshot
        told = {"revision": snapshot.revision, "policies": snapshot.policies.digest, "prices": snapshot.prices_digest}
        here.audit_log.note(audit.event(kind, here.house.clock.wall_ms(), {**told, **about}))


def note_recovered(here: Running, exchanges: Sequence[Exchange]) -> None:
    """Put into the audit log the calls that a process that died left open."""
    if here.audit_log:
        for exchange in exchanges:
            here.audit_log.note(partial(audit.finished, exchange))


def note_candidate(snapshot: Snapshot) -> None:
    """Log why a candidate is not asked."""
    if snapshot.candidate_problems:
        log("error", "candidate_refused", problems=list(snapshot.candidate_problems))


@contextlib.asynccontextmanager
async def background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run these beside the body, and end them with it. One that fails ends the body: half a Handrail is none."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def keep_leases(here: Running) -> None:
    """Extend the leases of open calls, and close what dead processes left behind."""
    while True:
        lease_s = here.house.snapshot.limits.lease_s
        await asyncio.sleep(lease_s / BEATS_PER_LEASE)
        now = here.house.clock.wall_ms()
        here.budgets.heartbeat(sorted(here.house.open_holds), now + int(lease_s * 1000))
        with contextlib.suppress(HandrailError):  # a store in trouble says so itself, in /readyz
            if here.conversations:
                await here.conversations.expire(now)
            closed = await here.budgets.recover(now)
            note_recovered(here, closed)
            for exchange in closed:
                here.telemetry.observe(exchange)


async def tell_of_trouble(trouble: Callable[[], str], tell: Callable[[str], None]) -> None:
    """Tell of trouble when it begins, and once more when it is over."""
    known = ""
    while True:
        before, known = known, trouble()
        if bool(before) != bool(known):
            tell(known)
        await asyncio.sleep(TROUBLE_S)


async def hear_notices(here: Running) -> None:
    """Put into the audit log what commands have done beside, at the start and every few seconds."""
    while here.audit_log:
        with contextlib.suppress(HandrailError):  # a store or a log in trouble says so itself, in /readyz
            for number, at_ms, about in await here.store.notices():
                await here.audit_log.ensure(audit.event("erased", at_ms, about))
                await here.store.took_notice(number)
        await asyncio.sleep(NOTICES_S)


async def delete_old(here: Running) -> None:
    """Delete what is older than the configuration says, at the start and every hour."""
    while True:
        settings, now = here.loaded.config, here.house.clock.wall_ms()
        keep = retention(settings)["local"]
        with contextlib.suppress(HandrailError):  # a store in trouble says so itself, in /readyz
            await here.store.forget(now - int(keep[Table.FACTS] * DAY_MS))
            if settings.state.keep_days:
                await here.store.purge(now - int(settings.state.keep_days * DAY_MS))
        async for tier, table, _, done in purge(here.shelves, settings, now, dry_run=False):
            if isinstance(done, HandrailError):
                log("warning", "retention_failed", tier=tier, table=table.value, why=done.message)
        await asyncio.sleep(CLEANING_S)


def _keep_closed(here: Running, fresh: config.Config) -> None:
    """Refuse a config without `auth` while the listener that is open can be reached by others, whatever it says of the
    next one."""
    if fresh.auth is None and here.opened_by:
        raise ConfigError([f"auth: others can reach the open listener ({here.listen}): restart to take `auth` away"])


async def reload_on_change(
    here: Running, options: Options, build: Callable[[config.Loaded], Snapshot], seen: watch.Marks
) -> None:
    """Put what was changed in force as a whole, or keep what is and say why."""
    newest = here.loaded

    async def changed() -> None:
        nonlocal newest
        try:
            newest, before = await asyncio.to_thread(read_marked, options)
            loaded = newest
            _keep_closed(here, loaded.config)
            here.lock = await asyncio.to_thread(config.lock_of, loaded)
            snapshot = await asyncio.to_thread(build, loaded)
        except ConfigError as error:
            here.stale = tuple(error.problems)
            log("error", "reload_refused", problems=error.problems)
            note(here, "reload_refused", problems=len(error.problems))
            return
        if before != await asyncio.to_thread(lambda: watch.marks(watched(options, loaded))):
            return  # Files of two versions must not serve together: the change in between is met at the next look.
        waiting = [key for key in AT_START if getattr(loaded.config, key) != getattr(here.loaded.config, key)]
        here.loaded, here.house.snapshot, here.stale = loaded, snapshot, ()
        if waiting:
            log("warning", "restart_needed", keys=waiting)
        note_candidate(snapshot)
        log("info", "reloaded", revision=snapshot.revision)
        note(here, "reloaded")

    # Also of a config that was refused: it may be cured by another file than its own.
    await watch.watch(lambda: watched(options, newest), changed, seen=seen, every_s=options.watch_s)
