"""Owns the cold tier: rows in Parquet objects, written once, read where their footers say so, rewritten to erase.

Everything is done on threads: a whole operation on one, its objects on the shelf's own. Of an object's rows as many are
in memory as it has, which `MOST_ROWS` and `MOST_BYTES` bound.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import ParamSpec, TypeVar

import pyarrow as pa
from msgspec.structs import replace
from obstore.exceptions import BaseError

from proxy.errors import Overloaded
from proxy.stores import spellings
from proxy.stores.objects import parquet
from proxy.stores.objects.bucket import Bucket, Entry, trouble
from proxy.stores.objects.erasing import PATH, Erasure, Note, is_selected
from proxy.stores.objects.layout import DAY_MS, Name, named, read, sheets
from proxy.terms import Row, Selection, Table

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

MOST_ROWS = 20_000
MOST_BYTES = 16 * 2**20
"""Of the bodies in one object, before compression."""
THREADS = 16
AT_ONCE = 4
"""Objects that are in memory as a whole."""


class ObjectShelf:
    """The shelf in a bucket."""

    name = "cold"

    def __init__(self, bucket: Bucket, note: Note, pool: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._note = note
        self._pool = pool
        self._whole = threading.BoundedSemaphore(AT_ONCE)
        self._erasing = threading.Lock()

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep rows, of each id the newest; what was written before may come again. Raise Overloaded when they are not
        all written: then any of them may be."""
        await _off_loop(self._write, rows)

    async def rows(self, which: Selection) -> AsyncIterator[Row]:
        """Yield the rows that are selected, of each id the newest, table by table, oldest first; raise Overloaded when
        the tier cannot be reached."""
        which = await _off_loop(self._chosen, which)
        for table in Table if which != Selection() else ():
            for row in await _off_loop(self._rows, table, which):
                yield row

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        """Delete the objects of days that are over by then, or with `dry_run` none; return how many rows they have, of
        one id each version."""
        return await _off_loop(self._purge, table, before_ms, dry_run)

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        """Delete the rows that are selected, older versions as well, beyond recovery from the tier itself; return how
        many there were of each table."""
        return await _off_loop(self._erase, which)

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        """Return in how many places each needle still occurs: in cells, in objects' bytes as they are, in their names,
        and in the note of an erasure that is not done."""
        return await _off_loop(self._search, needles)

    def _write(self, rows: Sequence[Row]) -> None:
        self._each(self._put, sheets(rows, MOST_ROWS, MOST_BYTES))

    def _put(self, sheet: Sequence[Row]) -> None:
        """Write an object. One that is there already is the same, unless the disk lost power while it was written."""
        name, data = named(sheet), parquet.encode(sheet)
        if not self._bucket.create(name.path, data) and self._bucket.read(name.path) != data:
            self._bucket.replace(name.path, data)

    def _chosen(self, which: Selection) -> Selection:
        """Return a selection with the conversations that links say are with its customers. The empty name is left out:
        it stands for whoever named nobody."""
        customers = Selection(customers=which.customers - {""})
        linked = self._find(Table.LINKS, customers) if customers.customers else ()
        sessions = {row.session_id for _, rows in linked for row in rows}
        return replace(customers, sessions=(which.sessions | sessions) - {""})

    def _rows(self, table: Table, which: Selection) -> list[Row]:
        erasure = self._note.read()
        newest: dict[str, Row] = {}
        for path, rows in self._find(table, which):
            for row in rows:
                older = row.id in newest and row.version <= newest[row.id].version
                if not older and not (erasure and erasure.hides(path, row)):
                    newest[row.id] = row
        return sorted(newest.values(), key=lambda row: (row.at_ms, row.id))

    def _find(self, table: Table, which: Selection) -> Iterator[tuple[str, list[Row]]]:
        """Yield the objects with rows that are selected, and these."""
        select = partial(self._select, which, parquet.wanted(which))
        listed = list(self._entries(table))
        for (_, entry), rows in zip(listed, self._each(select, listed), strict=True):
            if rows:
                yield entry.path, rows

    def _select(self, which: Selection, wanted: Collection[bytes], one: tuple[Name, Entry]) -> list[Row]:
        name, entry = one
        with _intact(entry.path):
            end = _there(self._bucket.read_end(entry, parquet.TAIL_BYTES))
            footer = parquet.footer_bytes(end)
            if footer > len(end):
                end = _there(self._bucket.read_end(entry, footer))
            if not parquet.may_have(end, wanted):
                return []
            with self._whole:
                whole = end if len(end) == entry.size else _there(self._bucket.read(entry.path))
                return parquet.rows_of(whole, name.table, which)

    def _purge(self, table: Table, before_ms: int, dry_run: bool) -> int:
        over = [(name, entry) for name, entry in self._entries(table) if (name.day + 1) * DAY_MS <= before_ms]
        if not dry_run:
            self._each(self._bucket.delete, [entry.path for _, entry in over])
            with suppress(Overloaded), self._erasing:
                self._finish(self._note.take_over())
        return sum(name.rows for name, _ in over)

    def _erase(self, which: Selection) -> dict[Table, int]:
        with self._erasing:
            which = self._chosen(which)
            if which == Selection():
                return {}
            found = {table: dict(self._find(table, which)) for table in Table}
            paths = tuple(path for of_table in found.values() for path in of_table)
            broken_off = self._note.take_over()
            if broken_off:
                self._finish(broken_off)
                paths = tuple(path for table in Table for path, _ in self._find(table, which))
            if paths:
                self._finish(self._note.begin(which, paths))
        return {table: len({row.id for rows in found[table].values() for row in rows}) for table in Table}

    def _finish(self, erasure: Erasure | None) -> None:
        """Do what a note says, or what is left of it."""
        if erasure is None:
            return
        for at in range(0, len(erasure.paths), AT_ONCE):
            self._note.renew(erasure)
            self._each(partial(self._rewrite, erasure.which), erasure.paths[at : at + AT_ONCE])
        self._note.end()

    def _rewrite(self, which: Selection, path: str) -> None:
        table = Table(path.partition("/")[0])
        with self._whole, _intact(path):
            data = self._bucket.read(path)
            rows = parquet.rows_of(data, table) if data else []
            left = [row for row in rows if not is_selected(row, which)]
            if len(left) == len(rows):
                return
            if left:
                self._put(left)
        self._bucket.delete(path)

    def _search(self, needles: Collection[str]) -> dict[str, int]:
        forms = {needle: spellings(needle) for needle in needles}
        found: Counter[str] = Counter(dict.fromkeys(needles, 0))
        for table in Table:
            entries = [entry for _, entry in self._entries(table)]
            for places in self._each(partial(self._places, forms), entries):
                found.update(places)
        note = self._bucket.read(PATH) or b""
        found.update(needle for needle in needles if any(form in note for form in forms[needle]))
        return dict(found)

    def _places(self, forms: Mapping[str, Collection[bytes]], entry: Entry) -> Counter[str]:
        with self._whole, _intact(entry.path):
            data = _there(self._bucket.read(entry.path))
            return Counter({needle: parquet.places(data, forms[needle]) + (needle in entry.path) for needle in forms})

    def _entries(self, table: Table) -> Iterator[tuple[Name, Entry]]:
        """Yield our objects of a table; what else lies there is none of our business."""
        for entry in self._bucket.entries(table):
            name = read(table, entry.path)
            if name:
                yield name, entry

    def _each(self, work: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Do this for each; after a failure begin no other, and raise it when all that had begun is over."""
        futures = [self._pool.submit(work, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            future.cancel()
        wait(futures)
        return [future.result() for future in futures if not future.cancelled()]


async def _off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except (BaseError, OSError) as error:
        raise trouble(error) from error


@contextmanager
def _intact(path: str) -> Iterator[None]:
    """Say which object is damaged, or another program's under a name of ours, where one is."""
    try:
        yield
    except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
        raise Overloaded(
            f"The cold tier's object {path} is damaged: restore it, or move it away.", code="tier_damaged"
        ) from error


def _there(data: bytes | None) -> bytes:
    if data is None:
        raise Overloaded("The cold tier changed while it was read: try again.", code="tier_busy")
    return data
