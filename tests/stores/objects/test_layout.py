"""Owns the proof that an object's name says what is in it, and that the same rows make the same object."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.stores.objects.layout import named, read, sheets
from proxy.terms import Row, Table
from tests.stores.objects.buckets import DAY_MS, NOW_MS, row

MANY = 10**9


def split(*rows: Row, most_rows: int = MANY, most_bytes: int = MANY) -> list[list[str]]:
    """Name the rows of each sheet."""
    return [[one.id for one in sheet] for sheet in sheets(rows, most_rows, most_bytes)]


def test_a_path_is_that_of_a_hive_partition() -> None:
    """Table and day, in UTC, are folders; versions and the number of rows can be read off."""
    path = named([row(1, version=7), row(2, version=3)]).path

    assert path.startswith("exchanges/date=2026-01-01/3-7-2-")
    assert path.endswith(".parquet")


def test_a_name_is_read_as_it_was_written() -> None:
    """What a name says survives the path."""
    name = named([row(1, at_ms=NOW_MS - 1)])

    assert name == read(Table.EXCHANGES, name.path)


NO_SUCH_DAY = f"exchanges/date=2026-02-30/1-1-1-{'a' * 32}.parquet"


@pytest.mark.parametrize(
    "path", ["exchanges/date=2026-01-01/part-0.parquet", "exchanges/_SUCCESS", "erasing.json", NO_SUCH_DAY]
)
def test_what_else_lies_there_is_nothing_of_ours(path: str) -> None:
    """A file that another program left is no object of the tier."""
    assert read(Table.EXCHANGES, path) is None


def test_the_same_rows_are_the_same_object() -> None:
    """In whatever order a batch comes, its objects have the same names."""
    rows = [row(1), row(2, "talk-2"), row(3)]

    assert [named(sheet) for sheet in sheets(rows, MANY, MANY)] == [
        named(sheet) for sheet in sheets(rows[::-1], MANY, MANY)
    ]


@pytest.mark.parametrize(
    "fields",
    [{"id": "ex_2"}, {"version": 2}, {"at_ms": NOW_MS}, {"session_id": "b"}, {"customer": "c"}, {"body": b"{}"}],
    ids=lambda fields: next(iter(fields)),
)
def test_another_row_is_another_object(fields: dict[str, Any]) -> None:
    """Whatever differs in a row shows in the digest."""
    assert named([row(1)]).digest != named([row(1, **fields)]).digest


def test_a_sheet_is_of_one_table_and_one_day() -> None:
    """Rows go where retention finds them, those of a conversation side by side."""
    rows = (row(1), row(2, "talk-0"), row(3, at_ms=NOW_MS + DAY_MS), row(4), row(5, table=Table.FACTS))

    assert [["ex_2", "ex_1", "ex_4"], ["ex_3"], ["ex_5"]] == split(*rows)


def test_of_one_id_a_sheet_has_the_newest() -> None:
    """What was written twice in one batch is kept once; a table's ids are its own."""
    [sheet, facts] = sheets([row(1, version=2), row(1), row(1, table=Table.FACTS)], MANY, MANY)

    assert ([2], [1]) == ([one.version for one in sheet], [one.version for one in facts])


def test_an_object_has_a_bound() -> None:
    """No sheet has more rows, or with more than one row more bytes, than it may."""
    small, large = row(1, body=b"12"), row(2, body=b"12345678")

    assert [["ex_1"], ["ex_2"]] == split(small, large, most_rows=1)
    assert [["ex_1"], ["ex_2"]] == split(small, large, most_bytes=9)
    assert [["ex_1", "ex_2"]] == split(small, large, most_bytes=10)
    assert [["ex_2"]] == split(large, most_bytes=1)


def test_nothing_makes_no_object() -> None:
    """An empty batch has no sheet."""
    assert [] == split()
