"""Owns putting the house together: the only place that picks concrete stores, clocks and doors, and swaps snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from proxy import accounting, audit, config, delivery, journal, plugins, simulated, watch, wire
from proxy.documents import Source
from proxy.errors import ConfigError, HandrailError
from proxy.pipeline import House, handle
from proxy.policy import Document, Lock, PolicySet, Rule
from proxy.ports import Guard
from proxy.routing import Health as TargetHealth
from proxy.server import routes
from proxy.server.admin import Admin
from proxy.server.data import DataPlane
from proxy.server.health import Health, Heartbeat
from proxy.snapshot import Limits, Snapshot
from proxy.stores import Budgets, sqlite
from proxy.telemetry import RuleCounts, Telemetry, TelemetrySettings, log, open_log, open_telemetry
from proxy.terms import Exchange, Head, Json, Phase, RawRequest, Secret
from proxy.upstream import UpstreamSettings, open_upstream

if TYPE_CHECKING:
    from proxy.stores.redis import SharedBudgets

T = TypeVar("T")

BEATS_PER_LEASE = 3
DAY_MS = 24 * 3600 * 1000
CLEANING_S = 3600.0
"""How often what is too old is deleted."""
COLLECT_AFTER = 10_000
"""Objects made and not freed, after which the garbage collector looks among the youngest."""
AT_START = (
    "listen", "health_listen", "admin_listen", "admin_token_file", "state", "budgets", "handoff", "audit", "telemetry",
)  # fmt: skip
"""Keys that a reload takes note of and only a restart puts in force."""
SEED_BYTES = 32
"""Length of the private key that checkpoints of the audit log are signed with."""
PLACEHOLDER_URL = "http://127.0.0.1:9/v1"
"""Where the simulated model is said to be while nothing is served."""


class SystemClock:
    """The clocks of this machine."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Return milliseconds of a clock that never jumps."""
        return time.perf_counter_ns() / 1e6


class RandomIds:
    """Names of 48 bits of time and 80 random ones, as in UUID version 7 (RFC 9562): names that are made one after the
    other stand side by side in the store's indexes, so a commit writes far fewer pages than for names all over."""

    def new(self, prefix: str) -> str:
        """Return `prefix_` and 32 hexadecimal digits."""
        return f"{prefix}_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class LazyEstimator:
    """Counts with the tokenizer once it is loaded, which the first need starts in a thread; by bytes until then."""

    def __init__(self) -> None:
        self._counter = accounting.token_counter()
        self._loading: asyncio.Future[None] | None = None

    def count(self, text: str) -> tuple[int, bool]:
        """Return tokens and whether a tokenizer counted them."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(None, self._counter.load)
        return self._counter.count(text)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to start: which config file (none: embedded defaults), and the environment it may use."""

    path: Path | None = None
    environment: Mapping[str, str] = {}
    watch_s: float = 0.5


class Running(msgspec.Struct, kw_only=True):
    """A Handrail that is up: where it listens, and what it knows of itself."""

    listen: str
    health_listen: str
    admin_listen: str
    admin_token_path: Path
    loaded: config.Loaded
    house: House
    telemetry: Telemetry
    store: sqlite.SqliteStore
    budgets: Budgets
    shared: SharedBudgets | None
    """The same, where replicas share them."""
    lock: Lock
    """As it lay beside the config when that was last read, taken or not."""
    audit_log: journal.Journal | None = None
    """None: none is kept."""
    stale: tuple[str, ...] = ()
    """Why the newest configuration was not taken; empty when it was."""

    @property
    def base_url(self) -> str:
        """Return what to set OPENAI_BASE_URL to."""
        return f"http://{self.listen}/v1"


