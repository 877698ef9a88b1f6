"""Owns how Handrail is started and what is known of it while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from proxy import config, journal
from proxy.documents import Source
from proxy.errors import ConfigError
from proxy.pipeline import House
from proxy.policy import Lock
from proxy.ports import Shelf
from proxy.shipping import Shipper
from proxy.stores import Budgets, sqlite
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    from proxy.stores.redis import SharedBudgets, SharedConversations


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
    conversations: SharedConversations | None
    """Sessions and the desk, where replicas share them; else they are in the store."""
    lock: Lock
    """As it lay beside the config when that was last read, taken or not."""
    opened_by: str = ""
    """The key that lets others reach the listener."""
    shelves: Mapping[str, Shelf] = {}
    """Tiers that records are shipped to, by name."""
    shippers: tuple[Shipper, ...] = ()
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
