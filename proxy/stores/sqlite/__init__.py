"""Owns the store on one SQLite file, shared by every process of one host.

`open(Settings(path=…))` yields the store that serves; `Reader(path)` reads the same file beside it.
"""

from __future__ import annotations

from proxy.stores.sqlite.reader import Reader
from proxy.stores.sqlite.store import Settings, SqliteStore, open  # noqa: A004 - the name that a store plug-in exports

__all__ = ["Reader", "Settings", "SqliteStore", "open"]