def read_config(options: Options) -> config.Loaded:
    """Read the config file or the defaults; raise ConfigError."""
    if options.path is None:
        return config.load(None, options.environment, Path())
    try:
        text = options.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [f"{options.path}: cannot be read: {getattr(error, 'strerror', 'it is not UTF-8')}"]
        ) from error
    return config.load(Source(path=str(options.path), text=text), options.environment, options.path.parent)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where the extra `fast` is installed, else None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def serve(options: Options, ready: Callable[[Running], None]) -> None:
    """Run until SIGTERM or SIGINT, then let open calls end within `limits.grace_s`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(options) as here:
        _spare_the_collector()
        ready(here)
        await stop.wait()


def _spare_the_collector() -> None:
    """Take what is loaded out of the garbage collector's sight, and let it look less often.

    A call leaves hardly a cycle behind, but makes so many objects that the collector would take one part in twenty of
    the processor to find that out.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


@contextlib.asynccontextmanager
async def running(options: Options) -> AsyncIterator[Running]:
    """Start everything; leaving stops it in the reverse order, so that every open call still settles and is recorded.

    Raises ConfigError, before anything listens.
    """
    loaded, seen = await asyncio.to_thread(_read_marked, options)
    prices = await asyncio.to_thread(accounting.price_table)
    _raise_file_limit()
    async with contextlib.AsyncExitStack() as stack:
        simulated_url = await stack.enter_async_context(simulated.serve()) if loaded.simulated else ""

        def build(fresh: config.Loaded) -> Snapshot:
            return config.build(fresh, options.environment, simulated_url=simulated_url, prices=prices)

        here = await _start(stack, loaded, await asyncio.to_thread(build, loaded), options.environment)
        settings = await asyncio.to_thread(_delivery, loaded)
        work = [_keep_leases(here), _delete_old(here), _reload_on_change(here, options, build, seen)]
        if settings:
            work.append(delivery.deliver(here.store, settings, here.house.clock))
        if here.audit_log and loaded.config.audit and loaded.config.audit.anchor.url:
            work.append(_anchor(here.audit_log, loaded.config.audit.anchor.url))
        await stack.enter_async_context(_background(*work))
        yield here


def _read_marked(options: Options) -> tuple[config.Loaded, watch.Marks]:
    """Read the config; the marks are older than what is read, so no change falls between."""
    before = watch.marks([options.path] if options.path else [])
    loaded = read_config(options)
    return loaded, watch.marks(_watched(options, loaded)) | before


def _watched(options: Options, loaded: config.Loaded) -> Iterator[Path]:
    if options.path:
        yield options.path
    yield from config.watched(loaded)


