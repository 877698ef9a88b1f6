"""Owns the proof that the cold tier keeps, finds, purges and erases rows, with each service, and wherever it breaks."""

from __future__ import annotations

import time

import pytest

from proxy.errors import Overloaded
from proxy.stores.objects import ObjectShelf
from proxy.stores.objects.erasing import LEASE_MS
from proxy.terms import Selection, Table
from tests.stores.objects.buckets import DAY_MS, NOW_MS, Breaking, found, in_bucket, of, row


async def test_a_shelf_keeps_finds_and_erases(shelf: ObjectShelf) -> None:
    """With each service rows are found as they are now, by conversation and customer, until they are erased."""
    rows = [row(number, f"conversation-{number % 2}", f"customer-{number % 3}") for number in range(6)]
    for batch in (rows, rows, [row(0, "conversation-0", "customer-0", version=2)]):
        await shelf.write(batch)
    customer = Selection(customers=frozenset(["customer-0"]))

    assert [("ex_0", 2), ("ex_3", 1)] == [(one.id, one.version) for one in await found(shelf, customer)]
    assert {Table.EXCHANGES: 2} == {table: count for table, count in (await shelf.erase(customer)).items() if count}
    assert ["ex_2", "ex_4"] == [one.id for one in await found(shelf, of("conversation-0"))]
    assert {"customer-0": 0, "customer-1": 0} != await shelf.search(["customer-0", "customer-1"])
    assert 0 == (await shelf.search(["customer-0"]))["customer-0"]


async def test_retention_goes_by_days(shelf: ObjectShelf) -> None:
    """An object goes when its whole day is over by then; a dry run deletes nothing."""
    await shelf.write([row(1), row(2, at_ms=NOW_MS + DAY_MS)])
    over = NOW_MS + DAY_MS

    assert [0, 1, 1, 0] == [
        await shelf.purge(Table.EXCHANGES, before, dry_run=dry)
        for before, dry in ((over - 1, False), (over, True), (over, False), (over, False))
    ]
    assert ["ex_2"] == [one.id for one in await found(shelf, of("talk-1"))]


async def test_nobody_is_selected_by_the_empty_name() -> None:
    """Rows without a customer are not those of one customer without a name."""
    async with in_bucket(Breaking()) as shelf:
        await shelf.write([row(1)])

        assert {} == await shelf.erase(Selection(customers=frozenset([""])))
        assert 1 == len(await found(shelf, of("talk-1")))


async def test_an_erasure_may_break_off_anywhere() -> None:
    """After a cut at any step what was erased never comes back, what stays is whole, and another one finishes."""
    steps = 0
    while steps < 20:
        bucket = Breaking()
        async with in_bucket(bucket) as shelf:
            await shelf.write([row(1, "gone-1"), row(2, "stays-1"), row(3, "gone-1", at_ms=NOW_MS + DAY_MS)])
            await shelf.write([row(1, "gone-1", version=2)])
            bucket.left = steps
            try:
                await shelf.erase(of("gone-1"))
                break
            except Overloaded:
                bucket.left = 10**9
        begun = "erasing.json" in bucket.paths()
        async with in_bucket(bucket, "another", int(time.time() * 1000) + LEASE_MS + 1000) as shelf:
            assert ([] if begun else ["ex_1", "ex_3"]) == [one.id for one in await found(shelf, of("gone-1"))]
            assert ["ex_2"] == [one.id for one in await found(shelf, of("stays-1"))]
            await shelf.erase(of("gone-1"))
            assert {"gone-1": 0} == await shelf.search(["gone-1"])
            assert ["ex_2"] == [one.id for one in await found(shelf, of("stays-1"))]
        steps += 1

    assert steps > 5


async def test_a_damaged_object_is_named() -> None:
    """An object that cannot be read is an error that says which it is."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([row(1)])
        [path] = bucket.paths()
        bucket.replace(path, b"PAR1" + b"\1" * 40)

        with pytest.raises(Overloaded, match=r"exchanges/date=2026-01-01/.* is damaged|cold tier failed"):
            await found(shelf, of("talk-1"))


async def test_a_torn_object_is_mended_when_it_comes_again() -> None:
    """A file that a power cut left half written is no proof that its rows are kept."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([row(1)])
        bucket.replace(bucket.paths()[0], b"")
        await shelf.write([row(1)])

        assert [row(1)] == await found(shelf, of("talk-1"))
