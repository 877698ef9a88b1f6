"""Owns the SQLite file: its schema and migrations, and how it is opened.

Of the durability of the process: a commit has been handed to the operating system by `write()` and survives `kill -9`;
a power cut or a crash of the kernel may lose the newest records, and at worst damage the file. Of that of the disk:
what was answered as written is on disk, and the file is whole whenever power is cut.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from proxy.errors import ConfigError, Overloaded
from proxy.sealing import PLAIN, Seal


def _outbox(kind: str, key: str, *events: str) -> tuple[str, ...]:
    """Return what puts each written row of a table into the outbox, in the transaction that writes it.

    Trap: a trigger's own conflict clause gives way to that of the statement that fires it, hence no REPLACE.
    """
    return tuple(
        f"""CREATE TRIGGER {kind}_{event[:6].lower()} AFTER {event} ON {kind} WHEN EXISTS (SELECT 1 FROM shelves) BEGIN
            DELETE FROM outbox WHERE kind = '{kind}' AND id = NEW.{key};
            INSERT INTO outbox (kind, id) VALUES ('{kind}', NEW.{key}); END"""
        for event in events
    )


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # One row per finished call. A row that is written again gets a new `seq`, so that a reader who remembers the
        # last `seq` it saw misses nothing.
        """CREATE TABLE exchanges (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, started_ms INTEGER NOT NULL,
            session_id TEXT NOT NULL, turn INTEGER NOT NULL, prefix TEXT,
            agent TEXT NOT NULL, state TEXT NOT NULL, status INTEGER NOT NULL, model TEXT NOT NULL,
            cost_nanousd INTEGER, body TEXT NOT NULL) STRICT""",
        "CREATE INDEX exchanges_by_time ON exchanges (started_ms)",
        "CREATE INDEX exchanges_by_session ON exchanges (session_id, turn)",
        "CREATE INDEX exchanges_by_prefix ON exchanges (prefix) WHERE prefix IS NOT NULL",
        # One row per call in flight: what recovery finds of a process that died.
        """CREATE TABLE dispatched (
            exchange_id TEXT NOT NULL PRIMARY KEY, expires_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT""",
        # One row per attempt that is not settled. `held_nanousd` is NULL without a hold, `cost_nanousd` is NULL unless
        # the attempt expired, and then if its cost was never learned. Small tables of what is open cost a commit far
        # fewer pages than marks in a large one would.
        """CREATE TABLE attempts (
            reservation_id TEXT NOT NULL PRIMARY KEY, entry TEXT NOT NULL, expires_ms INTEGER NOT NULL,
            held_nanousd INTEGER, held_under TEXT NOT NULL, cost_nanousd INTEGER) STRICT, WITHOUT ROWID""",
        """CREATE TABLE counters (
            scope TEXT NOT NULL, window TEXT NOT NULL, settled_nanousd INTEGER NOT NULL,
            reserved_nanousd INTEGER NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL,
            at_ms INTEGER NOT NULL, PRIMARY KEY (scope, window)) STRICT, WITHOUT ROWID""",
    ),
    (
        # What is known of a session beyond its records.
        """CREATE TABLE sessions (
            session_id TEXT NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT""",
        "CREATE INDEX sessions_by_time ON sessions (at_ms)",
        # One row per action that a human has to approve; the newest of a key is the one that counts.
        """CREATE TABLE held (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT NOT NULL, state TEXT NOT NULL,
            expires_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT""",
        "CREATE INDEX held_by_key ON held (key)",
        "CREATE INDEX held_by_state ON held (state)",
        "CREATE INDEX held_by_expiry ON held (expires_ms)",
        # One row per packet, its delivery in the same row: neither exists without the other. `closed_ms` is NULL while
        # a human owns the conversation, `due_ms` once the packet is delivered.
        """CREATE TABLE handoffs (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session_id TEXT NOT NULL, closed_ms INTEGER,
            due_ms INTEGER, tries INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', delivered_ms INTEGER,
            body TEXT NOT NULL) STRICT""",
        "CREATE UNIQUE INDEX handoffs_open ON handoffs (session_id) WHERE closed_ms IS NULL",
        "CREATE INDEX handoffs_by_closing ON handoffs (closed_ms)",
        "CREATE INDEX handoffs_due ON handoffs (due_ms) WHERE due_ms IS NOT NULL",
    ),
    (
        # What policy knew along a call, where a rule asked to keep it: the only table with content.
        """CREATE TABLE facts (
            exchange_id TEXT NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT""",
        "CREATE INDEX facts_by_time ON facts (at_ms)",
    ),
    (
        # Where each conversation stands; of several that stand at one end the newest goes on first. A row that is
        # written again gets a new `seq`, so the oldest rows of this table and the next have the lowest.
        """CREATE TABLE stands (
            seq INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, turn INTEGER NOT NULL, end TEXT NOT NULL,
            at_ms INTEGER NOT NULL) STRICT""",
        "CREATE INDEX stands_by_end ON stands (end)",
        # The marks that conversations have left.
        """CREATE TABLE marks (
            seq INTEGER PRIMARY KEY, mark TEXT NOT NULL, user TEXT NOT NULL, session_id TEXT NOT NULL,
            turn INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT""",
        "CREATE UNIQUE INDEX marks_by_mark ON marks (mark, user, session_id)",
        # The column stays, since processes of an earlier version may write to the file while it is upgraded.
        "DROP INDEX exchanges_by_prefix",
    ),
    (
        # Which customer a conversation is with, whatever channel it came in on.
        """CREATE TABLE links (
            customer TEXT NOT NULL, session_id TEXT NOT NULL, channel TEXT NOT NULL, first_ms INTEGER NOT NULL,
            last_ms INTEGER NOT NULL, PRIMARY KEY (customer, session_id)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX links_by_session ON links (session_id)",
        "CREATE INDEX links_by_time ON links (last_ms)",
        # Of which conversation an action is: bodies may be sealed.
        "ALTER TABLE held ADD COLUMN session_id TEXT NOT NULL DEFAULT ''",
        "UPDATE held SET session_id = json_extract(body, '$.session_id')",
        "CREATE INDEX held_by_session ON held (session_id)",
        "CREATE INDEX handoffs_by_session ON handoffs (session_id)",
        "CREATE INDEX marks_by_session ON marks (session_id)",
    ),
    (
        # The tiers that rows are shipped to, and up to which `seq` of the outbox each of them has everything.
        "CREATE TABLE shelves (name TEXT NOT NULL PRIMARY KEY, shipped INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # Names of rows that some shelf has not got as they are now. Numbers are never given twice: a shelf's would
        # else be past rows that were written later.
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (kind, id)) STRICT""",
        # When a packet was written: bodies may be sealed.
        "ALTER TABLE handoffs ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0",
        "UPDATE handoffs SET at_ms = json_extract(body, '$.at_ms') WHERE json_valid(body)",
        # Triggers, so that nothing is written that is not shipped, whoever writes it; without shelves they do nothing.
        *_outbox("exchanges", "id", "INSERT"),
        *_outbox("facts", "exchange_id", "INSERT"),
        *_outbox("sessions", "session_id", "INSERT", "UPDATE OF body"),
        *_outbox("held", "id", "INSERT", "UPDATE OF body"),
        *_outbox("handoffs", "id", "INSERT", "UPDATE OF body"),
        *_outbox("links", "customer || ':' || NEW.session_id", "INSERT", "UPDATE"),
    ),
    (
        # What a command beside has done, until the audit log of a process that serves has it.
        "CREATE TABLE notices (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT",
    ),
)
"""Statements that bring a file from version `i` to `i + 1`; append only, since files of every version exist."""

_OPEN_S = 5.0
_MINIMUM = (3, 37, 0)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure the store."""

    path: str
    seal: Seal = PLAIN
    """What content is sealed with."""
    lease_ms: int = 60_000
    """How long a dispatched attempt without a hold counts as alive between heartbeats."""
    patience_s: float = 2.0
    """How long a call waits while another process holds the file."""
    closing_s: float = 5.0
    """How long closing waits to write what is queued."""
    checkpoint_s: float = 1.0
    """How often the log is moved into the file and synced to disk."""
    lasting_checkpoint_s: float = 5.0
    """The same where calls sync the log, unless it gets long: what moves it keeps the disk from their syncs."""
    max_pending: int = 10_000
    """Queued operations at which new calls are refused."""
    durability: Literal["process", "disk"] = "process"
    """What an answer survives: the end of the process, or also that of the machine."""

    @property
    def lasting(self) -> bool:
        """Say whether power cuts count."""
        return self.durability == "disk"


def connect(path: str, *, lasting: bool = False) -> sqlite3.Connection:
    """Open the file for serving, made or migrated as needed; raise ConfigError saying what is wrong with it."""
    if sqlite3.sqlite_version_info < _MINIMUM:
        raise ConfigError([f"SQLite {'.'.join(map(str, _MINIMUM))} is needed, this is {sqlite3.sqlite_version}"])
    try:
        _create(Path(path))
        connection = sqlite3.connect(path, timeout=_OPEN_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise unusable(path, error) from error
    try:
        _prepare(connection, path, lasting=lasting)
    except sqlite3.Error as error:
        connection.close()
        raise unusable(path, error) from error
    except ConfigError:
        connection.close()
        raise
    return connection


def reopen(path: str, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """Open a file that is there, beside whoever serves from it; raise ConfigError when it is not ours to read."""
    try:
        connection = sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode={mode}", uri=True, timeout=_OPEN_S, isolation_level=None
        )
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    try:
        # Whoever serves moves the log into the file, and syncs both where that is asked for.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        if check_version(connection, path) < len(MIGRATIONS):
            raise ConfigError([f"{path}: holds no records of this version of Handrail; start it once on this file"])
    except sqlite3.Error as error:
        connection.close()
        raise _unreadable(path, error) from error
    except ConfigError:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the newest schema in one transaction; raise ConfigError when a newer Handrail wrote it."""
    connection.execute("BEGIN IMMEDIATE")
    for statements in migrations[check_version(connection, path, len(migrations)) :]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={len(migrations)}")
    connection.execute("COMMIT")


def check_version(connection: sqlite3.Connection, path: str, newest: int = len(MIGRATIONS)) -> int:
    """Return the file's schema version; raise ConfigError when a newer Handrail wrote it."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > newest:
        raise ConfigError(
            [f"{path}: written by a newer Handrail (schema {version}, this one knows {newest}); upgrade Handrail"]
        )
    return version


def is_busy(error: Exception) -> bool:
    """Say whether another connection is in the way, so that waiting helps."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_full(error: Exception) -> bool:
    """Say whether there is no room left."""
    return _primary(error) == sqlite3.SQLITE_FULL


def is_trouble(error: Exception) -> bool:
    """Say whether the file, its disk or the machine is at fault, not the statement."""
    return type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError, MemoryError)


def overloaded(error: Exception) -> Overloaded:
    """Map an error of the file to what the caller is told."""
    what, code = _TROUBLES.get(_primary(error), ("failing", "store_unavailable"))
    return Overloaded(f"The record store is {what}.", code=code, headers={"retry-after": "1"})


_TROUBLES = {
    sqlite3.SQLITE_BUSY: ("busy", "store_busy"),
    sqlite3.SQLITE_LOCKED: ("busy", "store_busy"),
    sqlite3.SQLITE_FULL: ("full", "store_full"),
    sqlite3.SQLITE_READONLY: ("read-only", "store_unavailable"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "store_unavailable"),
    sqlite3.SQLITE_NOTADB: ("damaged", "store_unavailable"),
}

DISK_FULL = sqlite3.OperationalError("the disk is full")
"""What is known to happen, and need not be tried."""
DISK_FULL.sqlite_errorcode = sqlite3.SQLITE_FULL


def _create(path: Path) -> None:
    """Make the file private before SQLite sees it: its log and index files inherit the mode.

    Trap: closing a descriptor of a database drops every lock this process has on it, so an existing file is not opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT, 0o600))


def _prepare(connection: sqlite3.Connection, path: str, *, lasting: bool) -> None:
    if _log_mode(connection) != "wal":
        raise ConfigError([f"{path}: this file system cannot hold a SQLite write-ahead log; use a local disk"])
    # Where it is on, a commit syncs nothing but the head of a log that starts over.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if lasting else 'OFF'}")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    # Zeros are written over what is deleted, which not every build of SQLite does by itself.
    connection.execute("PRAGMA secure_delete=ON")
    migrate(connection, path)
    connection.execute("PRAGMA busy_timeout=0")


def _log_mode(connection: sqlite3.Connection) -> object:
    """Switch the file to a write-ahead log; where processes start together SQLite itself would not wait its turn."""
    until_s = time.monotonic() + _OPEN_S
    while True:
        try:
            return connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= until_s:
                raise
        time.sleep(0.01)


def unusable(path: str, error: Exception) -> ConfigError:
    """Say what is wrong with the file."""
    return ConfigError([f"{path}: cannot be used as the record store: {error}"])


def _unreadable(path: str, error: Exception) -> ConfigError:
    return ConfigError([f"{path}: cannot be read: {error}"])


def _primary(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
