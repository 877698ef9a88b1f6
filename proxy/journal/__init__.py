"""Owns the audit log on disk: an append-only folder of entries, kept by a thread, read by the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from proxy.journal.audited import AuditedRecords, AuditedRulings
from proxy.journal.folder import CHECKPOINTS, ERASED, about, erase, key_of, lines, salt_of, text
from proxy.journal.journal import Journal
from proxy.journal.log import Log, LogSettings

__all__ = [
    "CHECKPOINTS",
    "ERASED",
    "AuditedRecords",
    "AuditedRulings",
    "Journal",
    "LogSettings",
    "about",
    "erase",
    "key_of",
    "lines",
    "open",
    "salt_of",
    "text",
]


@asynccontextmanager
async def open(  # noqa: A001 - as stores are opened
    settings: LogSettings,
    *,
    required: bool,
    at_ms: int,
    tell: Callable[[str], None] | None = None,
    tell_anchor: Callable[[str, str], None] | None = None,
) -> AsyncIterator[Journal]:
    """Yield the audit log, writing; leaving signs and anchors all of it. Raise ConfigError for one that was changed."""
    log = await asyncio.to_thread(Log.open, settings, at_ms)
    journal = Journal(log, required=required, tell=tell, tell_anchor=tell_anchor)
    try:
        yield journal
    finally:
        await journal.close()
