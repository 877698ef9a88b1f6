"""Owns the proof of proxy/stores/sqlite/books.py: batches, and what the tables hold after them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from proxy.terms import Kept, State
from tests.stores.samples import AT_MS, DAY, LATER_MS, LEASE_MS, attempt, exchange, limit, reservation, sent, settlement


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Open an empty file."""
    opened = connect(str(tmp_path / "handrail.db"))
    yield opened
    opened.close()


@pytest.fixture
def books(connection: sqlite3.Connection) -> Books:
    """Write to it."""
    return Books(connection)


def table(connection: sqlite3.Connection, columns: str, name: str) -> list[tuple[object, ...]]:
    """Read a table whole."""
    return connection.execute(f"SELECT {columns} FROM {name} ORDER BY 1").fetchall()  # noqa: S608 - the test's own words


def test_results_come_in_order(books: Books) -> None:
    """Each operation's result is its own, a refusal being a result."""
    operations = [
        partial(books.reserve, reservation("ex_1", 90, limit()), AT_MS),
        partial(books.reserve, reservation("ex_2", 20, limit()), AT_MS),
        partial(books.reserve, reservation("ex_3", 10, limit()), AT_MS),
    ]

    assert [type(None), BudgetExceeded, type(None)] == [type(result) for result in books.commit(operations)]


def test_a_batch_sees_its_own_writes(books: Books, connection: sqlite3.Connection) -> None:
    """Room that one operation frees is free for the next, before anything is committed."""
    books.commit([partial(books.reserve, reservation("ex_1", 90, limit()), AT_MS)])
    books.commit(
        [
            partial(books.settle, settlement("ex_1", 0, tokens=0), AT_MS),
            partial(books.reserve, reservation("ex_2", 95, limit()), AT_MS),
        ]
    )

    assert [(*DAY, 0, 95)] == table(connection, "scope, window, settled_nanousd, reserved_nanousd", "counters")


def test_a_batch_is_all_or_nothing(books: Books, connection: sqlite3.Connection) -> None:
    """An operation that raises leaves no trace of the operations before it, nor of sums they had begun."""

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.commit([partial(books.reserve, reservation("ex_1", 50, limit()), AT_MS), fails])
    books.commit([partial(books.reserve, reservation("ex_2", 5, limit()), AT_MS)])

    assert [("ex_2:1",)] == table(connection, "reservation_id", "attempts")
    assert [(5,)] == table(connection, "reserved_nanousd", "counters")


def test_settled_attempts_leave_the_books(books: Books, connection: sqlite3.Connection) -> None:
    """The table of attempts holds what is open, so it stays as small as the number of calls in flight."""
    books.commit([partial(books.dispatch, sent("ex_1"), LEASE_MS)])
    books.commit([partial(books.finish, exchange("ex_1")), partial(books.settle, settlement("ex_1", 5), AT_MS)])

    assert ([], []) == (table(connection, "*", "attempts"), table(connection, "*", "dispatched"))


def test_expired_attempts_are_forgotten_a_day_later(books: Books, connection: sqlite3.Connection) -> None:
    """An owner has a day to come back; after it nothing of its attempt is kept open."""
    books.commit([partial(books.dispatch, sent("ex_1"), LEASE_MS)])
    for _ in range(2):
        books.commit([partial(books.expire, LATER_MS), partial(books.recover, LATER_MS)])
    kept = table(connection, "reservation_id", "attempts")
    books.commit([partial(books.recover, LATER_MS + 25 * 3600 * 1000)])

    assert ([("ex_1:1",)], []) == (kept, table(connection, "reservation_id", "attempts"))


def test_columns_say_what_the_record_says(books: Books, connection: sqlite3.Connection) -> None:
    """A person with any SQLite shell can add up costs by agent, model and state; an unknown cost is NULL."""
    done = exchange("ex_1", State.COMPLETE, attempt("ex_1"), session="s_1", turn=2)
    books.commit([partial(books.finish, done)])

    columns = "id, started_ms, session_id, turn, agent, state, status, model, cost_nanousd"
    assert [("ex_1", AT_MS, "s_1", 2, "a", "complete", 0, "m", None)] == table(connection, columns, "exchanges")


def test_a_body_is_readable_json(books: Books, connection: sqlite3.Connection) -> None:
    """The whole record is JSON text, open to SQLite's own json functions."""
    books.commit([partial(books.finish, exchange("ex_1"))])

    assert [("ex_1",)] == table(connection, "json_extract(body, '$.id')", "exchanges")


def test_a_customer_is_linked_to_a_conversation(books: Books, connection: sqlite3.Connection) -> None:
    """By the first call that names it; later ones only move the time, from one hour to the next. Nobody is no link."""
    hour = 3_600_000
    for n, after in enumerate((0, 1, hour - 1, hour, hour + 1)):
        books.commit([partial(books.finish, replace(exchange(f"ex_{n}", started_ms=AT_MS + after), customer="cu_1"))])
    books.commit([partial(books.finish, exchange("ex_other", session="nobody's"))])

    assert [("cu_1", "s", "a", AT_MS, AT_MS + hour)] == table(connection, "*", "links")


def test_a_rewritten_record_gets_a_new_number(books: Books, connection: sqlite3.Connection) -> None:
    """A correction moves to the end, where a reader that remembers its place will find it."""
    for name in ("ex_1", "ex_2", "ex_1"):
        books.commit([partial(books.finish, exchange(name))])

    assert [(2, "ex_2"), (3, "ex_1")] == table(connection, "seq, id", "exchanges")


def test_the_newest_number_is_never_given_twice(books: Books, connection: sqlite3.Connection) -> None:
    """A purge leaves the newest record, however old, because numbers count up from it."""
    for name in ("ex_1", "ex_2"):
        books.commit([partial(books.finish, exchange(name))])

    assert [1] == books.commit([partial(books.purge, LATER_MS)])
    assert [(2, "ex_2")] == table(connection, "seq, id", "exchanges")


def test_amounts_beyond_64_bits_are_an_error(books: Books) -> None:
    """A number that SQLite would turn into a float is refused, never rounded."""
    with pytest.raises(OverflowError):
        books.commit([partial(books.settle, settlement("ex_1", 1 << 63), AT_MS)])


def test_a_sum_beyond_64_bits_is_an_error(books: Books, connection: sqlite3.Connection) -> None:
    """A counter never silently becomes a float either."""
    books.commit([partial(books.settle, settlement("ex_1", (1 << 63) - 1), AT_MS)])

    with pytest.raises(sqlite3.IntegrityError):
        books.commit([partial(books.settle, settlement("ex_2", 1), AT_MS)])

    assert [((1 << 63) - 1,)] == table(connection, "settled_nanousd", "counters")


def test_what_is_forgotten_is_not_in_the_file(books: Books, connection: sqlite3.Connection, tmp_path: Path) -> None:
    """What was kept of a call is content: once it is forgotten, zeros stand in its place."""
    name = f"ex_{'secret' * 2000}"
    books.commit([partial(books.keep, Kept(exchange_id=name, at_ms=AT_MS, policy_digest=""))])
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = (tmp_path / "handrail.db").read_bytes()

    books.commit([partial(books.forget, AT_MS + 1)])
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    assert [True, False] == [b"secretsecret" in data for data in (before, (tmp_path / "handrail.db").read_bytes())]
