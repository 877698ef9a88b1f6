"""Owns what is written: every operation of the store as SQL, run in batches that commit together or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from proxy.errors import HandrailError, Overloaded
from proxy.stores import (
    LATEST_MS,
    LONGEST_WINDOW_MS,
    OPEN,
    Entry,
    Hold,
    Pair,
    exceeded,
    exchange_id,
    expired,
    pairs,
    post,
    recovered,
)
from proxy.stores.sqlite.contents import UNSEALED, Contents
from proxy.stores.sqlite.tables import PURGE
from proxy.terms import Exchange, Kept, Reservation, Settlement, Table, Totals

Operation: TypeAlias = Callable[[], object]
"""Writes when called inside a batch; returns its result, or the HandrailError that refuses it unwritten."""

BALANCE = "SELECT settled_nanousd, reserved_nanousd, tokens, calls FROM counters WHERE scope = ? AND window = ?"
_TOUCHED = "SELECT scope, window FROM counters WHERE at_ms >= ?"
_HOLDS = """SELECT reservation_id, held_nanousd, held_under, expires_ms FROM attempts
    WHERE entry IN ('reserved', 'dispatched') AND held_nanousd IS NOT NULL"""
_TOTAL = "SELECT settled_nanousd + reserved_nanousd FROM counters WHERE scope = ? AND window = ?"
_ADD = """INSERT INTO counters VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    settled_nanousd = settled_nanousd + excluded.settled_nanousd,
    reserved_nanousd = reserved_nanousd + excluded.reserved_nanousd,
    tokens = tokens + excluded.tokens, calls = calls + excluded.calls, at_ms = max(at_ms, excluded.at_ms)"""
_RESERVE = "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)"
_SEND = """INSERT INTO attempts VALUES (?, 'dispatched', ?, NULL, '[]', NULL)
    ON CONFLICT DO UPDATE SET entry = 'dispatched' WHERE entry = 'reserved'"""
# An attempt whose lease was extended before it was sent lends its exchange that lease.
_DISPATCH = """INSERT OR REPLACE INTO dispatched
    SELECT ?, max(?, expires_ms), ? FROM attempts WHERE reservation_id = ?"""
_SETTLE = "DELETE FROM attempts WHERE reservation_id = ? RETURNING entry, held_nanousd, held_under, cost_nanousd"
_LAND = "DELETE FROM dispatched WHERE exchange_id = ?"
_FINISH = """INSERT OR REPLACE INTO exchanges
    (id, started_ms, session_id, turn, agent, state, status, model, cost_nanousd, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# Nothing is written where the link is not new or old: later calls pay for looking it up.
_LINK = """INSERT INTO links VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT DO UPDATE
    SET last_ms = excluded.last_ms WHERE excluded.last_ms >= last_ms + 3600000"""
_BEAT_ATTEMPT = "UPDATE attempts SET expires_ms = max(expires_ms, ?) WHERE reservation_id = ?"
_BEAT_EXCHANGE = "UPDATE dispatched SET expires_ms = max(expires_ms, ?) WHERE exchange_id = ?"
_LAPSED = """SELECT reservation_id, entry, held_nanousd, held_under FROM attempts
    WHERE entry IN ('reserved', 'dispatched') AND expires_ms < ? LIMIT ?"""
_EXPIRE = "UPDATE attempts SET entry = ?, cost_nanousd = ? WHERE reservation_id = ?"
_FORGET = "DELETE FROM attempts WHERE entry IN ('released', 'expired') AND expires_ms < ?"
_DEAD = "SELECT body FROM dispatched WHERE expires_ms < ? LIMIT ?"
_BODY = "SELECT body FROM dispatched WHERE exchange_id = ?1 UNION ALL SELECT body FROM exchanges WHERE id = ?1"
_BOOKED = "SELECT cost_nanousd FROM attempts WHERE reservation_id = ?"

_KEEP = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)"
_PURGE_COUNTERS = "DELETE FROM counters WHERE at_ms < ? AND reserved_nanousd = 0"

