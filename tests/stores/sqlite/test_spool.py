"""Owns the proof of proxy/stores/sqlite/spool.py: what waits for whom, and that nothing is passed over."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.errors import Overloaded
from proxy.stores.sqlite import LocalTier, Spool, enlist, turn
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.desk import Desk
from proxy.stores.sqlite.file import connect, reopen
from proxy.terms import Exchange, Selection, Session, Table, Waiting
from tests.stores.samples import AT_MS, exchange


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name a file that is there."""
    name = str(tmp_path / "handrail.db")
    connect(name).close()
    return name


def finish(path: str, *records: Exchange) -> None:
    """Write finished records."""
    with closing(connect(path)) as connection:
        books = Books(connection)
        books.commit([partial(books.finish, record) for record in records])


def waiting(path: str, shelf: str = "warm", limit: int = 100) -> Waiting:
    return asyncio.run(Spool(path, shelf).waiting(limit))


def ids(path: str, shelf: str = "warm") -> list[str]:
    return [row.id for row in waiting(path, shelf).rows]


def ship(path: str, shelf: str = "warm", limit: int = 100) -> list[str]:
    """Ship a batch."""
    batch = waiting(path, shelf, limit)
    asyncio.run(Spool(path, shelf).shipped(batch.upto))
    return [row.id for row in batch.rows]


def test_rows_wait_in_the_order_in_which_they_were_written(path: str) -> None:
    """A batch is the oldest of what waits, and the next one goes on from there; then nothing is left."""
    enlist(path, ["warm"])
    finish(path, *(exchange(f"ex_{number}") for number in range(5)))

    assert [["ex_0", "ex_1"], ["ex_2", "ex_3"], ["ex_4"], []] == [ship(path, limit=2) for _ in range(4)]
    assert Waiting() == waiting(path)


def test_what_is_written_while_it_is_shipped_comes_again(path: str) -> None:
    """A row that changed after it was loaded is not taken for shipped."""
    enlist(path, ["warm"])
    finish(path, exchange("ex_1"), exchange("ex_2"))
    batch = waiting(path)
    finish(path, exchange("ex_1", turn=2))
    asyncio.run(Spool(path, "warm").shipped(batch.upto))

    assert (["ex_1", "ex_2"], ["ex_1"]) == ([row.id for row in batch.rows], ids(path))


def test_a_row_that_was_written_often_comes_once(path: str) -> None:
    """What waits is the row as it is now."""
    enlist(path, ["warm"])
    with closing(connect(path)) as connection:
        books, desk = Books(connection), Desk(connection)
        books.commit([partial(desk.save, Session(id="s", labels=(label,)), AT_MS) for label in "abc"])

    [row] = waiting(path).rows

    assert (Table.SESSIONS, True) == (row.table, b'["a","b","c"]' in row.body)


def test_each_shelf_has_a_place_of_its_own(path: str) -> None:
    """What one shelf has got still waits for the other."""
    enlist(path, ["warm", "cold"])
    finish(path, exchange("ex_1"))
    ship(path, "warm")

    assert ([], ["ex_1"], ["ex_1"], []) == (ids(path, "warm"), ids(path, "cold"), ship(path, "cold"), ids(path, "cold"))


def test_numbers_are_never_given_twice(path: str) -> None:
    """Also when nothing waits any more, what is written next comes after all that was shipped."""
    enlist(path, ["warm"])
    for name in ("ex_1", "ex_2"):
        finish(path, exchange(name))
        assert [name] == ship(path)


def test_a_new_shelf_gets_what_there_is(path: str) -> None:
    """Records that are older than the shelf are shipped to it, and only to it if it is the first."""
    finish(path, exchange("ex_2", started_ms=AT_MS + 1), exchange("ex_1"))
    enlist(path, ["warm"])
    enlist(path, ["warm"])

    assert (["ex_1", "ex_2"], []) == (ship(path), ids(path))


