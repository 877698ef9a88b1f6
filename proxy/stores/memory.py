"""Owns the store that forgets: budgets, records and sessions of one process, gone when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from proxy.errors import Overloaded
from proxy.stores import OPEN, Entry, exceeded, exchange_id, expired, pairs, post, recovered
from proxy.terms import Exchange, Reservation, Session, Settlement, State, Totals

Pair = tuple[str, str]


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
    held: tuple[Pair, ...] = ()
    cost_nanousd: int | None = None


class MemoryStore:
    """Keep everything in dictionaries; `exchanges` may be read by tests, last written last."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self._attempts: dict[str, _Attempt] = {}
        self._totals: dict[Pair, Totals] = {}
        self._sessions: dict[str, int] = {}
        self._prefixes: dict[str, Session] = {}
        self.exchanges: dict[str, Exchange] = {}

    # --- budgets ----------------------------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none."""
        for limit in reservation.limits:
            total = self._totals.get((limit.scope, limit.window), Totals())
            if total.nanousd + total.reserved_nanousd + reservation.amount_nanousd > limit.cap_nanousd:
                raise exceeded(limit)
        attempt = _Attempt(
            Entry.RESERVED, reservation.expires_ms, reservation.amount_nanousd, pairs(reservation.limits)
        )
        self._attempts[reservation.id] = attempt
        self._hold(attempt, reservation.amount_nanousd)

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once per reservation id."""
        self._settle(settlement, self._attempts.get(settlement.reservation_id))

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""
        return [self._totals.get(pair, Totals()) for pair in counters]

    # --- records ----------------------------------------------------------------------------------------------------

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED."""
        newest = exchange.attempts[-1]
        fresh = _Attempt(Entry.RESERVED, newest.started_ms + self._settings.lease_ms)
        attempt = self._attempts.setdefault(newest.reservation_id, fresh)
        if attempt.entry is not Entry.RESERVED:
            raise Overloaded("The hold for this call has lapsed.", code="hold_lapsed")
        attempt.entry = Entry.DISPATCHED
        self._write(exchange)

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one."""
        self._write(exchange)
        session = exchange.session
        self._sessions[session.id] = max(session.turn, self._sessions.get(session.id, 0))
        if exchange.prefix:
            self._prefixes[exchange.prefix] = Session(id=session.id, turn=session.turn + 1, link="prefix")

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def find(self, prefixes: Sequence[str]) -> Session | None:
        """Return the session that last ended in one of these digests, longest history first."""
        return next((self._prefixes[prefix] for prefix in prefixes if prefix in self._prefixes), None)

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next one."""
        turn = self._sessions.get(session_id)
        return None if turn is None else Session(id=session_id, turn=turn + 1, link="header")

    # --- leases -----------------------------------------------------------------------------------------------------

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on."""
        for reservation_id in reservation_ids:
            if attempt := self._attempts.get(reservation_id):
                attempt.expires_ms = max(attempt.expires_ms, until_ms)

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what was left open past its lease and return those exchanges, RECOVERED."""
        for reservation_id, attempt in self._attempts.items():
            if attempt.expires_ms < at_ms and attempt.entry in OPEN:
                self._expire(reservation_id, attempt)
        return [self._recover(exchange) for exchange in list(self.exchanges.values()) if self._is_dead(exchange, at_ms)]

    # --- below: how -------------------------------------------------------------------------------------------------

    def _settle(self, settlement: Settlement, attempt: _Attempt | None) -> None:
        attempt = attempt or _Attempt(Entry.DISPATCHED, 0)
        posting = post(attempt.entry, attempt.cost_nanousd or 0, settlement)
        if posting is None:
            return
        if attempt.entry in OPEN:
            self._hold(attempt, -(attempt.held_nanousd or 0))
        for pair in settlement.counters:
            total = self._totals.get(pair, Totals())
            self._totals[pair] = msgspec.structs.replace(
                total,
                nanousd=total.nanousd + posting.nanousd,
                tokens=total.tokens + posting.tokens,
                calls=total.calls + posting.calls,
            )
        attempt.entry, attempt.cost_nanousd = posting.entry, settlement.nanousd
        self._attempts[settlement.reservation_id] = attempt

    def _hold(self, attempt: _Attempt, nanousd: int) -> None:
        for pair in attempt.held:
            total = self._totals.get(pair, Totals())
            self._totals[pair] = msgspec.structs.replace(total, reserved_nanousd=total.reserved_nanousd + nanousd)

    def _write(self, exchange: Exchange) -> None:
        self.exchanges.pop(exchange.id, None)
        self.exchanges[exchange.id] = exchange

    def _expire(self, reservation_id: str, attempt: _Attempt) -> None:
        exchange = self.exchanges.get(exchange_id(reservation_id))
        found = [a for a in exchange.attempts if a.reservation_id == reservation_id] if exchange else []
        nanousd, tokens = expired(found[0], attempt.held_nanousd) if found else (0, 0)
        counters = found[0].counters if found else ()
        bill = Settlement(reservation_id=reservation_id, nanousd=nanousd or 0, tokens=tokens, counters=counters)
        self._settle(bill, attempt)
        if attempt.entry is Entry.SETTLED:
            attempt.entry, attempt.cost_nanousd = Entry.EXPIRED, nanousd

    def _is_dead(self, exchange: Exchange, at_ms: int) -> bool:
        return (
            exchange.state is State.DISPATCHED
            and self._attempts[exchange.attempts[-1].reservation_id].expires_ms < at_ms
        )

    def _recover(self, exchange: Exchange) -> Exchange:
        booked = {a.reservation_id: self._attempts[a.reservation_id].cost_nanousd for a in exchange.attempts}
        closed = recovered(exchange, booked)
        self._write(closed)
        return closed
