"""Owns the proof of proxy/stores/sqlite/checkpoints.py: the log moves into the file, and starts over."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.stores.sqlite.checkpoints import Checkpointer, copy_log, lay_out
from proxy.stores.sqlite.file import Settings, connect


def test_a_checkpoint_moves_the_log_into_the_file(tmp_path: Path) -> None:
    """After stop() the file by itself, without its log, holds everything that was committed."""
    path, copy = tmp_path / "handrail.db", tmp_path / "copy.db"
    with closing(connect(str(path))) as connection:
        connection.execute("INSERT INTO dispatched VALUES ('ex_1', 0, '{}')")
        checkpointer = Checkpointer(Settings(path=str(path), checkpoint_s=3600))
        checkpointer.start()
        checkpointer.stop()
        shutil.copy(path, copy)

    with closing(sqlite3.connect(copy)) as connection:
        assert ([("ex_1",)], "") == (
            connection.execute("SELECT exchange_id FROM dispatched").fetchall(),
            checkpointer.error,
        )


def test_a_long_log_starts_over(tmp_path: Path) -> None:
    """A log of many megabytes is overwritten from its beginning once it has been copied: it stops growing."""
    path = tmp_path / "handrail.db"
    with closing(connect(str(path))) as connection:
        insert = "INSERT INTO dispatched SELECT hex(randomblob(9)), 0, hex(randomblob(1200)) FROM generate_series"
        rows = "WITH RECURSIVE generate_series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM generate_series LIMIT 9000) "
        connection.execute(rows + insert)
        size = path.with_name("handrail.db-wal").stat().st_size
        checkpointer = Checkpointer(Settings(path=str(path), checkpoint_s=3600))
        checkpointer.start()
        checkpointer.stop()
        connection.execute("INSERT INTO dispatched VALUES ('ex_1', 0, '{}')")

        assert size == path.with_name("handrail.db-wal").stat().st_size


def test_a_failing_checkpoint_says_so(tmp_path: Path) -> None:
    """The thread survives a file it cannot copy into, and reports the error."""
    path = tmp_path / "handrail.db"
    path.write_bytes(b"no records" * 100)
    checkpointer = Checkpointer(Settings(path=str(path), checkpoint_s=3600))
    checkpointer.start()
    checkpointer.stop()

    assert "file is not a database" == checkpointer.error


def insert(connection: sqlite3.Connection, name: str) -> None:
    """Commit one record."""
    connection.execute("INSERT INTO dispatched VALUES (?, 0, '{}')", (name,))


def head(path: Path) -> bytes:
    """Return what tells one round of the log from the next: its two salts."""
    return path.with_name(f"{path.name}-wal").read_bytes()[16:24]


@pytest.mark.parametrize("lasting", [True, False], ids=["disk", "process"])
def test_who_copies_a_log_whole_starts_it_over_where_power_cuts_count(tmp_path: Path, lasting: bool) -> None:
    """The head of the new round is written, and synced, by the thread that copies: the next commit only appends."""
    path = tmp_path / "handrail.db"
    with closing(connect(str(path), lasting=lasting)) as connection, closing(connect(str(path))) as thread:
        insert(connection, "ex_1")
        before = head(path)
        copy_log(thread, lasting=lasting)
        started = head(path) != before
        copied = head(path)
        insert(connection, "ex_2")

        assert (lasting, lasting) == (started, head(path) == copied)


def test_a_log_with_nothing_new_rests(tmp_path: Path) -> None:
    """Where nobody writes, nothing is synced again and again."""
    path = tmp_path / "handrail.db"
    with closing(connect(str(path), lasting=True)) as connection:
        insert(connection, "ex_1")
        copy_log(connection, lasting=True)
        before = head(path)
        for _ in range(3):
            copy_log(connection, lasting=True)

        assert before == head(path)


def test_a_busy_file_is_started_over_another_time(tmp_path: Path) -> None:
    """Somebody who writes at that instant is in nobody's way."""
    path = tmp_path / "handrail.db"
    with closing(connect(str(path), lasting=True)) as connection, closing(connect(str(path))) as other:
        insert(connection, "ex_1")
        other.execute("BEGIN IMMEDIATE")
        before = head(path)
        copy_log(connection, lasting=True)

        assert before == head(path)


def test_a_log_is_laid_out_and_what_is_in_it_stays(tmp_path: Path) -> None:
    """It has the length that it grows to from the start, and a process that was killed leaves all it had written."""
    path, copy = tmp_path / "handrail.db", tmp_path / "copy.db"
    with closing(connect(str(path), lasting=True)) as connection:
        insert(connection, "ex_1")
        lay_out(connection, str(path))
        size = path.with_name("handrail.db-wal").stat().st_size
        insert(connection, "ex_2")
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        grown = path.with_name("handrail.db-wal").stat().st_size

    with closing(connect(str(copy))) as connection:
        assert [("ex_1",), ("ex_2",)] == connection.execute("SELECT exchange_id FROM dispatched").fetchall()
    assert (True, size) == (size > 8000 * 4096, grown)


def test_without_room_a_log_is_as_long_as_it_was(tmp_path: Path) -> None:
    """Laying out takes nothing that a record will need."""
    path = tmp_path / "handrail.db"
    with closing(connect(str(path), lasting=True)) as connection:
        log = path.with_name("handrail.db-wal")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
        try:
            lay_out(connection, str(path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

        assert 1 << 20 > log.stat().st_size
