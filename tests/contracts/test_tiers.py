"""Owns the contract of Tier, proven for every tier, and that of Shelf for those that rows are shipped to."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from proxy.ports import Shelf
from proxy.sealing import KEY_BYTES, NONCE_BYTES, PLAIN, Seal
from proxy.stores.sqlite import LocalTier
from proxy.terms import Handoff, Held, Kept, Row, Selection, Session, Table
from tests.contracts.tiers import ALL, SHELVES, TIERS, Filled, Noun, rows_of, write
from tests.stores.samples import AT_MS, LEASE_MS, exchange, handoff, held

NOTHING = dict.fromkeys(Table, 0)


@pytest.fixture(params=TIERS)
async def filled(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Filled]:
    """Give each tier in turn, empty."""
    async with TIERS[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture(params=SHELVES)
async def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    """Give each shelf in turn, empty."""
    async with SHELVES[request.param](tmp_path) as opened:
        yield opened


def conversation(number: int, customer: str = "") -> tuple[Noun, ...]:
    """Make one record of every table that calls write, all of one conversation."""
    session = f"talk-{number}"
    return (
        replace(exchange(f"ex_{number}", session=session, started_ms=AT_MS + number), customer=customer),
        Kept(exchange_id=f"ex_{number}", at_ms=AT_MS + number, policy_digest=f"kept-{number}"),
        Session(id=session, turn=1, labels=(f"label-{number}",)),
        replace(held(f"hd_{number}", f"key-{number}"), session_id=session),
        handoff(f"ho_{number}", session),
    )


def names(rows: list[Row]) -> set[tuple[Table, str]]:
    return {(row.table, row.id) for row in rows}


def of(*numbers: int, customers: str = "") -> set[tuple[Table, str]]:
    """Name the rows of conversations."""
    found = set()
    for number, customer in zip(numbers, customers or " " * len(numbers), strict=True):
        found |= {
            (Table.EXCHANGES, f"ex_{number}"),
            (Table.FACTS, f"ex_{number}"),
            (Table.SESSIONS, f"talk-{number}"),
            (Table.HELD, f"hd_{number}"),
            (Table.HANDOFFS, f"ho_{number}"),
        }
        found |= {(Table.LINKS, f"{customer}:talk-{number}")} if customer.strip() else set()
    return found


async def test_every_table_is_in_every_tier(filled: Filled) -> None:
    """What a call writes is found by its conversation, and by nobody else's."""
    await filled.put(*conversation(1, "c"), *conversation(2))

    assert of(1, customers="c") == names(await rows_of(filled.tier, Selection(sessions=frozenset(("talk-1",)))))
    assert of(1, 2, customers="c ") == names(await rows_of(filled.tier))


async def test_rows_are_found_by_their_customer(filled: Filled) -> None:
    """Every conversation of a customer is found, whatever channel it came in on."""
    await filled.put(*conversation(1, "c"), *conversation(2, "d"), *conversation(3, "c"))

    assert of(1, 3, customers="cc") == names(await rows_of(filled.tier, Selection(customers=frozenset("c"))))


async def test_nothing_is_selected_by_nothing(filled: Filled) -> None:
    """A selection that names nobody selects no row, and erases none."""
    await filled.put(*conversation(1, "c"))

    assert ([], NOTHING) == (
        await rows_of(filled.tier, Selection()),
        {**NOTHING, **await filled.tier.erase(Selection())},
    )
    assert of(1, customers="c") == names(await rows_of(filled.tier))


async def test_a_row_tells_its_record(filled: Filled) -> None:
    """A row has when it happened, whose conversation it is, and the record as it was written."""
    record = replace(exchange("ex_1", session="talk-1", started_ms=AT_MS + 7), customer="c", error='"quoted" \x00 ünï')
    await filled.put(record)

    [row] = [row for row in await rows_of(filled.tier) if row.table is Table.EXCHANGES]

    assert ("ex_1", AT_MS + 7, "talk-1", "c") == (row.id, row.at_ms, row.session_id, row.customer)
    assert (record.error, "ex_1-request") == (json.loads(row.body)["error"], json.loads(row.body)["decisions"][0]["id"])


async def test_rows_come_oldest_first(filled: Filled) -> None:
    """Within a table rows are in the order in which they happened, however many there are."""
    times = [AT_MS + (number * 7919) % 1201 for number in range(1201)]
    await filled.put(*(exchange(f"ex_{at_ms}", session="talk-1", started_ms=at_ms) for at_ms in times))

    assert sorted(times) == [row.at_ms for row in await rows_of(filled.tier)]