_SLICE = 100
"""Rows that house-keeping touches in one batch: it shares the loop with calls."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Exchange).decode
_decode_pairs = msgspec.json.Decoder(tuple[Pair, ...]).decode


def totals(row: tuple[int, int, int, int] | None) -> Totals:
    """Return a counter's row as totals: zeros where there is none."""
    nanousd, reserved, tokens, calls = row or (0, 0, 0, 0)
    return Totals(nanousd=nanousd, reserved_nanousd=reserved, tokens=tokens, calls=calls)


class Books:
    """Write through one connection; every method but `commit` must run inside a batch.

    Counters are added up in memory and written once per batch: most calls of a batch share them.
    """

    def __init__(self, connection: sqlite3.Connection, contents: Contents = UNSEALED) -> None:
        self._connection = connection
        self._contents = contents
        self._execute = connection.execute
        self._totals: dict[Pair, int] = {}
        self._sums: dict[Pair, list[int]] = {}

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        """Run the operations as one transaction and return their results; on any error nothing was written."""
        self._totals.clear()
        self._sums.clear()
        self._execute("BEGIN IMMEDIATE")
        try:
            results = [operation() for operation in operations]
            self._write()
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        return results

    def reserve(self, reservation: Reservation, at_ms: int) -> HandrailError | None:
        """Hold the amount under all limits, or return the error of the first without room."""
        amount = reservation.amount_nanousd
        for limit in reservation.limits:
            if self._total((limit.scope, limit.window)) + amount > limit.cap_nanousd:
                return exceeded(limit)
        held = pairs(reservation.limits)
        entry, cost = (Entry.EXPIRED, amount) if reservation.booked else (Entry.RESERVED, None)
        row = (reservation.id, entry, reservation.expires_ms, amount, _encode(held).decode(), cost)
        self._execute(_RESERVE, row)
        for pair in held:
            if reservation.booked:
                self._add(pair, at_ms, amount, calls=1)
            else:
                self._add(pair, at_ms, reserved=amount)
        return None

    def dispatch(self, exchange: Exchange, lease_ms: int) -> HandrailError | None:
        """Write the exchange and that its newest attempt is on its way, or refuse when the attempt's hold is gone."""
        newest = exchange.attempts[-1]
        expires_ms = newest.started_ms + lease_ms
        if self._execute(_SEND, (newest.reservation_id, expires_ms)).rowcount == 0:
            return Overloaded("The hold for this call has lapsed.", code="hold_lapsed")
        record = _encode(exchange).decode()
        self._execute(_DISPATCH, (exchange.id, expires_ms, record, newest.reservation_id))
        return None

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Take an attempt out of the books: release its hold, and add to its counters."""
        row = self._execute(_SETTLE, (settlement.reservation_id,)).fetchone()
        entry, held_nanousd, held_under, cost = row or (None, 0, "[]", 0)
        if entry in OPEN:
            self._release(held_nanousd, held_under, at_ms)
        nanousd, tokens, calls = post(entry, cost or 0, settlement)
        for pair in dict.fromkeys(settlement.counters):
            self._add(pair, at_ms, nanousd, 0, tokens, calls)

    def finish(self, exchange: Exchange) -> None:
        """Write the exchange as finished, over what was written of it before."""
        self._execute(_LAND, (exchange.id,))
        self._execute(
            _FINISH,
            (
                exchange.id,
                exchange.started_ms,
                exchange.session.id,
                exchange.session.turn,
                exchange.caller.agent,
                exchange.state,
                exchange.status,
                exchange.model_served or exchange.model_asked,
                exchange.cost.nanousd,
                _encode(exchange).decode(),
            ),
        )
        if exchange.customer:
            link = (exchange.customer, exchange.session.id, exchange.caller.agent, exchange.started_ms)
            self._execute(_LINK, link)

    def keep(self, kept: Kept) -> None:
        """Write what policy knew along a call."""
        self._execute(_KEEP, (kept.exchange_id, kept.at_ms, self._contents.of_kept(kept)))

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts and of their exchanges."""
        for reservation_id in reservation_ids:
            self._execute(_BEAT_ATTEMPT, (until_ms, reservation_id))
            self._execute(_BEAT_EXCHANGE, (until_ms, exchange_id(reservation_id)))

    def expire(self, at_ms: int) -> int:
        """Book some open attempts past their lease; return how many."""
        rows = self._execute(_LAPSED, (at_ms, _SLICE)).fetchall()
        for reservation_id, entry, held_nanousd, held_under in rows:
            self._release(held_nanousd, held_under, at_ms)
            if entry == Entry.RESERVED:
                self._execute(_EXPIRE, (Entry.RELEASED, None, reservation_id))
            else:
                self._book(reservation_id, held_nanousd, _decode_pairs(held_under), at_ms)
        return len(rows)

    def recover(self, at_ms: int) -> list[Exchange]:
        """Finish some exchanges past their lease, or when there are none left, forget attempts nobody came back for."""
        closed = [self._close(_decode(body)) for (body,) in self._execute(_DEAD, (at_ms, _SLICE)).fetchall()]
        if not closed:
            self._execute(_FORGET, (at_ms - LATEST_MS,))
        return closed

    def purge(self, before_ms: int) -> int:
        """Delete some old exchanges, or when there are none left, old counters; return how many exchanges."""
        deleted = self._execute(PURGE[Table.EXCHANGES], (before_ms, _SLICE)).rowcount
        if not deleted:
            self._execute(_PURGE_COUNTERS, (before_ms - LONGEST_WINDOW_MS,))
        return deleted

    def forget(self, before_ms: int) -> int:
        """Delete some of what was kept of old calls; return of how many."""
        return self._execute(PURGE[Table.FACTS], (before_ms, _SLICE)).rowcount

    def holds(self) -> dict[str, Hold]:
        """Return what is held for open attempts."""
        return {
            name: Hold(amount_nanousd=amount, counters=_decode_pairs(under), expires_ms=expires_ms)
            for name, amount, under, expires_ms in self._execute(_HOLDS)
        }

    def touched(self, since_ms: int) -> list[Pair]:
        """Return the counters that changed at this time or later, as of this point of the batch."""
        self._write()
        return self._execute(_TOUCHED, (since_ms,)).fetchall()

    def balances(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of counters, as of this point of the batch."""
        self._write()
        return [totals(self._execute(BALANCE, pair).fetchone()) for pair in counters]

    def _write(self) -> None:
        self._connection.executemany(_ADD, ((*pair, *sums) for pair, sums in self._sums.items()))
        self._sums.clear()
        self._totals.clear()

    def _book(self, reservation_id: str, held_nanousd: int | None, held_under: tuple[Pair, ...], at_ms: int) -> None:
        row = self._execute(_BODY, (exchange_id(reservation_id),)).fetchone()
        exchange = _decode(row[0]) if row else None
        nanousd, tokens, counters = expired(exchange, reservation_id, held_nanousd, held_under)
        self._execute(_EXPIRE, (Entry.EXPIRED, nanousd, reservation_id))
        for pair in counters:
            self._add(pair, at_ms, nanousd or 0, 0, tokens, 1)

    def _close(self, exchange: Exchange) -> Exchange:
        rows = {a.reservation_id: self._execute(_BOOKED, (a.reservation_id,)).fetchone() for a in exchange.attempts}
        closed = recovered(exchange, {name: row[0] for name, row in rows.items() if row})
        self.finish(closed)
        return closed

    def _total(self, pair: Pair) -> int:
        """Return settled and reserved money of a counter, as of this point of the batch."""
        if pair not in self._totals:
            row = self._execute(_TOTAL, pair).fetchone()
            self._totals[pair] = row[0] if row else 0
        settled, reserved, *_ = self._sums.get(pair, (0, 0))
        return self._totals[pair] + settled + reserved

    def _release(self, held_nanousd: int | None, held_under: str, at_ms: int) -> None:
        for pair in _decode_pairs(held_under):
            self._add(pair, at_ms, reserved=-(held_nanousd or 0))

    def _add(
        self, pair: Pair, at_ms: int, nanousd: int = 0, reserved: int = 0, tokens: int = 0, calls: int = 0
    ) -> None:
        sums = self._sums.setdefault(pair, [0, 0, 0, 0, at_ms])
        sums[0] += nanousd
        sums[1] += reserved
        sums[2] += tokens
        sums[3] += calls
        sums[4] = max(sums[4], at_ms)
