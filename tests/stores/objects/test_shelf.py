"""Owns the proof of the cold tier beyond its contract: objects, damage, and what goes by whole days."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy.errors import Overloaded
from proxy.terms import Row, Selection, Table
from tests.stores.objects.buckets import DAY_MS, NOW_MS, Breaking, found, in_bucket, of, row


async def test_what_comes_again_makes_no_object() -> None:
    """The same batch in another order is the same object."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([row(1), row(2)])
        await shelf.write([row(2), row(1)])

    assert 1 == len(bucket.paths())


async def test_an_object_that_is_torn_is_written_again() -> None:
    """What a power cut left half written is made whole when its rows come again."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([row(1)])
        [path] = bucket.paths()
        bucket.replace(path, b"PAR1")
        with pytest.raises(Overloaded, match=f"object {path} is damaged"):
            await found(shelf, of("talk-1"))
        await shelf.write([row(1)])

        assert ["ex_1"] == [one.id for one in await found(shelf, of("talk-1"))]


def of_another_program() -> bytes:
    """Return a Parquet file that is none of ours."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("data", [b"", of_another_program()], ids=["empty", "of another program"])
async def test_what_is_no_object_of_ours_under_its_name_is_named(data: bytes) -> None:
    """Reading and erasing say which object it is, as for one that is torn; purging needs nothing but names."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([row(1)])
        [path] = bucket.paths()
        bucket.replace(path, data)

        for asking in (found(shelf, of("talk-1")), shelf.erase(of("talk-1"))):
            with pytest.raises(Overloaded, match=f"object {path} is damaged"):
                await asking
        assert 1 == await shelf.purge(Table.EXCHANGES, NOW_MS + 2 * DAY_MS, dry_run=False)


async def test_a_write_that_fails_is_told() -> None:
    """Rows that could not be written come again."""
    bucket = Breaking()
    bucket.left = 0
    async with in_bucket(bucket) as shelf:
        with pytest.raises(Overloaded, match="The cold tier failed: PowerCut: cut off"):
            await shelf.write([row(1)])


async def test_a_day_goes_as_a_whole() -> None:
    """Retention deletes a day when its last millisecond is old enough, and counts older versions."""
    rows = [row(1), row(1, version=2), row(2, at_ms=NOW_MS + DAY_MS - 1), row(3, at_ms=NOW_MS + DAY_MS)]
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        for one in rows:
            await shelf.write([one])
        whens = (NOW_MS + DAY_MS - 1, NOW_MS + DAY_MS)

        assert [0, 3] == [await shelf.purge(Table.EXCHANGES, when, dry_run=True) for when in whens]
        assert [0, 3] == [await shelf.purge(Table.EXCHANGES, when, dry_run=False) for when in whens]
        assert ["ex_3"] == [one.id for one in await found(shelf, of("talk-1"))]


def link(customer: str, session: str) -> Row:
    return row(1, session, customer, table=Table.LINKS, id=f"{customer}:{session}")


async def test_links_lead_to_conversations() -> None:
    """Rows that name no customer are found and erased with the conversation that a link says is the customer's."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([link("c", "talk-1"), row(1), row(2, "talk-2")])
        which = Selection(customers=frozenset(["c"]))

        assert ["ex_1", "c:talk-1"] == [one.id for one in await found(shelf, which)]
        assert {Table.EXCHANGES: 1, Table.LINKS: 1} == {
            table: count for table, count in (await shelf.erase(which)).items() if count
        }
        assert ["ex_2"] == [one.id for one in await found(shelf, of("talk-1", "talk-2"))]


async def test_the_names_of_customers_come_to_no_bucket() -> None:
    """What callers call a customer is for counters: it selects nothing here, and is never noted."""
    bucket = Breaking()
    async with in_bucket(bucket) as shelf:
        await shelf.write([row(1)])

        assert {} == await shelf.erase(Selection(names=frozenset(["Ada"])))
        assert [] == await found(shelf, Selection(names=frozenset(["Ada"]), sessions=frozenset([""])))
