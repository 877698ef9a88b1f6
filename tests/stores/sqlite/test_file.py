"""Owns the proof of proxy/stores/sqlite/file.py: opening and migrating."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import ConfigError, HandrailError
from proxy.stores.sqlite.file import (
    MIGRATIONS,
    _prepare,
    connect,
    is_busy,
    is_trouble,
    migrate,
    overloaded,
    reopen,
)

NEWER = f"schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)}"


def test_the_file_and_its_log_are_private(tmp_path: Path) -> None:
    """Folders are made as needed, and nobody but the owner reads what is recorded, whatever the umask."""
    before = os.umask(0)
    try:
        with closing(connect(str(tmp_path / "a" / "b" / "handrail.db"))):
            modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()}
    finally:
        os.umask(before)

    assert {"handrail.db": 0o600, "handrail.db-wal": 0o600, "handrail.db-shm": 0o600} == modes


def test_an_existing_file_is_opened_as_it_is(tmp_path: Path) -> None:
    """Opening again keeps what is there."""
    path = str(tmp_path / "handrail.db")
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO dispatched VALUES ('ex_1', 0, '{}')")

    with closing(connect(path)) as connection:
        assert [("ex_1",)] == connection.execute("SELECT exchange_id FROM dispatched").fetchall()


def test_processes_that_start_together_share_the_file(tmp_path: Path) -> None:
    """Several first openings at one instant all succeed."""
    path = str(tmp_path / "handrail.db")

    def version(_: int) -> object:
        with closing(connect(path)) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0]

    with ThreadPoolExecutor(8) as pool:
        assert [len(MIGRATIONS)] * 8 == list(pool.map(version, range(8)))


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")


def garbage(path: Path) -> None:
    path.write_bytes(b"these are not the records you are looking for" * 100)


def folder(path: Path) -> None:
    path.mkdir()


def cut_off(path: Path) -> None:
    with closing(connect(str(path))) as connection:
        connection.execute("INSERT INTO dispatched VALUES ('ex_1', 0, ?)", ("x" * 100_000,))
    os.truncate(path, path.stat().st_size // 2)


def taken(path: Path) -> None:
    with closing(connect(str(path))) as connection:
        connection.execute("DROP TABLE counters")
        connection.execute("PRAGMA user_version=0")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(newer, f"written by a newer Handrail ({NEWER}); upgrade Handrail", id="newer"),
        pytest.param(garbage, "cannot be used as the record store: file is not a database", id="not a database"),
        pytest.param(cut_off, "cannot be used as the record store: database disk image is malformed", id="cut off"),
        pytest.param(folder, "cannot be used as the record store: unable to open database file", id="a folder"),
        pytest.param(taken, "cannot be used as the record store: table exchanges already exists", id="other tables"),
    ],
)
def test_an_unusable_file_is_a_config_error(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    """The error names the file and says what is wrong with it."""
    path = tmp_path / "handrail.db"
    make(path)

    with pytest.raises(ConfigError) as refused:
        connect(str(path))

    assert [f"{path}: {says}"] == refused.value.problems


def test_an_unusable_folder_is_a_config_error(tmp_path: Path) -> None:
    """A path below a file cannot be made, and the error says so."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="cannot be used as the record store"):
        connect(str(tmp_path / "file" / "handrail.db"))


def test_a_file_system_without_a_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot keep a write-ahead log, as in a database in memory, nothing is served."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="cannot hold a SQLite write-ahead log"):
        connect(":memory:")


def test_migrations_run_forward_and_keep_the_rows() -> None:
    """A file of an older version gets exactly the steps it lacks."""
    first, second = ("CREATE TABLE t (a)",), ("ALTER TABLE t ADD b DEFAULT 2",)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "x", [first])
        connection.execute("INSERT INTO t VALUES (1)")
        for _ in range(2):
            migrate(connection, "x", [first, second])

        assert [(1, 2)] == connection.execute("SELECT * FROM t").fetchall()


