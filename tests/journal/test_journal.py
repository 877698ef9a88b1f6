"""Owns the proof of proxy/journal/journal.py: the loop never waits, nothing is lost unsaid, and `required` means it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import journal
from proxy.audit import newest
from proxy.errors import Overloaded
from proxy.journal.journal import BATCH, Journal, Pace
from proxy.journal.log import Log
from tests.journal.written import AT_MS, entries, kinds, look, said, settings

WAIT_S = 60.0
[A, B, C] = said("a", "b", "c")


class FullLog(Log):
    """A log whose disk is full, or fails, as long as a test says so."""

    full = False
    failing = False
    hangs = False
    syncs = 0

    def append(self, writers: object) -> None:
        """Append, if there is room."""
        if self.full:
            raise OSError(28, "No space left on device")
        super().append(writers)  # type: ignore[arg-type]  # passed on as it came

    def sync(self) -> None:
        """Sync, if the disk does."""
        self.syncs += 1
        while self.hangs:
            time.sleep(0.001)
        if self.failing:
            raise OSError(5, "Input/output error")
        super().sync()


QUICK = Pace(poll_s=0.005, checkpoint_entries=3, checkpoint_s=60, heartbeat_s=60, retry_s=0.01, room=8)


@asynccontextmanager
async def kept(
    folder: Path,
    *,
    required: bool = False,
    pace: Pace = QUICK,
    anchor: Path | None = None,
    segment_bytes: int = 1 << 20,
    tell: Callable[[str], None] | None = None,
    tell_anchor: Callable[[str, str], None] | None = None,
) -> AsyncIterator[tuple[Journal, FullLog]]:
    """Keep a log while the context is open."""
    log = await asyncio.to_thread(FullLog.open, settings(folder, anchor=anchor, segment_bytes=segment_bytes), AT_MS)
    kept = Journal(log, required=required, pace=pace, tell=tell, tell_anchor=tell_anchor)
    try:
        yield kept, log
    finally:
        await kept.close()


off = asyncio.to_thread
"""Files are read off the loop, as in the house."""


async def names(folder: Path) -> list[str]:
    """Name the calls of a log."""
    return [entry["id"] for entry in await off(entries, folder) if entry["kind"] == "call"]


async def until(claim: Callable[[], object]) -> bool:
    """Wait until a claim is true."""
    async with asyncio.timeout(WAIT_S):
        while not claim():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.002)
    return True


async def test_what_is_noted_is_written_in_its_order(tmp_path: Path) -> None:
    """And when it closes, that it stopped; all of it signed."""
    async with kept(tmp_path) as (log, _):
        for write in (A, B, C):
            log.note(write)

    assert ["opened", "call", "call", "call", "stopped"] == (await off(kinds, tmp_path))
    assert ["a", "b", "c"] == await names(tmp_path)
    assert ((), 5) == ((report := await off(look, tmp_path)).problems, report.signed)


async def test_where_it_is_not_required_nobody_waits(tmp_path: Path) -> None:
    """Nor for the disk: `ensure` only puts the entry down, also where it cannot be written."""
    async with kept(tmp_path) as (log, disk):
        disk.full = True
        await log.ensure(A)

        assert await until(lambda: log.trouble)
        await log.ensure(B)
        assert 0 == disk.syncs
        disk.full = False
    assert ["opened", "call", "call", "stopped"] == (await off(kinds, tmp_path))


async def test_where_it_is_required_it_is_on_disk_first(tmp_path: Path) -> None:
    """`ensure` returns when the entry is in the file and synced."""
    async with kept(tmp_path, required=True) as (log, disk):
        await asyncio.gather(log.ensure(A), log.ensure(B))

        assert (["opened", "call", "call"], True) == ((await off(kinds, tmp_path)), disk.syncs > 0)


async def test_where_it_is_required_and_full_nothing_goes_on(tmp_path: Path) -> None:
    """Whoever waits is refused, at once where that is known, and has no entry; what was noted is written later."""
    async with kept(tmp_path, required=True) as (log, disk):
        disk.full = True
        for _ in range(2):
            with pytest.raises(Overloaded, match="nothing may be sent") as caught:
                await log.ensure(A)
        await asyncio.sleep(0.05)  # Some tries later, with nothing to write, it is no better.
        log.note(B)
        assert ("audit_unavailable", "No space left on device") == (caught.value.code, log.trouble)

        disk.full = False
        assert await until(lambda: not log.trouble)
        await log.ensure(C)
    assert ["b", "c"] == await names(tmp_path)


async def test_trouble_is_told_once_and_its_end_too(tmp_path: Path) -> None:
    """So that somebody hears of it also where calls go on."""
    told: list[str] = []
    async with kept(tmp_path, tell=told.append) as (log, disk):
        disk.full = True
        log.note(A)
        assert await until(lambda: log.trouble)
        await asyncio.sleep(0.05)
        disk.full = False
        assert await until(lambda: not log.trouble)

    assert ["No space left on device", ""] == told


async def test_a_disk_that_does_not_sync_refuses(tmp_path: Path) -> None:
    """The entry is in the file, and the call does not go on."""
    async with kept(tmp_path, required=True) as (log, disk):
        disk.failing = True
        with pytest.raises(Overloaded):
            await log.ensure(A)

        assert "Input/output error" == log.trouble
        disk.failing = False


async def test_a_disk_that_hangs_refuses(tmp_path: Path) -> None:
    """After a while."""
    async with kept(tmp_path, required=True, pace=Pace(poll_s=0.005, patience_s=0.01)) as (log, disk):
        disk.hangs = True
        with pytest.raises(Overloaded):
            await log.ensure(A)
        disk.hangs = False


async def test_what_finds_no_room_is_counted(tmp_path: Path) -> None:
    """A log that cannot keep up says how many entries it has not; a call that must not go on unlogged is refused."""
    async with kept(tmp_path, required=True) as (log, disk):
        disk.full = True
        log.note(A)
        assert await until(lambda: log.trouble)
        for _ in range(20):
            log.note(A)
        assert 13 == log.lost == log.status()["lost"]
        disk.full = False
        assert await until(lambda: not log.lost)

    lost = [entry for entry in await off(entries, tmp_path) if entry["kind"] == "lost"]
    assert ([13], 8) == ([entry["count"] for entry in lost], (await off(kinds, tmp_path)).count("call"))


async def test_without_room_nothing_goes_on(tmp_path: Path) -> None:
    """Where the queue is full before the trouble is known."""
    async with kept(tmp_path, required=True, pace=Pace(poll_s=60, room=1)) as (log, _):
        log.note(A)
        with pytest.raises(Overloaded):
            await log.ensure(B)


async def test_it_goes_on_in_another_file(tmp_path: Path) -> None:
    """Where one is full; what comes meanwhile waits, and nothing is lost between the two."""
    names = [f"{number}" for number in range(40)]
    async with kept(tmp_path, required=True, pace=Pace(poll_s=0.005), segment_bytes=400) as (log, _):
        for name in names:
            log.note(said(name)[0])
            await log.ensure(said(name)[0])

    assert [name for name in names for _ in range(2)] == [
        entry["id"] for entry in await off(entries, tmp_path) if entry["kind"] == "call"
    ]
    assert (await off(kinds, tmp_path)).count("opened") > 5
    assert () == (await off(look, tmp_path)).problems


async def test_what_waits_when_trouble_comes_is_refused(tmp_path: Path) -> None:
    """Also what is far back in the queue; what was noted between stays, and is written when that can be done."""
    async with kept(tmp_path, required=True, pace=Pace(poll_s=0.005, retry_s=0.01)) as (log, disk):
        disk.full = True
        for _ in range(BATCH):
            log.note(A)
        waiting = log.ensure(B)
        with pytest.raises(Overloaded):
            await waiting
        disk.full = False
    assert ["a"] * BATCH == await names(tmp_path)


async def test_checkpoints_come_by_number(tmp_path: Path) -> None:
    """After so many entries there is one that covers them, and the second place gets it."""
    async with kept(tmp_path / "log", anchor=tmp_path / "anchor") as (log, disk):
        for write in (A, B, C):
            log.note(write)

        assert await until(lambda: disk.signed >= 4)
        assert await until(lambda: log.anchors == {"path": ""})
        assert disk.note == log.newest
    found = newest(await off(journal.text, tmp_path / "anchor"))
    assert found
    assert found.size == disk.signed


async def test_checkpoints_come_by_time(tmp_path: Path) -> None:
    """Few entries are signed after a while."""
    async with kept(tmp_path, pace=Pace(poll_s=0.005, checkpoint_s=0.01)) as (log, disk):
        log.note(A)

        assert await until(lambda: disk.signed == 2)


async def test_silence_is_told(tmp_path: Path) -> None:
    """Without entries there is one that says that Handrail is alive."""
    async with kept(tmp_path, pace=Pace(poll_s=0.005, heartbeat_s=0.02)) as (_, disk):
        assert await until(lambda: disk.size >= 3)

    assert {"opened", "alive", "stopped"} == set(await off(kinds, tmp_path))


async def test_an_anchor_that_fails_is_told_and_holds_nothing_up(tmp_path: Path) -> None:
    """It gets the newest checkpoint when it is back."""
    place = tmp_path / "volume"
    told: list[tuple[str, str]] = []

    def tell(*what: str) -> None:
        told.append((what[0], what[1]))

    async with kept(tmp_path / "log", required=True, anchor=place / "anchor", tell_anchor=tell) as (log, _):
        await log.ensure(A)
        assert await until(lambda: log.anchors)
        assert ({"path": "No such file or directory"}, "") == (log.anchors, log.trouble)

        place.mkdir()
        assert await until(lambda: log.anchors["path"] == "")
        assert [("path", "No such file or directory"), ("path", "")] == told
    assert () == (await off(look, tmp_path / "log", place / "anchor")).problems
    shutil.rmtree(place)


async def test_status_says_how_it_is(tmp_path: Path) -> None:
    """For the admin page."""
    async with kept(tmp_path) as (log, disk):
        told = log.status()

    assert {
        "log": disk.origin, "required": False, "entries": 1, "signed": 1, "pending": 0, "lost": 0, "trouble": "",
        "anchors": {},
    } == told  # fmt: skip


async def test_a_caller_that_left_is_no_trouble(tmp_path: Path) -> None:
    """Its entry is there all the same."""
    async with kept(tmp_path, required=True) as (log, _):
        waiting = asyncio.gather(log.ensure(A))
        await asyncio.sleep(0)
        waiting.cancel()
        await log.ensure(B)

    assert ["a", "b"] == await names(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_in_its_thread_is_trouble(tmp_path: Path) -> None:
    """Where the thread has ended, nothing goes on unlogged."""

    class Broken(FullLog):
        def anchor(self) -> bool:
            """Fail in a way that nobody foresaw."""
            raise RuntimeError("a bug")

    log = await asyncio.to_thread(Broken.open, settings(tmp_path), AT_MS)
    broken = Journal(log, required=True, pace=Pace(poll_s=0.005, patience_s=0.05))

    assert await until(lambda: broken.trouble == "its thread has ended")
    with pytest.raises(Overloaded):
        await broken.ensure(A)
    await broken.close()


async def test_opening_and_leaving(tmp_path: Path) -> None:
    """The context is the whole life of a log."""
    async with journal.open(settings(tmp_path), required=True, at_ms=AT_MS) as log:
        await log.ensure(A)

    assert ["opened", "call", "stopped"] == (await off(kinds, tmp_path))
