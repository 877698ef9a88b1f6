"""Owns the store that forgets: budgets, records and sessions of one process, gone when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from proxy.errors import Overloaded
from proxy.stores import (
    LONGEST_WINDOW_MS,
    OPEN,
    Entry,
    Once,
    Pair,
    exceeded,
    exchange_id,
    expired,
    pairs,
    post,
    recovered,
)
from proxy.terms import Exchange, Reservation, Session, Settlement, Totals

_SETTLED = 16_384


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure the store."""

    lease_ms: int = 60_000
    """How long a dispatched attempt without a hold counts as alive between heartbeats."""


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[MemoryStore]:  # noqa: A001 - the name that a store plug-in exports
    """Yield an empty store."""
    yield MemoryStore(settings)


@dataclass(slots=True)
class _Attempt:
    entry: Entry
    expires_ms: int
    held_nanousd: int | None = None
    held_under: tuple[Pair, ...] = ()
    cost_nanousd: int | None = None


class MemoryStore:
    """Keep everything in dictionaries; `exchanges` may be read by tests, last written last."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self._attempts: dict[str, _Attempt] = {}
        self._settled = Once(_SETTLED)
        self._totals: dict[Pair, Totals] = {}
        self._touched: dict[Pair, int] = {}
        self._leases: dict[str, int] = {}
        self._sessions: dict[str, int] = {}
        self._prefixes: dict[str, Session] = {}
        self.exchanges: dict[str, Exchange] = {}

    # --- budgets ----------------------------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none."""
        amount = reservation.amount_nanousd
        for limit in reservation.limits:
            total = self._totals.get((limit.scope, limit.window), Totals())
            if total.nanousd + total.reserved_nanousd + amount > limit.cap_nanousd:
                raise exceeded(limit)
        held_under = pairs(reservation.limits)
        self._attempts[reservation.id] = _Attempt(Entry.RESERVED, reservation.expires_ms, amount, held_under)
        for pair in held_under:
            self._add(pair, at_ms, reserved=amount)

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once per reservation id."""
        if not self._settled.first(settlement.reservation_id):
            return
        attempt = self._attempts.pop(settlement.reservation_id, None)
        entry, booked = (attempt.entry, attempt.cost_nanousd) if attempt else (None, None)
        if attempt and entry in OPEN:
            self._release(attempt, at_ms)
        nanousd, tokens, calls = post(entry, booked or 0, settlement)
        for pair in dict.fromkeys(settlement.counters):
            self._add(pair, at_ms, nanousd, 0, tokens, calls)

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""
        return [self._totals.get(pair, Totals()) for pair in counters]

    # --- records ----------------------------------------------------------------------------------------------------

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED."""
        newest = exchange.attempts[-1]
        expires_ms = newest.started_ms + self._settings.lease_ms
        attempt = self._attempts.setdefault(newest.reservation_id, _Attempt(Entry.RESERVED, expires_ms))
        if attempt.entry is not Entry.RESERVED:
            raise Overloaded("The hold for this call has lapsed.", code="hold_lapsed")
        attempt.entry = Entry.DISPATCHED
        self._leases[exchange.id] = expires_ms
        self._write(exchange)

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one."""
        self._leases.pop(exchange.id, None)
        self._write(exchange)
        session = exchange.session
        self._sessions[session.id] = max(session.turn, self._sessions.get(session.id, 0))
        if exchange.prefix:
            self._prefixes[exchange.prefix] = Session(id=session.id, turn=session.turn + 1, link="prefix")

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def find(self, prefixes: Sequence[str]) -> Session | None:
        """Return the session that last ended in one of these digests, longest history first; `turn` is the next."""
        return next((self._prefixes[prefix] for prefix in prefixes if prefix in self._prefixes), None)

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next."""
        turn = self._sessions.get(session_id)
        return None if turn is None else Session(id=session_id, turn=turn + 1, link="header")

    # --- leases -----------------------------------------------------------------------------------------------------

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on."""
        for reservation_id in reservation_ids:
            if attempt := self._attempts.get(reservation_id):
                attempt.expires_ms = max(attempt.expires_ms, until_ms)
            name = exchange_id(reservation_id)
            if name in self._leases:
                self._leases[name] = max(self._leases[name], until_ms)

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what was left open past its lease and return those exchanges, RECOVERED."""
        for reservation_id, attempt in self._attempts.items():
            if attempt.expires_ms < at_ms and attempt.entry in OPEN:
                self._expire(reservation_id, attempt, at_ms)
        dead = [name for name, expires_ms in self._leases.items() if expires_ms < at_ms]
        return [self._close(self.exchanges[name]) for name in dead]

    async def purge(self, before_ms: int) -> int:
        """Delete finished exchanges that started earlier, and counters long unused; return how many exchanges."""
        finished = [name for name in self.exchanges if name not in self._leases]
        old = [name for name in finished if self.exchanges[name].started_ms < before_ms]
        for name in old:
            del self.exchanges[name]
        for pair in [pair for pair, at_ms in self._touched.items() if at_ms < before_ms - LONGEST_WINDOW_MS]:
            if not self._totals[pair].reserved_nanousd:
                del self._totals[pair], self._touched[pair]
        return len(old)

    # --- below: how -------------------------------------------------------------------------------------------------

    def _expire(self, reservation_id: str, attempt: _Attempt, at_ms: int) -> None:
        self._release(attempt, at_ms)
        if attempt.entry is Entry.RESERVED:
            attempt.entry = Entry.RELEASED
            return
        exchange = self.exchanges.get(exchange_id(reservation_id))
        cost, tokens, counters = expired(exchange, reservation_id, attempt.held_nanousd, attempt.held_under)
        attempt.entry, attempt.cost_nanousd = Entry.EXPIRED, cost
        for pair in counters:
            self._add(pair, at_ms, cost or 0, 0, tokens, 1)

    def _close(self, exchange: Exchange) -> Exchange:
        ids = [attempt.reservation_id for attempt in exchange.attempts]
        closed = recovered(
            exchange, {name: self._attempts[name].cost_nanousd for name in ids if name in self._attempts}
        )
        self.finish(closed)
        return closed

    def _write(self, exchange: Exchange) -> None:
        self.exchanges.pop(exchange.id, None)
        self.exchanges[exchange.id] = exchange

    def _release(self, attempt: _Attempt, at_ms: int) -> None:
        for pair in attempt.held_under:
            self._add(pair, at_ms, reserved=-(attempt.held_nanousd or 0))

    def _add(
        self, pair: Pair, at_ms: int, nanousd: int = 0, reserved: int = 0, tokens: int = 0, calls: int = 0
    ) -> None:
        total = self._totals.get(pair, Totals())
        self._totals[pair] = Totals(
            nanousd=total.nanousd + nanousd,
            reserved_nanousd=total.reserved_nanousd + reserved,
            tokens=total.tokens + tokens,
            calls=total.calls + calls,
        )
        self._touched[pair] = max(at_ms, self._touched.get(pair, 0))