def test_a_file_of_the_first_version_serves_on(tmp_path: Path) -> None:
    """Opening it adds what this version needs and keeps the records, so an upgrade is a restart."""
    path = str(tmp_path / "handrail.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, MIGRATIONS[:1])
        connection.execute("INSERT INTO dispatched VALUES ('ex_1', 0, '{}')")

    with closing(connect(path)) as connection:
        assert [("ex_1",)] == connection.execute("SELECT exchange_id FROM dispatched").fetchall()
        assert [] == connection.execute("SELECT * FROM handoffs").fetchall()


def test_actions_of_an_older_version_are_found_by_their_conversation(tmp_path: Path) -> None:
    """What stood in their bodies alone stands in a column as well."""
    path = str(tmp_path / "handrail.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, MIGRATIONS[:4])
        connection.execute("INSERT INTO held VALUES (1, 'ap_1', 'k', 'pending', 0, '{\"session_id\":\"se_1\"}')")

    with closing(connect(path)) as connection:
        assert [("se_1",)] == connection.execute("SELECT session_id FROM held").fetchall()


def test_what_is_deleted_is_written_over(tmp_path: Path) -> None:
    """Whatever this build of SQLite does by itself."""
    with closing(sqlite3.connect(tmp_path / "handrail.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        _prepare(connection, "x", lasting=False)

        assert (1,) == connection.execute("PRAGMA secure_delete").fetchone()


def test_a_failed_migration_changes_nothing() -> None:
    """A version's steps are one transaction: a file is never left between two versions."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, "x", [("CREATE TABLE t (a)", "not SQL")])
        connection.rollback()

        assert [] == connection.execute("SELECT name FROM sqlite_schema").fetchall()


def error(kind: type[sqlite3.Error], code: int) -> sqlite3.Error:
    """Make an error as SQLite raises it."""
    made = kind("words")
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "said", "name"),
    [
        pytest.param(sqlite3.SQLITE_BUSY_SNAPSHOT, "busy", "store_busy", id="busy"),
        pytest.param(sqlite3.SQLITE_FULL, "full", "store_full", id="full"),
        pytest.param(sqlite3.SQLITE_READONLY_DBMOVED, "read-only", "store_unavailable", id="read-only"),
        pytest.param(sqlite3.SQLITE_CORRUPT_INDEX, "damaged", "store_unavailable", id="damaged"),
        pytest.param(sqlite3.SQLITE_IOERR_WRITE, "failing", "store_unavailable", id="anything else"),
    ],
)
def test_the_caller_is_told_what_ails_the_store(code: int, said: str, name: str) -> None:
    """Each kind of trouble is a 503 with its own words, without a path, worth a retry."""
    told: HandrailError = overloaded(error(sqlite3.OperationalError, code))

    assert (503, name, f"The record store is {said}.", "1") == (
        told.status, told.code, str(told), told.headers["retry-after"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "trouble", "busy"),
    [
        pytest.param(error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY), True, True, id="busy"),
        pytest.param(error(sqlite3.OperationalError, sqlite3.SQLITE_FULL), True, False, id="full"),
        pytest.param(error(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT), True, False, id="damaged"),
        pytest.param(MemoryError(), True, False, id="no memory"),
        pytest.param(error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT), False, False, id="a bad row"),
        pytest.param(OverflowError(), False, False, id="a bad number"),
    ],
)
def test_trouble_is_told_from_bugs(raised: Exception, trouble: bool, busy: bool) -> None:
    """What the file is at fault for is tried again; what a statement is at fault for is not."""
    assert (trouble, busy) == (is_trouble(raised), is_busy(raised))


def test_a_file_that_is_opened_beside_keeps_its_log(tmp_path: Path) -> None:
    """However much is written beside whoever serves, the log stays for the one that syncs it."""
    path = str(tmp_path / "handrail.db")
    with closing(connect(path)) as serving, closing(reopen(path, "rw")) as beside:
        size = (tmp_path / "handrail.db").stat().st_size
        for number in range(3):
            beside.execute("INSERT INTO dispatched VALUES (?, 0, ?)", (f"ex_{number}", "x" * 6_000_000))

        assert (size, 3) == ((tmp_path / "handrail.db").stat().st_size, _count(serving))


def _count(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM dispatched").fetchone()[0]
    return count
