"""Owns the proof of proxy/stores/sqlite/tier.py: what is left of an erased conversation, which is nothing."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.errors import ConfigError, Overloaded
from proxy.stores import sqlite
from proxy.stores.sqlite import LocalTier
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.desk import Desk
from proxy.stores.sqlite.file import connect
from proxy.stores.sqlite.places import Places
from proxy.terms import Exchange, Kept, Selection, State, Table
from tests.stores.samples import AT_MS, LEASE_MS, attempt, exchange, handoff, held, limit, reservation, sent, stand

TALK = "talk-1"
OF_TALK = Selection(sessions=frozenset((TALK,)))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the file."""
    return str(tmp_path / "handrail.db")


def finish(path: str, *records: Exchange) -> None:
    """Write finished records."""
    with closing(connect(path)) as connection:
        books = Books(connection)
        books.commit([partial(books.finish, record) for record in records])


def everything(path: str) -> None:
    """Leave every trace that a conversation leaves, and one of another."""
    counter = (f"conversation:{TALK}", "all")
    with closing(connect(path)) as connection:
        books, places = Books(connection), Places(connection)
        books.commit(
            [
                partial(books.reserve, reservation("ex_1", 5, limit(counter)), AT_MS),
                partial(books.reserve, reservation("ex_4", 5, limit(("conversation:other", "all"))), AT_MS),
                partial(places.stand, stand(TALK, "end", "mark"), AT_MS),
                partial(places.stand, stand("other", "end2", "mark2"), AT_MS),
                partial(books.finish, exchange("ex_2", session="other")),
                partial(books.finish, exchange("ex_3", session=TALK)),
            ]
        )
        books.commit([partial(books.expire, AT_MS + LEASE_MS + 1)])
        books.commit([partial(books.dispatch, exchange("ex_5", State.DISPATCHED, attempt("ex_5"), session=TALK), 5)])


def test_no_trace_of_a_conversation_stays(path: str) -> None:
    """Its places, marks, counters, closed attempts and calls under way go with its records; another's stay."""
    everything(path)
    found = asyncio.run(LocalTier(path).search([TALK, "other"]))
    asyncio.run(LocalTier(path).erase(OF_TALK))

    after = asyncio.run(LocalTier(path).search([TALK, "other"]))

    assert (True, True, 0, True) == (found[TALK] > 9, found["other"] > 4, after[TALK], after["other"] > 4)


def test_money_held_for_an_open_call_stays(path: str) -> None:
    """What is held under a conversation's limit stays until it is settled: erasing must not overspend."""
    with closing(connect(path)) as connection:
        books = Books(connection)
        hold = reservation("ex_1", 5, limit((f"conversation:{TALK}", "all")))
        books.commit([partial(books.reserve, hold, AT_MS)])
    asyncio.run(LocalTier(path).erase(OF_TALK))

    with sqlite.Reader(path) as reader:
        assert [5] == [totals.reserved_nanousd for _, _, totals in reader.totals()]


def test_copies_in_gaps_between_rows_go(path: str) -> None:
    """Rows that were moved between pages leave copies of themselves; after erasing, the file has none."""
    digits, pads = random.Random(0), (0, 300, 900, 5000)  # noqa: S311 - sizes that move rows about, the same each time
    records = [
        exchange(f"{digits.randrange(1 << 64):016x}", session=f"talk-{n}{'-' * digits.choice(pads)}")
        for n in range(1500)
    ]
    with closing(connect(path)) as connection:
        books = Books(connection)
        for first in range(0, 1500, 50):
            again = [
                exchange(record.id, session=record.session.id + "-" * digits.choice((0, 400)))
                for record in digits.sample(records[: first + 1], min(first, 20))
            ]
            books.commit([partial(books.finish, record) for record in [*records[first : first + 50], *again]])
            books.commit(
                [
                    partial(books.keep, Kept(exchange_id=record.id, at_ms=1, policy_digest="-" * digits.choice(pads)))
                    for record in [*records[first : first + 50], *again]
                ]
            )

        gone = dict(connection.execute("SELECT id, session_id FROM exchanges WHERE seq % 5 = 0"))

    asyncio.run(LocalTier(path).erase(Selection(sessions=frozenset(gone.values()))))

    data = b"".join(one.read_bytes() for one in Path(path).parent.iterdir())
    assert [] == [name for name in gone if name.encode() in data]


def test_a_follower_misses_nothing_after_erasing(path: str) -> None:
    """Whoever remembers the highest number of a record sees what is written next, also if that record was erased."""
    finish(path, exchange("ex_1", session="other"), exchange("ex_2", session=TALK))
    asyncio.run(LocalTier(path).erase(OF_TALK))
    finish(path, exchange("ex_3", session="other"))

    with sqlite.Reader(path) as reader:
        assert [(3, "ex_3")] == [(seq, found.id) for seq, found in reader.after(2)]


def test_what_was_erased_is_shipped_nowhere(path: str) -> None:
    """Rows that still wait to be shipped leave the outbox as well."""
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO shelves VALUES ('warm', 0)")
    finish(path, exchange("ex_1", session="other"), exchange("ex_2", session=TALK))
    asyncio.run(LocalTier(path).erase(OF_TALK))

    with closing(sqlite3.connect(path)) as connection:
        assert [("ex_1",)] == connection.execute("SELECT id FROM outbox").fetchall()


def test_a_file_that_is_read_is_not_clean(path: str) -> None:
    """While somebody reads what was there before, its log cannot be emptied: that is said, not passed over."""
    everything(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM exchanges").fetchone()

        with pytest.raises(Overloaded, match="copies of them are still in its log"):
            asyncio.run(LocalTier(path, patience_ms=10).erase(OF_TALK))


def test_a_file_in_trouble_is_told_as_such(path: str) -> None:
    """An error of the file is ours to tell, by its code."""
    with closing(connect(path)) as connection:
        connection.execute("DROP TABLE facts")

    with pytest.raises(Overloaded, match="failing"):
        asyncio.run(LocalTier(path).purge(Table.FACTS, AT_MS, dry_run=True))


def test_a_file_that_is_not_there_is_a_config_error(path: str) -> None:
    """Nothing is made by asking."""
    with pytest.raises(ConfigError, match="cannot be read"):
        asyncio.run(LocalTier(path).search(["x"]))

    assert not Path(path).exists()


def test_open_packets_and_actions_that_wait_stay(path: str) -> None:
    """What a human has still to look at is not over, however old."""
    with closing(connect(path)) as connection:
        books, desk = Books(connection), Desk(connection)
        books.commit(
            [
                partial(desk.hold, held("hd_1", ttl_ms=10**9)),
                partial(desk.hand_over, handoff("ho_1")),
                partial(books.dispatch, sent("ex_1"), LEASE_MS),
            ]
        )

    assert [0, 0, 0] == [
        asyncio.run(LocalTier(path).purge(table, AT_MS + 10**6, dry_run=False))
        for table in (Table.HELD, Table.HANDOFFS, Table.EXCHANGES)
    ]