async def _start(
    stack: contextlib.AsyncExitStack, loaded: config.Loaded, snapshot: Snapshot, environment: Mapping[str, str]
) -> Running:
    settings, limits = loaded.config, snapshot.limits
    state = loaded.folder / settings.state.path
    store = await stack.enter_async_context(
        sqlite.open(sqlite.Settings(path=str(state), lease_ms=int(limits.lease_s * 1000)))
    )
    token_path = await asyncio.to_thread(_admin_token, settings, loaded.folder, state.parent)
    vault_key = await asyncio.to_thread(_secret_file, state.parent / "vault.key", "state.path")
    await stack.enter_async_context(_off_loop(open_log(settings.telemetry.log_level, sys.stderr)))
    shared = await _shared(stack, loaded, environment, store)
    telemetry = await stack.enter_async_context(
        _off_loop(
            open_telemetry(
                TelemetrySettings(
                    otlp_endpoint=settings.telemetry.otlp_endpoint,
                    sample=settings.telemetry.sample,
                    in_flight=lambda: len(house.open_holds),
                    records_pending=lambda: store.backlog,
                    ledger_away=lambda: bool(shared and shared.trouble),
                    budget_unheld=lambda: shared.unheld if shared else 0,
                    config_stale=lambda: bool(here.stale),
                    audit_unwritable=lambda: bool(here.audit_log and here.audit_log.trouble),
                    policy_digest=lambda: house.snapshot.policies.digest,
                )
            )
        )
    )
    clock = SystemClock()
    audit_log = await stack.enter_async_context(_open_audit(loaded, clock.wall_ms()))
    house = House(
        snapshot=snapshot,
        clock=clock,
        ids=RandomIds(),
        upstream=await stack.enter_async_context(open_upstream(_upstream_settings(limits))),
        budgets=shared or store,
        records=journal.AuditedRecords(store, audit_log) if audit_log else store,
        sessions=store,
        desk=store,
        estimator=LazyEstimator(),
        health=TargetHealth(),
        observe=telemetry.observe,
        pause=asyncio.sleep,
        vault_key=vault_key.encode(),
    )
    here = Running(
        listen=settings.listen,
        health_listen=settings.health_listen,
        admin_listen=settings.admin_listen,
        admin_token_path=token_path,
        loaded=loaded,
        house=house,
        telemetry=telemetry,
        store=store,
        budgets=shared or store,
        shared=shared,
        audit_log=audit_log,
        lock=await asyncio.to_thread(config.lock_of, loaded),
    )
    _note_candidate(snapshot)
    _note(here, "started", version=await asyncio.to_thread(version, "handrail"))
    _note_recovered(here, await here.budgets.recover(house.clock.wall_ms()))
    await _listen(stack, here)
    return here


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
        password=await asyncio.to_thread(_password, section, loaded.folder, environment),
        ledger=section.ledger,
        timeout_ms=section.timeout_ms,
        on_outage=section.on_outage,
        lease_ms=int(loaded.config.limits.lease_s * 1000),
        replica_path=str((loaded.folder / loaded.config.state.path).with_name("replica.id")),
    )
    shared: SharedBudgets = await stack.enter_async_context(redis.open(settings, store, _tell_of_ledger))
    return shared


def _password(section: config.RedisSection, folder: Path, environment: Mapping[str, str]) -> Secret:
    if section.password_env:
        return Secret(environment[section.password_env])
    return Secret((folder / section.password_file).read_text().strip() if section.password_file else "")


def _tell_of_ledger(trouble: str) -> None:
    if trouble:
        log("warning", "ledger_away", why=trouble)
    else:
        log("info", "ledger_joined")


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
    settings = await asyncio.to_thread(_log_settings, loaded, section)
    async with journal.open(settings, required=section.required, at_ms=at_ms, tell=_log_audit) as opened:
        yield opened
    if section.anchor.url:
        await delivery.anchor_once(opened.newest, section.anchor.url)


def _log_audit(trouble: str) -> None:
    log("error" if trouble else "info", "audit_unwritable" if trouble else "audit_written_again", why=trouble)


def audit_folder(loaded: config.Loaded) -> Path:
    """Return where the audit log is, if one is kept."""
    named = loaded.config.audit.path if loaded.config.audit else ""
    return loaded.folder / (named or Path(loaded.config.state.path).parent / "audit")


def _log_settings(loaded: config.Loaded, section: config.AuditSection) -> journal.LogSettings:
    """Return where the audit log is and what signs it; raise ConfigError for a key that is none."""
    folder = loaded.folder
    path = folder / (section.key_file or Path(loaded.config.state.path).parent / "audit.key")
    try:
        seed = bytes.fromhex(_secret_file(path, "audit.key_file"))
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ConfigError([f"audit.key_file: {path} is no private key: it has {SEED_BYTES} bytes in hexadecimal"])
    return journal.LogSettings(
        folder=audit_folder(loaded),
        seed=seed,
        anchor=folder / section.anchor.path if section.anchor.path else None,
    )


def _anchor(log: journal.Journal, url: str) -> Coroutine[None, None, None]:
    """Send every newest checkpoint to where it is kept."""

    def tell(failure: str) -> None:
        log.anchors["url"] = failure

    return delivery.anchor(lambda: log.newest, url, tell)


