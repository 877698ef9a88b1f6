"""Owns the proof of proxy/stores/sqlite/tables.py: which rows are old; none that waits to be shipped."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.desk import Desk
from proxy.stores.sqlite.file import connect
from proxy.stores.sqlite.tables import COUNT, PURGE, SHAPES
from proxy.terms import Kept, Session, Table
from tests.stores.samples import AT_MS, exchange, handoff, held

LATE_MS = AT_MS + 10**9


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that has one shelf."""
    with closing(connect(str(tmp_path / "handrail.db"))) as opened:
        opened.execute("INSERT INTO shelves VALUES ('warm', 0)")
        yield opened


def fill(connection: sqlite3.Connection) -> None:
    """Write a row of each table, all of them over, and a newer record."""
    books, desk = Books(connection), Desk(connection)
    books.commit(
        [
            partial(books.finish, replace(exchange("ex_1"), customer="c")),
            partial(books.keep, Kept(exchange_id="ex_1", at_ms=AT_MS, policy_digest="")),
            partial(books.finish, exchange("ex_2", started_ms=LATE_MS)),
            partial(desk.save, Session(id="s"), AT_MS),
            partial(desk.save, Session(id="s"), AT_MS),
            partial(desk.hold, held("hd_1")),
            partial(desk.hand_over, handoff("ho_1")),
            partial(desk.close_handoff, "ho_1", "me", AT_MS + 1),
        ]
    )


def purged(connection: sqlite3.Connection) -> dict[Table, int]:
    """Delete what is old, of each table, and return how much that was."""
    return {table: connection.execute(PURGE[table], (LATE_MS, 100)).rowcount for table in SHAPES}


def test_every_table_is_described() -> None:
    """No kind of record is left out."""
    assert set(Table) == set(SHAPES)


def test_each_write_puts_its_row_into_the_outbox(connection: sqlite3.Connection) -> None:
    """Whatever table is written, the row's name waits to be shipped: once, with the number of its newest write."""
    fill(connection)

    waiting = connection.execute("SELECT seq, kind, id FROM outbox ORDER BY seq").fetchall()

    assert [
        (1, "exchanges", "ex_1"),
        (2, "links", "c:s"),
        (3, "facts", "ex_1"),
        (4, "exchanges", "ex_2"),
        (6, "sessions", "s"),
        (7, "held", "hd_1"),
        (9, "handoffs", "ho_1"),
    ] == waiting


def test_without_shelves_nothing_waits(connection: sqlite3.Connection) -> None:
    """A file that is shipped nowhere has an empty outbox."""
    connection.execute("DELETE FROM shelves")
    fill(connection)

    assert [] == connection.execute("SELECT * FROM outbox").fetchall()


def test_what_waits_to_be_shipped_is_not_old(connection: sqlite3.Connection) -> None:
    """No row is deleted that some shelf has not got, however old it is; once all have it, it goes."""
    fill(connection)
    before = purged(connection)
    connection.execute("DELETE FROM outbox")

    assert (dict.fromkeys(Table, 0), dict.fromkeys(Table, 1)) == (before, purged(connection))


def test_a_record_stays_as_long_as_what_was_kept_of_its_call(connection: sqlite3.Connection) -> None:
    """What was kept of a call is found through its record, so that goes last."""
    fill(connection)
    connection.execute("DELETE FROM outbox")

    assert [0, 1, 1] == [
        connection.execute(PURGE[table], (LATE_MS, 100)).rowcount
        for table in (Table.EXCHANGES, Table.FACTS, Table.EXCHANGES)
    ]


def counted(connection: sqlite3.Connection) -> dict[Table, int]:
    """Return of each table how many rows would go."""
    return {table: connection.execute(COUNT[table], (LATE_MS,)).fetchone()[0] for table in SHAPES}


def test_what_would_go_is_what_goes(connection: sqlite3.Connection) -> None:
    """Records are counted that what was kept of their calls holds up no longer by then, and no others: not one whose
    call has newer facts, or facts that some shelf has not got."""
    fill(connection)
    books = Books(connection)
    for name, at_ms in (("ex_3", AT_MS), ("ex_4", LATE_MS)):
        books.commit(
            [
                partial(books.finish, exchange(name)),
                partial(books.keep, Kept(exchange_id=name, at_ms=at_ms, policy_digest="")),
            ]
        )
    connection.execute("DELETE FROM outbox WHERE NOT (kind = 'facts' AND id = 'ex_3')")
    books.commit([partial(books.finish, exchange("ex_5", started_ms=LATE_MS))])
    before = counted(connection)

    assert (dict.fromkeys(Table, 1), before) == (before, purged(connection))


@pytest.mark.parametrize("table", SHAPES)
def test_what_is_old_is_found_by_an_index(connection: sqlite3.Connection, table: Table) -> None:
    """House-keeping reads no table whole."""
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {PURGE[table]}", (0, 0))]

    assert plan
    assert [] == [step for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
