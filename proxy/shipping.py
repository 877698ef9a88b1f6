"""Owns shipping: what waits in a spool is written to its shelf, in order, again and again until the shelf has it.

Each shelf has a shipper of its own, so that one that is away holds up no other. Nothing waits for it: records are on
disk before, and stay there until they are on the shelf as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from proxy.errors import HandrailError
from proxy.ports import Clock, Shelf, Spool

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
"""Between two tries while a shelf is away: that is how much later at most it gets what waited."""
COUNT_S = 2.0
"""How old the count of what waits may be."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much is shipped at once, and how often is looked for more."""

    rows: int = 1000
    every_s: float = 1.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far behind a shelf is."""

    pending: int = 0
    oldest_ms: int = 0
    """When the oldest record that waits happened; 0: none does."""
    error: str = ""
    """Why the last try failed; empty when it did not."""
    since_ms: int = 0
    """Since when tries fail."""


class Shipper:
    """Ships to one shelf; `tell` hears why it is away, and the empty text when it is back."""

    def __init__(self, spool: Spool, shelf: Shelf, clock: Clock, tell: Callable[[str], None], pace: Pace) -> None:
        self.name = shelf.name
        self.standing = Standing()
        self._spool = spool
        self._shelf = shelf
        self._clock = clock
        self._tell = tell
        self._pace = pace
        self._counted_ms = -COUNT_S * 1000

    async def ship(self) -> None:
        """Ship for ever."""
        delay_s = FIRST_DELAY_S
        while True:
            try:
                # Counted first: also of a shelf that is away is known how much waits.
                await self._count()
                more = await self._batch()
            except HandrailError as error:
                self._failed(error.message)
                pause_s, delay_s = delay_s, min(delay_s * 2, LONGEST_DELAY_S)
            else:
                self._worked()
                pause_s, delay_s = 0.0 if more else self._pace.every_s, FIRST_DELAY_S
            await asyncio.sleep(pause_s)

    async def finish(self, within_s: float) -> None:
        """Ship what is left, for no longer than this: what does not arrive waits on disk."""
        with contextlib.suppress(HandrailError, TimeoutError):
            async with asyncio.timeout(within_s):
                while await self._batch():
                    pass

    async def _batch(self) -> bool:
        """Ship some rows; say whether there may be more."""
        async with self._spool.turn() as mine:
            if not mine:
                return False
            waiting = await self._spool.waiting(self._pace.rows)
            if waiting.rows:
                await self._shelf.write(waiting.rows)
            if waiting.upto:
                await self._spool.shipped(waiting.upto)
            return waiting.more

    async def _count(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._counted_ms < COUNT_S * 1000:
            return
        self._counted_ms = now_ms
        pending, oldest_ms = await self._spool.pending()
        self.standing = msgspec.structs.replace(self.standing, pending=pending, oldest_ms=oldest_ms)

    def _worked(self) -> None:
        if self.standing.error:
            self.standing = msgspec.structs.replace(self.standing, error="", since_ms=0)
            self._tell("")

    def _failed(self, why: str) -> None:
        if not self.standing.error:
            self._tell(why)
        since_ms = self.standing.since_ms or self._clock.wall_ms()
        self.standing = msgspec.structs.replace(self.standing, error=why, since_ms=since_ms)
