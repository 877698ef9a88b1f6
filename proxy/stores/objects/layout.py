"""Owns how objects of the cold tier are named: what a name says need not be read.

`<table>/date=YYYY-MM-DD/<first version>-<last version>-<rows>-<digest>.parquet`, as engines with Hive partitions read
it. The date is that of what happened, in UTC; the digest is that of the rows, so that the same rows written again are
the same object.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby

import msgspec

from proxy.terms import Row, Table

DAY_MS = 24 * 3600 * 1000
SCHEMA = 1
"""The version of the columns; another one is another object."""

_NAME = re.compile(r"(?:.*/)?date=(\d{4}-\d\d-\d\d)/(-?\d+)-(-?\d+)-(\d+)-([0-9a-f]{32})\.parquet")
_EPOCH = date(1970, 1, 1).toordinal()
_packed = msgspec.msgpack.Encoder().encode


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """What the name of an object says of it."""

    table: Table
    day: int
    """Days since 1970."""
    first: int
    last: int
    rows: int
    digest: str

    @property
    def path(self) -> str:
        """Return where the object is, below the tier's own prefix."""
        day = date.fromordinal(_EPOCH + self.day).isoformat()
        return f"{self.table}/date={day}/{self.first}-{self.last}-{self.rows}-{self.digest}.parquet"


def named(rows: Sequence[Row]) -> Name:
    """Return the name of the object with these rows, which are of one table and one day, in the order of `sheets`."""
    versions = [row.version for row in rows]
    digest = hashlib.sha256(b"%d\n" % SCHEMA)
    for row in rows:
        digest.update(_packed(row))
    return Name(
        table=rows[0].table,
        day=rows[0].at_ms // DAY_MS,
        first=min(versions),
        last=max(versions),
        rows=len(rows),
        digest=digest.hexdigest()[:32],
    )


def read(table: Table, path: str) -> Name | None:
    """Return what a name says; None: this is no object of ours."""
    found = _NAME.fullmatch(path)
    if found is None:
        return None
    day, first, last, rows, digest = found.groups()
    try:
        at = date.fromisoformat(day)
    except ValueError:
        return None  # There is no such day.
    return Name(
        table=table,
        day=at.toordinal() - _EPOCH,
        first=int(first),
        last=int(last),
        rows=int(rows),
        digest=digest,
    )


def sheets(rows: Iterable[Row], most_rows: int, most_bytes: int) -> Iterator[list[Row]]:
    """Yield rows as they go into objects: of one table and one day each, those of a conversation side by side, of each
    id the newest, and never more than this many rows, or bytes if there is more than one."""
    newest: dict[tuple[Table, str], Row] = {}
    for row in rows:
        other = newest.get((row.table, row.id))
        if other is None or row.version >= other.version:
            newest[row.table, row.id] = row
    for _, sheet in groupby(sorted(newest.values(), key=_order), key=lambda row: (row.table, row.at_ms // DAY_MS)):
        yield from _cut(sheet, most_rows, most_bytes)


def _order(row: Row) -> tuple[str, int, str, int, str]:
    return row.table, row.at_ms // DAY_MS, row.session_id, row.at_ms, row.id


def _cut(rows: Iterable[Row], most_rows: int, most_bytes: int) -> Iterator[list[Row]]:
    sheet: list[Row] = []
    size = 0
    for row in rows:
        if sheet and (len(sheet) == most_rows or size + len(row.body) > most_bytes):
            yield sheet
            sheet, size = [], 0
        sheet.append(row)
        size += len(row.body)
    if sheet:
        yield sheet
