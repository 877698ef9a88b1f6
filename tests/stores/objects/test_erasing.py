"""Owns the proof that an erasure is whole wherever it breaks off, and that two never rewrite the same objects."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from proxy.errors import Overloaded
from proxy.stores.objects.erasing import LEASE_MS, PATH
from proxy.terms import Table
from tests.stores.objects.buckets import DAY_MS, NOW_MS, Breaking, found, in_bucket, of, row

ROWS = [
    row(1, "talk-1"),
    row(2, "talk-2"),
    row(3, "talk-1", at_ms=NOW_MS + DAY_MS),
    row(4, "talk-1", table=Table.FACTS),
]
"""Three objects: of one a row stays, of two none does."""


async def broken_off(bucket: Breaking, after: int) -> bool:
    """Begin an erasure that is cut off after so many changes; say whether it was."""
    async with in_bucket(bucket) as shelf:
        await shelf.write(ROWS)
        bucket.left = after
        try:
            await shelf.erase(of("talk-1"))
        except Overloaded:
            return True
        finally:
            bucket.left = 10**9
    return False


async def steps() -> int:
    """Count the changes that an erasure makes."""
    for after in itertools.count():
        if not await broken_off(Breaking(), after):
            return after
    raise AssertionError


@pytest.mark.parametrize("note", [b"", b"\0" * 64, b"{}"], ids=["empty", "zeros", "of another program"])
async def test_a_damaged_note_is_named_and_old_rows_go_all_the_same(note: bytes) -> None:
    """What a power cut left of a note stops no purge, and whoever reads or erases learns what to do."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write(ROWS)
        bucket.replace(PATH, note)

        for asking in (found(shelf, of("talk-1")), shelf.erase(of("talk-1"))):
            with pytest.raises(Overloaded, match=f"{PATH}, is damaged: delete it, and run that erasure again"):
                await asking
        assert 3 == await shelf.purge(Table.EXCHANGES, NOW_MS + 3 * DAY_MS, dry_run=False)
        assert [Table.FACTS] == [path.partition("/")[0] for path in bucket.paths() if path != PATH]


async def test_wherever_it_breaks_off_the_next_finishes_it() -> None:
    """After each step: what stays is there once, what is noted to go is hidden, and the next erasure leaves nothing."""
    for after in range(await steps()):
        bucket = Breaking()
        assert await broken_off(bucket, after)
        async with in_bucket(bucket) as shelf:
            assert ["ex_2"] == [one.id for one in await found(shelf, of("talk-2"))]
            hidden = [one.id for one in await found(shelf, of("talk-1"))]
            await shelf.erase(of("talk-1"))

            assert hidden == ([] if after else ["ex_1", "ex_3", "ex_4"])
            assert {"talk-1": 0, "ex_1": 0, "talk-2": 1} == await shelf.search(["talk-1", "ex_1", "talk-2"])
            assert ["ex_2"] == [one.id for one in await found(shelf, of("talk-1", "talk-2"))]
        assert PATH not in bucket.paths()


async def test_retention_finishes_it_as_well() -> None:
    """Nobody has to ask again: the next purge does what is left."""
    bucket = Breaking()
    await broken_off(bucket, 2)
    async with in_bucket(bucket) as shelf:
        await shelf.purge(Table.EXCHANGES, 0, dry_run=True)
        noted = PATH in bucket.paths()
        await shelf.purge(Table.EXCHANGES, 0, dry_run=False)

    assert (True, False, 1) == (noted, PATH in bucket.paths(), len(bucket.paths()))


async def test_two_never_erase_at_once() -> None:
    """What another began it may still be at: who comes is told to try later, and takes over when it is long silent."""
    bucket = Breaking()
    await broken_off(bucket, 2)
    written = bucket.written(PATH)
    assert written is not None
    now_ms = int(written.timestamp() * 1000)
    async with in_bucket(bucket, "another", now_ms + LEASE_MS - 2000) as shelf:
        with pytest.raises(Overloaded, match="Another erasure in the cold tier is under way"):
            await shelf.erase(of("talk-2"))
    async with in_bucket(bucket, "another", now_ms + LEASE_MS + 2000) as shelf:
        await shelf.erase(of("talk-2"))

    assert [] == bucket.paths()


async def test_rows_written_meanwhile_stay() -> None:
    """An erasure that broke off hides what it found, and nothing that came later."""
    bucket = Breaking()
    await broken_off(bucket, 2)
    async with in_bucket(bucket) as shelf:
        await shelf.write([replace(row(9, "talk-1"), version=2)])

        assert ["ex_9"] == [one.id for one in await found(shelf, of("talk-1"))]
