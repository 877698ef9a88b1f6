"""Owns what can be asked of the shared ledger, in nouns; `ledger.lua` beside it is what Redis runs."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from proxy.stores import Hold, Pair
from proxy.stores.redis.link import Link
from proxy.terms import Limit, Totals

T = TypeVar("T")

MOST_NANOUSD = (1 << 53) - 1
"""The largest cap that the script can compare, 9 million USD: a larger one is taken as this."""
_AT_ONCE = 250
"""Counters in one command: each takes the server some microseconds, in which it serves nobody else."""


class Ledger:
    """Speak for one replica over one connection. Every method raises Away, after which nothing more may be asked."""

    def __init__(self, link: Link, name: str, replica: str, lease_ms: int) -> None:
        self._link = link
        self._name = f"{{handrail:{name}}}"
        self._replica = replica
        self._lease_ms = lease_ms
        self._number = secrets.randbits(50)

    async def enter(self, quiet_ms: int) -> tuple[str, bool]:
        """Take part. Return the name of the server, and whether it knows all that this replica wrote before."""
        run = await self._link.run_id()
        return run, bool(await self._ask("enter", self._lease_ms, run, quiet_ms))

    async def reserve(
        self, hold_id: str, amount_nanousd: int, limits: Sequence[Limit], share: int
    ) -> tuple[Limit | None, dict[Pair, int]]:
        """Hold an amount under all limits, or return the first without room; and how slices change by it.

        As much as `share` such calls need is set aside, if there is room for twice as much. Where there is no room a
        slice shrinks by what the call needs of it, by its amount at most.
        """
        named: list[str | int] = []
        for limit in limits:
            named += (counter_name((limit.scope, limit.window)), min(limit.cap_nanousd, MOST_NANOUSD))
        full, *changes = await self._write("reserve", hold_id, amount_nanousd, share, *named)
        counters = dict.fromkeys((limit.scope, limit.window) for limit in limits)
        return (limits[full - 1], {}) if full else (None, dict(zip(counters, changes, strict=True)))

    async def post(self, balances: Mapping[Pair, Totals], given: Mapping[Pair, int], ended: Iterable[str]) -> None:
        """Say how counters stand in this replica's own books, what it gives back of slices, and which holds have ended.

        The holds go last: money counts twice for a moment rather than not at all.
        """
        for some in _in_parts(balances.items()):
            told = (_balance(counter, totals, given.get(counter, 0)) for counter, totals in some)
            await self._write("post", len(some), *itertools.chain(*told))
        for ids in _in_parts(ended):
            await self._write("post", 0, *ids)

    async def restate(self, holds: Mapping[str, Hold], slices: Mapping[Pair, int]) -> bool:
        """Say what this replica holds, instead of all that is known of it; return whether calls are admitted."""
        arguments: list[str | int] = [self._lease_ms, len(slices)]
        for counter, amount in slices.items():
            arguments += (counter_name(counter), amount)
        for hold_id, hold in holds.items():
            arguments += (hold_id, hold.amount_nanousd, len(hold.counters), *map(counter_name, hold.counters))
        return not await self._write("restate", *arguments)

    async def beat(self) -> None:
        """Say that this replica is alive, and take as spent what silent ones had."""
        await self._write("beat", self._lease_ms)

    async def leave(self) -> None:
        """Take part no longer."""
        await self._write("leave")

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return what counters say."""
        told = await self._ask("totals", *map(counter_name, counters))
        fields = [[int(value or 0) for value in values] for values in told]
        return [Totals(nanousd=n, reserved_nanousd=h, tokens=t, calls=c) for n, h, t, c in fields]

    async def _write(self, op: str, *arguments: str | int) -> Any:
        # Numbers follow the order of sending: nothing is awaited between taking one and handing it to the connection.
        asked = self._link.script(self._name, op, self._replica, self._number, *arguments)
        self._number += 1
        return await asked

    async def _ask(self, op: str, *arguments: str | int) -> Any:
        return await self._link.script(self._name, op, self._replica, self._number, *arguments)


def counter_name(counter: Pair) -> str:
    """Return a counter's name in Redis: no two counters share one."""
    scope, window = counter
    return f"{len(scope)}:{scope}{window}"


def _balance(counter: Pair, totals: Totals, given: int) -> tuple[str | int, ...]:
    return counter_name(counter), totals.nanousd, totals.tokens, totals.calls, given


def _in_parts(things: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(things)
    while some := list(itertools.islice(waiting, _AT_ONCE)):
        yield some
