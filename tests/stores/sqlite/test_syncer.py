"""Owns the proof of proxy/stores/sqlite/syncer.py: one sync for all who wait, and none that began too early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.errors import Overloaded
from proxy.stores.sqlite.syncer import Syncer
from tests.stores.sqlite.disks import SlowDisk


async def test_who_comes_during_a_sync_gets_the_next() -> None:
    """It may have begun before their record was written. All of them share it."""
    told: list[tuple[str, Overloaded | None]] = []
    async with SlowDisk.syncing() as (disk, syncer):
        syncer.sync(lambda failure: told.append(("a", failure)))
        await disk.begun(1)
        for name in ("b", "c"):
            syncer.sync(lambda failure, name=name: told.append((name, failure)))  # type: ignore[misc]  # bound early
        disk.end()
        await disk.begun(2)
        first = list(told)
        disk.end()
        await syncer.close()

    assert ([("a", None)], [("a", None), ("b", None), ("c", None)], 2) == (first, told, disk.syncs)


async def test_a_failed_sync_is_the_last() -> None:
    """Who waits and who comes later is told; the disk is not asked again, for its yes would prove nothing."""
    told: list[Overloaded | None] = []
    async with SlowDisk.syncing(fails=True) as (disk, syncer):
        for _ in range(2):
            syncer.sync(told.append)
        await syncer.close()
        syncer.sync(told.append)

    assert (["store_unavailable"] * 3, 1) == ([failure.code for failure in told if failure], disk.syncs)
    assert "the disk has failed ([Errno 5] Input/output error); restart Handrail once it is well" == syncer.error


async def test_the_log_of_a_store_is_opened(tmp_path: Path) -> None:
    """It is there, since a connection holds it open; where it is not, that is an error and nothing stays open."""
    (tmp_path / "x.db-wal").touch()
    syncer = await Syncer.open(str(tmp_path / "x.db"))
    await syncer.close()
    before = os.listdir("/proc/self/fd")

    with pytest.raises(FileNotFoundError):
        await Syncer.open(str(tmp_path / "none.db"))
    assert len(before) == len(os.listdir("/proc/self/fd"))