def _note(here: Running, kind: str, **about: Json) -> None:
    """Put into the audit log what Handrail itself does, and under which configuration."""
    if here.audit_log:
        snapshot = here.house.snapshot
        told = {"revision": snapshot.revision, "policies": snapshot.policies.digest, "prices": snapshot.prices_digest}
        here.audit_log.note(audit.event(kind, here.house.clock.wall_ms(), {**told, **about}))


def _note_recovered(here: Running, exchanges: Sequence[Exchange]) -> None:
    """Put into the audit log the calls that a process that died left open."""
    if here.audit_log:
        for exchange in exchanges:
            here.audit_log.note(partial(audit.finished, exchange))


def _raise_file_limit() -> None:
    """Allow as many open sockets as the system lets us: the usual soft limit is no more than `max_connections`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _delivery(loaded: config.Loaded) -> delivery.DeliverySettings | None:
    """Return where packets for humans go, if anywhere; raise ConfigError for a secret that nobody could check."""
    section = loaded.config.handoff
    if section is None:
        return None
    secret = Secret((loaded.folder / section.secret_file).read_text().strip())
    return delivery.DeliverySettings(url=section.url, secret=secret, timeout_s=section.timeout_s)


def _upstream_settings(limits: Limits) -> UpstreamSettings:
    return UpstreamSettings(
        connect_ms=int(limits.connect_s * 1000),
        first_byte_ms=int(limits.first_byte_s * 1000),
        idle_ms=int(limits.idle_s * 1000),
        max_reply_bytes=limits.max_reply_bytes,
    )


def _admin_token(settings: config.Config, folder: Path, state: Path) -> Path:
    """Return the token's file; the default one is made at the first start, readable by its owner alone."""
    if settings.admin_token_file:
        return folder / settings.admin_token_file
    path = state / "admin.token"
    _secret_file(path, "admin_token_file")
    return path


