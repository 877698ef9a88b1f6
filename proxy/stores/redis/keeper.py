"""Owns the replica's standing with the ledger: finds it, tells it what it does not know, and says when it is away.

What the ledger must never do is know less than what was granted. So a replica tells how its counters stand before it
says that holds have ended; and a server that may have lost something admits nothing until every replica that is alive
has said again what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from proxy.errors import HandrailError
from proxy.stores import OwnBooks
from proxy.stores.redis.ledger import Ledger
from proxy.stores.redis.link import Away, first_of, open_link
from proxy.stores.redis.purse import Purse, Untold
from proxy.terms import Secret

_BEATS_PER_LEASE = 3
_IDLE_S = 600.0
"""After this long without a call under a counter its slice is given back."""
_RETRY_S = 0.05
"""How soon to ask again whether calls are admitted."""
_FIRST_S = 3.0
"""How long a start waits for the ledger."""

OnOutage: TypeAlias = Literal["closed", "slice", "open"]
"""What to do while the ledger cannot be asked: refuse calls; spend what was set aside; go on without limits."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure the ledger."""

    url: str
    replica_path: str
    """The file with the replica's name, beside its books."""
    password: Secret = Secret("")
    ledger: str = "default"
    timeout_ms: int = 50
    on_outage: OnOutage = "slice"
    lease_ms: int = 60_000
    """How long a silent replica counts as alive; what it held counts as spent then."""
    beat_ms: int = 250
    quiet_ms: int = 1000
    """How long a server that was not seen before admits nothing: longer than replicas take to notice."""


class Keeper:
    """Keep a link to the ledger; `ledger` is there while calls may be held in it."""

    def __init__(
        self, settings: Settings, replica: str, books: OwnBooks, purse: Purse, tell: Callable[[str], None]
    ) -> None:
        self.ledger: Ledger | None = None
        self.trouble = "not connected yet"
        self._settings = settings
        self._replica = replica
        self._books = books
        self._purse = purse
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._beat_s = min(settings.beat_ms, settings.lease_ms / _BEATS_PER_LEASE) / 1000
        self._run = ""
        self._moved = ""
        self._closing = False
        self._work = asyncio.Event()
        self._tried = asyncio.Event()
        self._telling = asyncio.Lock()

    def wake(self) -> None:
        """Say that there is something to tell."""
        self._work.set()

    async def first(self) -> None:
        """Wait until the ledger was found, or not."""
        try:
            async with asyncio.timeout(_FIRST_S):
                await self._tried.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Have `keep` end, once the ledger knows everything or cannot be reached."""
        self._closing = True
        self.wake()

    async def keep(self) -> None:
        """Find the ledger again and again, until closed."""
        while not self._closing:
            try:
                await self._session()
            except* (Away, HandrailError) as errors:
                self._lost(first_of(errors))
            if not self._closing:
                await asyncio.sleep(self._beat_s)

    async def push(self) -> None:
        """Tell what has changed; raise Away, or HandrailError when the books cannot be read."""
        async with self._telling:
            if self.ledger:
                await self._say(self.ledger, self._purse.told())

    async def _session(self) -> None:
        settings = self._settings
        async with open_link(settings.url, settings.password.reveal(), settings.timeout_ms / 1000, self._moved) as link:
            ledger = Ledger(link, settings.ledger, self._replica, settings.lease_ms)
            await self._join(ledger)
            self.ledger, self.trouble = ledger, ""
            self._tell("")
            self._tried.set()
            try:
                await self._serve(ledger)
            finally:
                self.ledger = None

    async def _join(self, ledger: Ledger) -> None:
        """Tell the ledger all that it does not know, until calls are admitted and nothing is left to tell."""
        run, known = await ledger.enter(self._settings.quiet_ms)
        if not (known and run == self._run):
            self._purse.changed(await self._books.touched(0))
        self._run = run
        while True:
            # In this order: what ends later is told later, and counts twice until then.
            holds, slices = self._purse.stated()
            await self._say(ledger, replace(self._purse.told(), ended=frozenset()))
            admitted = await ledger.restate(holds, slices)
            if self._closing or (admitted and not self._purse.ahead):
                return
            await asyncio.sleep(0 if admitted else _RETRY_S)

    async def _serve(self, ledger: Ledger) -> None:
        next_s = self._loop.time()
        while not self._closing:
            self._work.clear()
            if self._purse.untold:
                await self.push()
            if self._loop.time() >= next_s:
                await ledger.beat()
                self._purse.give_unused(self._loop.time() - _IDLE_S)
                next_s = self._loop.time() + self._beat_s
            try:
                async with asyncio.timeout_at(next_s):
                    await self._work.wait()
            except TimeoutError:
                pass
        self._purse.give_all()
        await self.push()
        await ledger.leave()

    async def _say(self, ledger: Ledger, untold: Untold) -> None:
        counters = sorted(untold.counters)
        try:
            balances = await self._books.balances(counters) if counters else []
            await ledger.post(dict(zip(counters, balances, strict=True)), untold.given, sorted(untold.ended))
        except BaseException:
            self._purse.retell(untold)
            raise

    def _lost(self, error: Exception) -> None:
        self._moved = error.moved if isinstance(error, Away) else ""
        if not self.trouble or not self._tried.is_set():
            self._tell(str(error))
        self.trouble = str(error)
        self._tried.set()
