"""Owns the store on one SQLite file, shared by every process of one host.

`open(Settings(path=…))` yields the store that serves; `Reader(path)` reads the same file beside it, and
`LocalTier(path)` is that file as the tier which every record is written to first. `Spool(path, shelf)` is what waits in
it for another tier.
"""

from __future__ import annotations

from proxy.stores.sqlite.file import Settings
from proxy.stores.sqlite.reader import Reader
from proxy.stores.sqlite.spool import Spool, enlist, turn
from proxy.stores.sqlite.store import SqliteStore, open  # noqa: A004 - the name that a store plug-in exports
from proxy.stores.sqlite.tier import LocalTier

__all__ = ["LocalTier", "Reader", "Settings", "Spool", "SqliteStore", "enlist", "open", "turn"]