def _secret_file(path: Path, key: str) -> str:
    """Return a secret of this installation, made at the first start, readable by its owner alone."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
            # Whole or not at all, also where two processes start at once: the first one's stays.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft)
            draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError([f"{key}: {path} cannot be made: {error.strerror}"]) from error


# --- the doors ------------------------------------------------------------------------------------------------------


async def _listen(stack: contextlib.AsyncExitStack, here: Running) -> None:
    """Open the three listeners; the data plane last, so that whoever is let in finds everything there."""
    limits, telemetry = here.house.snapshot.limits, here.telemetry
    heartbeat = Heartbeat()
    plane = DataPlane(
        lambda raw, client: handle(here.house, raw, client),
        _local(here),
        error=_error_reply,
        on_bug=_log_bug,
        limits=limits,
    )
    health = Health(heartbeat.age_s, lambda: _not_ready(plane, here), telemetry.render)
    admin = Admin(
        here.admin_token_path,
        lambda: status(here),
        lambda: coverage(here.house.snapshot),
        desk=journal.AuditedRulings(here.store, here.audit_log) if here.audit_log else here.store,
        clock=here.house.clock,
        error=_error_reply,
        on_bug=_log_bug,
        limits=limits,
    )
    here.health_listen = _bound("health_listen", here.health_listen, lambda: health.start(here.health_listen))
    stack.push_async_callback(asyncio.to_thread, health.stop)
    heartbeat.start()
    stack.callback(heartbeat.stop)
    with _naming("admin_listen", here.admin_listen):
        here.admin_listen = await admin.start(here.admin_listen)
    stack.push_async_callback(admin.stop)
    with _naming("listen", here.listen):
        here.listen = await plane.start(here.listen)
    stack.push_async_callback(lambda: plane.shutdown(here.house.snapshot.limits.grace_s))


@contextlib.contextmanager
def _naming(key: str, address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        way = (
            f" (is another Handrail running? stop it, or set another `{key}`)"
            if error.errno == errno.EADDRINUSE
            else ""
        )
        raise ConfigError([f"{key}: cannot listen on {address}: {os.strerror(error.errno or 0)}{way}"]) from error


def _bound(key: str, address: str, start: Callable[[], str]) -> str:
    with _naming(key, address):
        return start()


def _not_ready(plane: DataPlane, here: Running) -> tuple[str, ...]:
    reasons = []
    if not plane.accepting:
        reasons.append("not accepting calls")
    if here.store.trouble:
        reasons.append(f"records cannot be written: {here.store.trouble}")
    if here.audit_log and here.audit_log.required and here.audit_log.trouble:
        reasons.append(f"the audit log cannot be written: {here.audit_log.trouble}")
    return tuple(reasons)


def _local(here: Running) -> dict[str, Callable[[RawRequest], tuple[Head, bytes]]]:
    """Return what Handrail answers by itself."""
    json_head = Head(status=200, headers={"content-type": "application/json"})

    def identified(raw: RawRequest) -> Snapshot:
        snapshot = here.house.snapshot
        snapshot.identify(raw, here.house.clock.wall_ms())
        return snapshot

    def models(raw: RawRequest) -> tuple[Head, bytes]:
        return json_head, wire.models.encode(identified(raw).table)

    def model(raw: RawRequest) -> tuple[Head, bytes]:
        return json_head, wire.models.encode_one(identified(raw).table, raw.path.removeprefix("/v1/models/"))

    return {"models.list": models, "models.retrieve": model}


def _error_reply(error: HandrailError) -> tuple[Head, bytes]:
    headers = {**error.headers, "content-type": "application/json"}
    return Head(status=error.status, headers=headers), wire.error_body(error)


def _log_bug(error: BaseException) -> None:
    log("error", "bug", error=type(error).__name__, where=_where(error))


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""


def status(here: Running) -> dict[str, Json]:
    """Answer "is enforcement on?": what is loaded, and per rule how often it matched and failed."""
    policies, seen = here.house.snapshot.policies, here.telemetry.rules()
    page: dict[str, Json] = {
        "revision": here.house.snapshot.revision,
        "policy_digest": policies.digest,
        "stale": list[Json](here.stale),
        "documents": [_document_status(document, here.lock) for document in policies.documents],
        "rules": [_rule_status(rule, seen.get(rule.id)) for rule in policies.rules],
        "candidate": _candidate_status(here.house.snapshot),
        "targets": list[Json](sorted(here.house.snapshot.table.targets)),
        "records_pending": here.store.backlog,
        "open_calls": len(here.house.open_holds),
        "audit": here.audit_log.status() if here.audit_log else None,
        "ledger": _ledger_status(here.shared),
    }
    return page


def _candidate_status(snapshot: Snapshot) -> Json:
    """Say which candidate is asked, or why none is; null without one."""
    if snapshot.candidate_problems:
        return {"problems": list[Json](snapshot.candidate_problems)}
    if snapshot.candidate is None:
        return None
    policies = snapshot.candidate.policies
    names = [f"{document.name}@{document.version}" for document in policies.documents]
    return {"policy_digest": policies.digest, "documents": list[Json](names), "problems": []}


def _note_candidate(snapshot: Snapshot) -> None:
    if snapshot.candidate_problems:
        log("error", "candidate_refused", problems=list(snapshot.candidate_problems))


def _ledger_status(shared: SharedBudgets | None) -> Json:
    return {"away": shared.trouble, "unheld": shared.unheld} if shared else None


def _document_status(document: Document, lock: Lock) -> Json:
    told: dict[str, Json] = msgspec.to_builtins(document)
    return {**told, "locked": lock.state(document)}


def _rule_status(rule: Rule, seen: RuleCounts | None) -> Json:
    return {
        "id": rule.id,
        "phase": rule.phase.value,
        "action": rule.action.value,
        "mode": rule.mode.value,
        "digest": rule.digest,
        "matched": seen["matched"] if seen else 0,
        "errors": seen["errors"] if seen else 0,
        "shadow": seen["shadow"] if seen else 0,
        "last_matched_ms": seen["last_matched_ms"] if seen else None,
    }


_REPLY_SIDE = {Phase.CHUNK: "window", Phase.TOOL_CALL: "hold", Phase.POST: "after"}
"""How much of a reply waits for a phase's rules; those of other phases are asked before there is one."""


