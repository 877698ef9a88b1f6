"""Owns the proof of proxy/shipping.py: nothing is lost while a shelf is away, and it is said how much waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from proxy.errors import Overloaded
from proxy.shipping import Pace, Shipper, Standing
from proxy.terms import Row, Selection, Table, Waiting
from tests.fakes import FakeClock


class FakeSpool:
    """Rows that wait, by number."""

    def __init__(self, count: int) -> None:
        self.left = list(range(1, count + 1))
        self.mine = True

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Say whose turn it is."""
        yield self.mine

    async def waiting(self, limit: int) -> Waiting:
        """Return the oldest."""
        some = self.left[:limit]
        return Waiting(rows=tuple(map(a_row, some)), upto=max(some, default=0), more=len(self.left) > limit)

    async def shipped(self, upto: int) -> None:
        """Forget them."""
        self.left = [number for number in self.left if number > upto]

    async def pending(self) -> tuple[int, int]:
        """Count them."""
        return len(self.left), self.left[0] if self.left else 0


class FakeShelf:
    """A shelf that is away for its first tries."""

    name = "warm"

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.got: list[str] = []

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep rows, or be away."""
        if self.away:
            self.away -= 1
            raise Overloaded("The warm tier cannot be used: it is away.", code="tier_unavailable")
        self.got += [row.id for row in rows]

    def rows(self, which: Selection) -> AsyncIterator[Row]:
        raise NotImplementedError

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        raise NotImplementedError

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        raise NotImplementedError

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        raise NotImplementedError


def a_row(number: int) -> Row:
    return Row(table=Table.EXCHANGES, id=f"ex_{number}", version=1, at_ms=number, body=b"{}")


def shipper(spool: FakeSpool, shelf: FakeShelf, tell: Callable[[str], None] = lambda _: None) -> Shipper:
    return Shipper(spool, shelf, FakeClock(), tell, Pace(rows=2, every_s=0.01))


async def ship_until(shipping: Shipper, done: Callable[[], bool]) -> None:
    """Ship until it is done."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(shipping.ship())
        while not done():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
        task.cancel()


async def test_everything_comes_in_order() -> None:
    """However much waits, the shelf gets it in batches, oldest first, and what is written later as well."""
    spool, shelf = FakeSpool(5), FakeShelf()
    shipping = shipper(spool, shelf)
    await ship_until(shipping, lambda: not spool.left)
    spool.left = [6]
    await ship_until(shipping, lambda: not spool.left)

    assert [f"ex_{number}" for number in range(1, 7)] == shelf.got


async def test_what_a_shelf_did_not_get_waits() -> None:
    """While the shelf is away nothing leaves the spool; it is told once that it is away, and once that it is back."""
    spool, shelf, told = FakeSpool(3), FakeShelf(away=2), list[str]()
    shipping = shipper(spool, shelf, told.append)
    await ship_until(shipping, lambda: shelf.away == 1)
    away = shipping.standing
    await ship_until(shipping, lambda: not spool.left and not shipping.standing.error)

    why = "The warm tier cannot be used: it is away."
    assert Standing(pending=3, oldest_ms=1, error=why, since_ms=FakeClock().wall_ms()) == away
    assert ([why, ""], ["ex_1", "ex_2", "ex_3"], "") == (told, shelf.got, shipping.standing.error)


async def test_nobody_ships_out_of_turn() -> None:
    """While another process ships, this one leaves the spool alone."""
    spool, shelf = FakeSpool(1), FakeShelf()
    spool.mine = False
    await shipper(spool, shelf).finish(5)

    assert ([1], []) == (spool.left, shelf.got)


async def test_what_is_left_is_shipped_at_the_end() -> None:
    """At the end everything is shipped that can be in the time there is; a shelf that is away is not waited for."""
    spool, shelf, away = FakeSpool(5), FakeShelf(), FakeShelf(away=1)
    await shipper(spool, away).finish(5)
    before = list(spool.left)
    await shipper(spool, shelf).finish(5)

    assert ([1, 2, 3, 4, 5], [], 5) == (before, spool.left, len(shelf.got))
