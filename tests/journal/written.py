"""Owns the small audit logs on disk that tests write, read and spoil."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy import journal
from proxy.audit import Report, Writer, event, examine
from proxy.journal.log import Log, LogSettings

SEED = bytes(range(32))
AT_MS = 1_767_225_600_000


def said(*names: str) -> list[Writer]:
    """Make entries."""
    return [event("call", AT_MS, {"id": name}) for name in names]


def settings(
    folder: Path, *, anchor: Path | None = None, segment_bytes: int = 1 << 20, seed: bytes = SEED
) -> LogSettings:
    """Say where a log is."""
    return LogSettings(folder=folder, seed=seed, anchor=anchor, segment_bytes=segment_bytes)


def write(where: LogSettings, *batches: Sequence[str], stop: bool = True) -> None:
    """Open, write, sign and close, as one process would; without `stop` as one that is killed would."""
    log = Log.open(where, AT_MS)
    for names in batches:
        log.append(said(*names))
        log.roll(AT_MS)
    if stop:
        log.append([event("stopped", AT_MS, {})])
        log.checkpoint()
        log.anchor()
    log.close()


def entries(folder: Path) -> list[dict[str, Any]]:
    """Read all entries."""
    return [json.loads(line) for _, line in journal.lines(folder)]


def kinds(folder: Path) -> list[str]:
    """Name the kinds of all entries."""
    return [str(entry["kind"]) for entry in entries(folder)]


def look(folder: Path, anchor: Path | None = None) -> Report:
    """Examine a log as the command line does."""
    anchored = journal.text(anchor) if anchor else None
    checkpoints = journal.text(folder / journal.CHECKPOINTS)
    return examine(journal.lines(folder), checkpoints, journal.key_of(folder), anchored=anchored)