def coverage(snapshot: Snapshot) -> dict[str, Json]:
    """Answer "what is looked at?": by endpoint, by guard and where rules read it, and by rule, streamed or not."""
    policies = snapshot.policies
    return {
        "endpoints": list[Json](routes.coverage()),
        "guards": [_guard_coverage(guard, policies) for _, guard in sorted(snapshot.guards.items())],
        "rules": [_rule_coverage(rule) for rule in policies.rules],
    }


def _guard_coverage(guard: Guard, policies: PolicySet) -> Json:
    return {
        "name": guard.name,
        "quality": getattr(guard, "quality", "unmeasured"),
        "read_in": [phase.value for phase in Phase if guard.name in policies.guards_needed(phase)],
    }


def _rule_coverage(rule: Rule) -> Json:
    waits = (
        ("hold" if rule.hold else "after") if rule.phase is Phase.RESPONSE else _REPLY_SIDE.get(rule.phase, "before")
    )
    # A reply that is not streamed is a stream of one event, so every rule is asked alike.
    return {
        "id": rule.id,
        "phase": rule.phase.value,
        "mode": rule.mode.value,
        "streamed": waits,
        "unstreamed": waits,
    }


# --- in the background ----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run these beside the body, and end them with it. One that fails ends the body: half a Handrail is none."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _keep_leases(here: Running) -> None:
    """Extend the leases of open calls, and close what dead processes left behind."""
    while True:
        lease_s = here.house.snapshot.limits.lease_s
        await asyncio.sleep(lease_s / BEATS_PER_LEASE)
        now = here.house.clock.wall_ms()
        here.budgets.heartbeat(sorted(here.house.open_holds), now + int(lease_s * 1000))
        with contextlib.suppress(HandrailError):  # a store in trouble says so itself, in /readyz
            closed = await here.budgets.recover(now)
            _note_recovered(here, closed)
            for exchange in closed:
                here.telemetry.observe(exchange)


async def _delete_old(here: Running) -> None:
    """Delete what is older than the configuration says, at the start and every hour."""
    state = here.loaded.config.state
    facts_days = min(state.keep_facts_days, state.keep_days or state.keep_facts_days)
    while True:
        now = here.house.clock.wall_ms()
        with contextlib.suppress(HandrailError):  # a store in trouble says so itself, in /readyz
            await here.store.forget(now - int(facts_days * DAY_MS))
            if state.keep_days:
                await here.store.purge(now - int(state.keep_days * DAY_MS))
        await asyncio.sleep(CLEANING_S)


async def _reload_on_change(
    here: Running, options: Options, build: Callable[[config.Loaded], Snapshot], seen: watch.Marks
) -> None:
    newest = here.loaded

    async def changed() -> None:
        nonlocal newest
        try:
            newest = loaded = await asyncio.to_thread(read_config, options)
            here.lock = await asyncio.to_thread(config.lock_of, loaded)
            snapshot = await asyncio.to_thread(build, loaded)
        except ConfigError as error:
            here.stale = tuple(error.problems)
            log("error", "reload_refused", problems=error.problems)
            _note(here, "reload_refused", problems=len(error.problems))
            return
        waiting = [key for key in AT_START if getattr(loaded.config, key) != getattr(here.loaded.config, key)]
        here.loaded, here.house.snapshot, here.stale = loaded, snapshot, ()
        if waiting:
            log("warning", "restart_needed", keys=waiting)
        _note_candidate(snapshot)
        log("info", "reloaded", revision=snapshot.revision)
        _note(here, "reloaded")

    # Also of a config that was refused: it may be cured by another file than its own.
    await watch.watch(lambda: _watched(options, newest), changed, seen=seen, every_s=options.watch_s)