async def test_the_newest_of_a_row_counts(filled: Filled) -> None:
    """A record that was written again comes once, as it is now, with a higher version."""
    await filled.put(replace(exchange("ex_1", session="talk-1"), status=1), Session(id="talk-1", labels=("a",)))
    before = {row.table: row for row in await rows_of(filled.tier)}
    await filled.put(replace(exchange("ex_1", session="talk-1"), status=2), Session(id="talk-1", labels=("b",)))

    after = {row.table: row for row in await rows_of(filled.tier)}

    assert [True, True] == [after[table].version > before[table].version for table in after]
    assert (2, ["a", "b"]) == (
        json.loads(after[Table.EXCHANGES].body)["status"],
        json.loads(after[Table.SESSIONS].body)["labels"],
    )


OVER = {Table.HELD: LEASE_MS}
"""How much later than it was written a row of a table is over."""
DAYS_MS = 2 * 24 * 3600 * 1000
"""After so long also a tier that deletes whole days has deleted what is over."""


@pytest.mark.parametrize("table", [Table.EXCHANGES, Table.FACTS, Table.SESSIONS, Table.HELD])
async def test_purging_takes_what_is_older(filled: Filled, table: Table) -> None:
    """Of one table goes what happened before, and nothing else; a dry run tells how much, and deletes nothing."""
    await filled.put(*conversation(1), *conversation(2))
    await filled.put(exchange("ex_9", session="talk-9", started_ms=AT_MS + 10**9))
    old = {row for row in names(await rows_of(filled.tier)) if row[0] is table and row[1] != "ex_9"}
    late = AT_MS + OVER.get(table, 0) + DAYS_MS
    if table is Table.EXCHANGES:
        # A record stays as long as what was kept of its call, which is found through it.
        old |= {(Table.FACTS, name) for _, name in old}
        await filled.tier.purge(Table.FACTS, late, dry_run=False)

    assert [2, 2, 2, 0] == [
        await filled.tier.purge(table, late, dry_run=True),
        await filled.tier.purge(table, late, dry_run=True),
        await filled.tier.purge(table, late, dry_run=False),
        await filled.tier.purge(table, late, dry_run=False),
    ]
    assert (of(1, 2) - old) | {(Table.EXCHANGES, "ex_9")} == names(await rows_of(filled.tier))


async def test_what_is_newer_stays(filled: Filled) -> None:
    """A purge deletes nothing that happened at its time or later."""
    await filled.put(*conversation(1))
    await filled.put(exchange("ex_9", session="talk-9", started_ms=AT_MS + 10**9))

    assert [0] * len(Table) == [await filled.tier.purge(table, AT_MS, dry_run=False) for table in Table]
    assert of(1) | {(Table.EXCHANGES, "ex_9")} == names(await rows_of(filled.tier))


async def test_erasing_takes_one_conversation_whole(filled: Filled) -> None:
    """Every row of a conversation goes, and is counted; the others stay as they are."""
    await filled.put(*conversation(1, "c"), *conversation(2, "d"))
    before = [row for row in await rows_of(filled.tier) if row.session_id == "talk-2"]

    erased = await filled.tier.erase(Selection(sessions=frozenset(("talk-1",))))

    assert dict.fromkeys(Table, 1) == erased
    assert {(row.table, row.id, row.body) for row in before} == {
        (row.table, row.id, row.body) for row in await rows_of(filled.tier)
    }


async def test_erasing_takes_a_customer_whole(filled: Filled) -> None:
    """Every conversation of a customer goes."""
    await filled.put(*conversation(1, "c"), *conversation(2, "d"), *conversation(3, "c"))

    assert dict.fromkeys(Table, 2) == await filled.tier.erase(Selection(customers=frozenset("c")))
    assert of(2, customers="d") == names(await rows_of(filled.tier))


async def test_what_was_erased_is_not_found(filled: Filled) -> None:
    """A search finds what is there, in names and in bodies, and nothing of what was erased."""
    await filled.put(*conversation(1, "c"), *conversation(2))
    needles = ("talk-1", "ex_1-request", "label-1", "kept-1", "key-1", "label-2", "nowhere")
    before = await filled.tier.search(needles)

    await filled.tier.erase(Selection(sessions=frozenset(("talk-1",))))

    assert [True] * 6 + [False] == [before[needle] > 0 for needle in needles]
    assert dict.fromkeys(needles[:5], 0) | {"nowhere": 0} == {
        needle: count for needle, count in (await filled.tier.search(needles)).items() if needle != "label-2"
    }
    assert 0 < (await filled.tier.search(["label-2"]))["label-2"]


