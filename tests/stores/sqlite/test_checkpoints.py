"""Owns the proof of proxy/stores/sqlite/checkpoints.py: the log moves into the file, and starts over."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.stores.sqlite.ballast import Ballast
from proxy.stores.sqlite.checkpoints import Checkpointer, copy_log, is_long, lay_out
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


class Counted(Ballast):
    """Room that tells how often it was looked after: once each time that the thread was awake."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._looks = threading.Semaphore(0)

    def hold(self) -> None:
        """Count."""
        self._looks.release()

    def wait(self, times: int) -> None:
        """Return when the thread was awake so often since."""
        while self._looks.acquire(blocking=False):
            pass
        for _ in range(times):
            assert self._looks.acquire(timeout=30)


def insert(connection: sqlite3.Connection, name: str) -> None:
    """Commit one record."""
    connection.execute("INSERT INTO dispatched VALUES (?, 0, '{}')", (name,))


def head(path: Path) -> bytes:
    """Return what tells one round of the log from the next: its two salts."""
    return path.with_name(f"{path.name}-wal").read_bytes()[16:24]


def test_how_long_a_log_is_its_pages_tell(tmp_path: Path) -> None:
    """Those of an earlier round, and zeros that are laid out, do not count."""
    path = tmp_path / "handrail.db"
    with closing(connect(str(path), lasting=True)) as connection:
        lay_out(connection, str(path))
        for name in range(20):
            insert(connection, f"ex_{name}")
        frames = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        told = [is_long(str(path), count) for count in (1, frames, frames + 1, 1 << 20)]
        copy_log(connection, lasting=True)

        assert ([True, True, False, False], False) == (told, is_long(str(path), frames))


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        pytest.param({"durability": "process"}, True, id="process"),
        pytest.param({"durability": "disk"}, False, id="disk"),
        pytest.param({"durability": "disk", "lasting_checkpoint_s": 0.0}, True, id="disk, after a while"),
    ],
)
def test_a_log_that_calls_sync_is_moved_less_often(tmp_path: Path, settings: dict[str, Any], moved: bool) -> None:
    """Since that keeps the disk from them. What moves it at all is told by the ballast, held after each time."""
    path = tmp_path / "handrail.db"
    looked = Counted(path)
    chosen = Settings(path=str(path), checkpoint_s=0.001, **settings)
    with closing(connect(str(path), lasting=chosen.lasting)) as connection:
        checkpointer = Checkpointer(chosen, looked)
        checkpointer.start()
        looked.wait(2)
        insert(connection, "ex_1")
        looked.wait(5)
        row = b"ex_1" in path.read_bytes()
        checkpointer.stop()

    assert (moved, True) == (row, b"ex_1" in path.read_bytes())


def test_a_log_that_is_gone_is_told_by_who_moves_it(tmp_path: Path) -> None:
    """The thread survives that too."""
    path, looked = tmp_path / "no" / "handrail.db", Counted(tmp_path / "handrail.db")
    checkpointer = Checkpointer(Settings(path=str(path), checkpoint_s=0.001, durability="disk"), looked)
    checkpointer.start()
    looked.wait(3)
    checkpointer.stop()

    assert "unable to open database file" == checkpointer.error


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
