"""Owns the note of the one erasure that is under way: what makes it whole, though it changes objects one by one.

An erasure first finds every object with rows that are selected, and notes them with the selection. From then on nobody
reads those rows in those objects. Then each object is written again without them, and deleted; rows that stay are in
the new object before the old one goes. The note is deleted last. Wherever this breaks off, the note says what is left
to do, to whoever erases or purges next, and doing a step again changes nothing.

The note is also what keeps two from erasing at once: whoever rewrites an object that another rewrites as well would
bring back what the other took out. It is renewed between steps, and may be taken over when it was not for `LEASE_MS`,
which is longer than a step can take.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from proxy.errors import Overloaded
from proxy.stores.objects.bucket import Bucket
from proxy.terms import Row, Selection

PATH = "erasing.json"
LEASE_MS = 10 * 60 * 1000


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What is being erased, by whom, and in which objects."""

    by: str
    which: Selection
    paths: tuple[str, ...]

    def hides(self, path: str, row: Row) -> bool:
        """Say whether a row of an object is as good as gone."""
        return path in self.paths and is_selected(row, self.which)


def is_selected(row: Row, which: Selection) -> bool:
    """Say whether a row is of these conversations or customers."""
    return row.session_id in which.sessions or row.customer in which.customers


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Erasure).decode


class Note:
    """The note in a bucket, as one Handrail (`by`) sees it."""

    def __init__(self, bucket: Bucket, by: str, wall_ms: Callable[[], int]) -> None:
        self._bucket = bucket
        self._by = by
        self._wall_ms = wall_ms

    def read(self) -> Erasure | None:
        """Return the erasure that is under way, or that broke off; raise Overloaded where its note is damaged."""
        data = self._bucket.read(PATH)
        try:
            return None if data is None else _decode(data)
        except msgspec.MsgspecError:
            raise Overloaded(
                f"The cold tier's note of an erasure, {PATH}, is damaged: delete it, and run that erasure again.",
                code="tier_damaged",
            ) from None

    def begin(self, which: Selection, paths: tuple[str, ...]) -> Erasure:
        """Note what will be erased; raise Overloaded where another erasure is under way."""
        erasure = Erasure(by=self._by, which=which, paths=paths)
        # That it is there may also mean that the reply to our own first try was lost.
        if not self._bucket.create(PATH, _encode(erasure)) and self.read() != erasure:
            raise _other()
        return erasure

    def take_over(self) -> Erasure | None:
        """Return an erasure that broke off, as our own from now on; raise Overloaded while another may be at it."""
        erasure = self.read()
        if erasure is None:
            return None
        if erasure.by != self._by and not self._is_left():
            raise _other()
        ours = replace(erasure, by=self._by)
        self._bucket.replace(PATH, _encode(ours))
        return ours

    def renew(self, erasure: Erasure) -> None:
        """Say that the erasure goes on; raise Overloaded where another has taken it over."""
        if self.read() != erasure:
            raise _other()
        self._bucket.replace(PATH, _encode(erasure))

    def end(self) -> None:
        """Forget the erasure: it is done."""
        self._bucket.delete(PATH)

    def _is_left(self) -> bool:
        written = self._bucket.written(PATH)
        now = datetime.fromtimestamp(self._wall_ms() / 1000, UTC)
        return written is not None and now - written >= timedelta(milliseconds=LEASE_MS)


def _other() -> Overloaded:
    return Overloaded(
        "Another erasure in the cold tier is under way, or broke off less than ten minutes ago: try again later.",
        code="tier_busy",
    )