@pytest.mark.parametrize("text", ['a "quoted" word', "back\\slash", "ünï", "line\nbreak"])
async def test_a_search_finds_a_text_however_it_is_written(filled: Filled, text: str) -> None:
    """A text is found where it stands in JSON, and where that JSON is itself a text in JSON."""
    await filled.put(
        replace(exchange("ex_1", session="talk-1"), error=text),
        replace(held("hd_1"), session_id="talk-1", arguments=json.dumps({"of": text}), key="k"),
    )

    assert 2 <= (await filled.tier.search([text]))[text]


CANARY = "the canary sings"
SEAL = Seal([b"k" * KEY_BYTES], partial(os.urandom, NONCE_BYTES))


@pytest.mark.parametrize(("seal", "found"), [(SEAL, False), (PLAIN, True)], ids=["sealed", "as it is"])
async def test_what_is_sealed_is_sealed_on_every_shelf(keeper: Shelf, tmp_path: Path, seal: Seal, found: bool) -> None:
    """A shelf gets content as the file has it: with a key nothing of it is found, and whoever has the key opens it."""
    action = replace(held("hd_1"), session_id="talk-1", arguments=CANARY)
    packet = replace(handoff("ho_1", "talk-1"), summary=CANARY)
    await write(tmp_path / "spool.db", (action, packet), seal)
    await keeper.write(await rows_of(LocalTier(str(tmp_path / "spool.db"))))

    assert found == bool((await keeper.search([CANARY]))[CANARY])
    opened = {row.id: seal.open(row.table, row.id, row.body) for row in await rows_of(keeper)}
    assert {"hd_1": action, "ho_1": packet} == {
        "hd_1": msgspec.json.decode(opened["hd_1"], type=Held),
        "ho_1": msgspec.json.decode(opened["ho_1"], type=Handoff),
    }


def row(version: int, status: int = 0, name: str = "ex_1") -> Row:
    """Make a row of a table."""
    record = f'{{"id": "{name}", "status": {status}, "caller": {{"agent": "a"}}}}'.encode()
    return Row(
        table=Table.EXCHANGES, id=name, version=version, at_ms=AT_MS, session_id="talk-1", customer="c", body=record
    )


async def status(keeper: Shelf) -> list[int]:
    return [json.loads(row.body)["status"] for row in await rows_of(keeper, Selection(sessions=ALL))]


async def test_rows_may_come_again(keeper: Shelf) -> None:
    """What was written before changes nothing when it is written again, alone or with others, in any order."""
    rows = [row(number, number, f"ex_{number}") for number in range(1, 4)]
    for batch in (rows[:2], rows, rows[::-1], [rows[0], rows[0]], []):
        await keeper.write(batch)

    assert [1, 2, 3] == sorted(await status(keeper))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
async def test_an_older_version_never_wins(keeper: Shelf, order: tuple[int, ...], together: bool) -> None:
    """Of a row the version with the highest number stays, in whatever order they come."""
    rows = [row(version, version) for version in order]
    for batch in [rows] if together else [[one] for one in rows]:
        await keeper.write(batch)

    assert [3] == await status(keeper)


async def test_rows_of_one_name_in_two_tables_are_two(keeper: Shelf) -> None:
    """A name is unique in its table, not among all."""
    await keeper.write([row(1), replace(row(1), table=Table.FACTS, body=b'{"status": 7}')])

    assert [0, 7] == sorted(await status(keeper))


@pytest.mark.parametrize(
    "body", [b"sealed:1:0123:q83vASNF", rb'{"status": 3, "said": "\u0000"}'], ids=["sealed", "NUL"]
)
async def test_any_body_is_kept(keeper: Shelf, body: bytes) -> None:
    """What is sealed and what holds a NUL comes back as it was written, and is found by a search."""
    await keeper.write([replace(row(1), body=body)])

    assert [body] == [found.body for found in await rows_of(keeper)]
    assert {"q83vASNF": int(b"q83v" in body)} == await keeper.search(["q83vASNF"])


async def test_any_name_is_kept(keeper: Shelf) -> None:
    """Whatever a client calls its conversation, the row is kept and can be erased by that name."""
    name = "talk-1\x00ünï'\"{},\\"
    await keeper.write([replace(row(1), session_id=name)])

    assert 1 == (await keeper.erase(Selection(sessions=frozenset((name,)))))[Table.EXCHANGES]
