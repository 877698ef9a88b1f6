"""Owns the proof of proxy/journal/file.py: what could not be written whole is not there."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.journal.file import Appended


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: the part that fits is written, as on a disk that is full."""
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, ignored)


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """An existing file is appended to, and is its owner's alone."""
    path = tmp_path / "f"
    for data in (b"one", b"two"):
        file = Appended(path)
        file.add(data)
        file.sync()
        file.close()

    assert (b"onetwo", 0o600) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def test_a_full_disk_leaves_no_half(tmp_path: Path) -> None:
    """Of what did not fit nothing stays, and what comes when there is room again follows what was before."""
    file = Appended(tmp_path / "f")
    file.add(b"first")

    with full_at(8), pytest.raises(OSError, match="too large"):
        file.add(b"second")

    assert (b"first", 5) == ((tmp_path / "f").read_bytes(), file.size)
    file.add(b"third")
    assert b"firstthird" == (tmp_path / "f").read_bytes()
    file.close()


def test_it_is_laid_out_ahead(tmp_path: Path) -> None:
    """While it is open it has zeros behind what was written, which is where more goes; closed it has none."""
    path, sizes = tmp_path / "f", []
    file = Appended(path, ahead=100)
    for data in (b"first", b"second", b"x" * 200):
        file.add(data)
        sizes.append((file.size, path.stat().st_size))
    file.sync()
    file.close()

    assert [(5, 105), (11, 105), (211, 311)] == sizes
    assert b"firstsecond" + b"x" * 200 == path.read_bytes()


def test_where_nothing_can_be_laid_out_it_is_written_all_the_same(tmp_path: Path) -> None:
    """What fits is written, also where the zeros behind it do not."""
    file = Appended(tmp_path / "f", ahead=1000)
    with full_at(10):
        file.add(b"first")
    file.add(b"second")
    file.close()

    assert b"firstsecond" == (tmp_path / "f").read_bytes()


def test_it_is_cut_and_filled(tmp_path: Path) -> None:
    """What is behind a size goes; a shorter file has zeros there."""
    file = Appended(tmp_path / "f")
    file.add(b"first")
    file.cut(3)
    file.cut(4)
    file.add(b"x")
    file.close()

    assert b"fir\0x" == (tmp_path / "f").read_bytes()


def test_what_comes_while_it_syncs_needs_another_sync(tmp_path: Path) -> None:
    """Only what was there when a sync began is on disk when it ends."""
    comes = [b"meanwhile"]
    synced: list[int] = []

    def sync(_: int) -> None:
        synced.append(file.size)
        while comes:
            file.add(comes.pop())

    file = Appended(tmp_path / "f", sync=sync)
    file.add(b"x")
    for _ in range(3):
        file.sync()
    file.close()

    assert [1, 10] == synced


def test_after_a_failed_sync_nothing_counts(tmp_path: Path) -> None:
    """A later sync would say that all is well of what the disk never got."""
    file = Appended(tmp_path / "f")
    file.add(b"x")
    file.sync()
    file.sync()  # There is nothing to do.
    file.add(b"x")
    number = os.open("/dev/null", os.O_WRONLY)
    broken = os.dup(file._file)
    os.dup2(number, file._file)  # What cannot be synced stands for a disk that fails.

    with pytest.raises(OSError, match="Invalid argument"):
        file.sync()

    os.dup2(broken, file._file)
    for again in (file.sync, lambda: file.add(b"y")):
        with pytest.raises(OSError, match="the disk has failed"):
            again()
    os.close(number)
    os.close(broken)
    file.close()