def test_nothing_waits_for_a_shelf_that_is_gone(path: str) -> None:
    """A tier that is taken out of the configuration holds up no purge."""
    enlist(path, ["warm"])
    finish(path, exchange("ex_1"), exchange("ex_2", started_ms=AT_MS + 9))
    kept = asyncio.run(LocalTier(path).purge(Table.EXCHANGES, AT_MS + 1, dry_run=False))
    enlist(path, [])

    assert (0, 1) == (kept, asyncio.run(LocalTier(path).purge(Table.EXCHANGES, AT_MS + 1, dry_run=False)))


def test_what_was_erased_is_passed_over(path: str) -> None:
    """A name whose row is gone holds up nothing."""
    enlist(path, ["warm"])
    finish(path, exchange("ex_1", session="talk-1"), exchange("ex_2"))
    asyncio.run(LocalTier(path).erase(Selection(sessions=frozenset(("talk-1",)))))

    assert ["ex_2"] == ship(path)


def test_a_file_that_cannot_be_opened_now_ends_no_shipping(path: str) -> None:
    """Where too many files are open, say, whoever ships is told as of any other trouble, and tries again."""
    with pytest.raises(Overloaded, match=r"cannot be read"):
        waiting(f"{path}-gone")


def test_a_turn_that_cannot_be_had_now_ends_no_shipping(path: str) -> None:
    """So it is where the turn's own file cannot be opened."""
    Path(f"{path}.warm.lock").mkdir()

    with (
        pytest.raises(Overloaded, match=r"warm\.lock cannot be opened: Is a directory"),
        turn(path, "warm"),
    ):
        pass


def test_a_shelf_that_another_process_took_out_is_told(path: str) -> None:
    """Where two serve from one file and one of them has no such tier, nothing is silently shipped no more."""
    enlist(path, ["warm", "cold"])
    finish(path, exchange("ex_1"))
    enlist(path, ["cold"])

    assert ["ex_1"] == ids(path, "cold")
    for asking in (Spool(path, "warm").waiting(9), Spool(path, "warm").pending()):
        with pytest.raises(Overloaded, match="started without the tier warm"):
            asyncio.run(asking)


def test_nobody_else_can_hold_up_shipping(path: str) -> None:
    """The file of a turn is its owner's alone, whatever others may do with new files."""
    before = os.umask(0)
    try:
        with turn(path, "warm"):
            assert 0o600 == stat.S_IMODE(Path(f"{path}.warm.lock").stat().st_mode)
    finally:
        os.umask(before)


def test_how_much_waits_is_told(path: str) -> None:
    """The count is of rows, and the time is that of the oldest."""
    enlist(path, ["warm"])
    before = asyncio.run(Spool(path, "warm").pending())
    finish(path, exchange("ex_1", started_ms=AT_MS + 5), exchange("ex_2", started_ms=AT_MS + 9))

    assert ((0, 0), (2, AT_MS + 5)) == (before, asyncio.run(Spool(path, "warm").pending()))


def test_a_batch_is_bounded_in_bytes(path: str) -> None:
    """Large rows come in smaller batches, and one that is larger than a batch still comes."""
    enlist(path, ["warm"])
    finish(path, *(exchange(f"ex_{number}", session="x" * (3 << 20)) for number in range(6)))

    assert [3, 3, 0] == [len(ship(path)) for _ in range(3)]


async def test_one_process_at_a_time_has_the_turn(path: str) -> None:
    """While somebody ships or erases, it is nobody else's turn; it is again when he is done."""
    spool, held = Spool(path, "warm"), turn(path, "warm")
    await asyncio.to_thread(held.__enter__)
    async with spool.turn() as mine, Spool(path, "cold").turn() as other:
        seen = [mine, other]
    await asyncio.to_thread(held.__exit__, None, None, None)
    async with spool.turn() as mine:
        seen.append(mine)

    assert [False, True, True] == seen


def test_a_file_in_trouble_is_told_as_such(path: str) -> None:
    """An error of the file is ours to tell: shipping tries again."""
    enlist(path, ["warm"])
    with closing(reopen(path, "rw")) as connection:
        connection.execute("DROP TABLE outbox")

    with pytest.raises(Overloaded, match="failing"):
        waiting(path)
