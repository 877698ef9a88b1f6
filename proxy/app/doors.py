"""Owns opening the three listeners, and what Handrail answers by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from proxy import journal, wire
from proxy.app.instance import Running
from proxy.app.pages import coverage, status
from proxy.errors import ConfigError, HandrailError
from proxy.pipeline import handle
from proxy.server.admin import Admin
from proxy.server.data import DataPlane
from proxy.server.health import Health, Heartbeat
from proxy.telemetry import log
from proxy.terms import Caller, Head, RawRequest

WAYS = {
    errno.EADDRINUSE: " (is another Handrail running? stop it, or set another `{key}`)",
    errno.EADDRNOTAVAIL: " (no network interface of this machine has this address)",
    errno.ENOENT: " (make the folder first)",
}
"""What to do where a listener cannot open."""


async def listen(stack: contextlib.AsyncExitStack, here: Running) -> None:
    """Open the three listeners; the data plane last, so that whoever is let in finds everything there."""
    limits, telemetry = here.house.snapshot.limits, here.telemetry
    heartbeat = Heartbeat(late=telemetry.lagged)
    plane = DataPlane(
        lambda raw, client: handle(here.house, raw, client),
        _local(here),
        error=_error_reply,
        on_bug=_log_bug,
        limits=limits,
        mode=int(here.loaded.config.socket_mode, 8),
    )
    health = Health(heartbeat.age_s, lambda: _not_ready(plane, here), telemetry.render)
    admin = Admin(
        here.admin_token_path,
        lambda: status(here),
        lambda: coverage(here.house.snapshot),
        desk=journal.AuditedRulings(here.house.desk, here.audit_log) if here.audit_log else here.house.desk,
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
        way = WAYS.get(error.errno or 0, "").format(key=key)
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
    if here.conversations and here.conversations.trouble:
        reasons.append(f"conversations cannot be asked for: {here.conversations.trouble}")
    if here.audit_log and here.audit_log.required and here.audit_log.trouble:
        reasons.append(f"the audit log cannot be written: {here.audit_log.trouble}")
    return tuple(reasons)


def _local(here: Running) -> dict[str, Callable[[RawRequest], tuple[Head, bytes]]]:
    """Return what Handrail answers by itself."""
    json_head = Head(status=200, headers={"content-type": "application/json"})

    def caller(raw: RawRequest) -> Caller:
        return here.house.snapshot.identify(raw, here.house.clock.wall_ms())

    def models(raw: RawRequest) -> tuple[Head, bytes]:
        return json_head, wire.models.encode(here.house.snapshot.table, caller(raw).models)

    def model(raw: RawRequest) -> tuple[Head, bytes]:
        name = raw.path.removeprefix("/v1/models/")
        return json_head, wire.models.encode_one(here.house.snapshot.table, caller(raw).models, name)

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
