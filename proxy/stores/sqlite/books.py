"""Owns what is written: every operation of the store as SQL, run in batches that commit together or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from proxy.errors import HandrailError, Overloaded
from proxy.stores import OPEN, Entry, exceeded, exchange_id, expired, pairs, post, recovered
from proxy.terms import Exchange, Reservation, Settlement

Pair: TypeAlias = tuple[str, str]
Operation: TypeAlias = Callable[[], object]
"""Writes when called inside a transaction; returns its result, or the HandrailError that refuses it unwritten."""

_ROOM = "SELECT settled_nanousd + reserved_nanousd FROM counters WHERE scope = ? AND window = ?"
_ADD = """INSERT INTO counters VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    settled_nanousd = settled_nanousd + excluded.settled_nanousd,
    reserved_nanousd = reserved_nanousd + excluded.reserved_nanousd,
    tokens = tokens + excluded.tokens, calls = calls + excluded.calls, at_ms = max(at_ms, excluded.at_ms)"""
_RESERVE = "INSERT INTO attempts VALUES (?, 'reserved', ?, ?, ?, NULL)"
_DISPATCH_ATTEMPT = """INSERT INTO attempts VALUES (?, 'dispatched', ?, NULL, '[]', NULL)
    ON CONFLICT DO UPDATE SET entry = 'dispatched' WHERE entry = 'reserved'"""
_DISPATCH = "INSERT OR REPLACE INTO dispatched VALUES (?, ?, ?)"
_ATTEMPT = "SELECT entry, held_nanousd, held_under, cost_nanousd FROM attempts WHERE reservation_id = ?"
_BOOK = """INSERT INTO attempts VALUES (?, ?, 0, NULL, '[]', ?)
    ON CONFLICT DO UPDATE SET entry = excluded.entry, cost_nanousd = excluded.cost_nanousd"""
_FINISH = """INSERT OR REPLACE INTO exchanges
    (id, started_ms, session_id, turn, prefix, agent, state, status, model, cost_nanousd, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_LAND = "DELETE FROM dispatched WHERE exchange_id = ?"
_BEAT = "UPDATE attempts SET expires_ms = max(expires_ms, ?) WHERE reservation_id = ?"
_LAPSED = """SELECT reservation_id, held_nanousd FROM attempts
    WHERE entry IN ('reserved', 'dispatched') AND expires_ms < ?"""
_EXPIRE = "UPDATE attempts SET entry = 'expired', cost_nanousd = ? WHERE reservation_id = ? AND entry = 'settled'"
_BODY = "SELECT body FROM dispatched WHERE exchange_id = ?1 UNION ALL SELECT body FROM exchanges WHERE id = ?1"
_DEAD = "SELECT d.body FROM dispatched d JOIN attempts a USING (reservation_id) WHERE a.expires_ms < ?"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Exchange).decode
_decode_pairs = msgspec.json.Decoder(tuple[Pair, ...]).decode


class Books:
    """Write through one connection; every method but `commit` must run inside a batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def commit(self, operations: Sequence[Operation], results: list[object]) -> None:
        """Run the operations as one transaction and append their results; on any error nothing was written."""
        self._execute("BEGIN IMMEDIATE")
        try:
            for operation in operations:
                results.append(operation())  # noqa: PERF401 - after an error, its length tells whose it was
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def reserve(self, reservation: Reservation, at_ms: int) -> HandrailError | None:
        """Hold the amount under all limits, or return the error of the first without room."""
        amount = reservation.amount_nanousd
        for limit in reservation.limits:
            row = self._execute(_ROOM, (limit.scope, limit.window)).fetchone()
            if (row[0] if row else 0) + amount > limit.cap_nanousd:
                return exceeded(limit)
        held = pairs(reservation.limits)
        self._execute(_RESERVE, (reservation.id, reservation.expires_ms, amount, _encode(held).decode()))
        for scope, window in held:
            self._execute(_ADD, (scope, window, 0, amount, 0, 0, at_ms))
        return None

    def dispatch(self, exchange: Exchange, lease_ms: int) -> HandrailError | None:
        """Write the exchange and that its newest attempt is on its way, or refuse when the attempt's hold is gone."""
        newest = exchange.attempts[-1]
        marked = self._execute(_DISPATCH_ATTEMPT, (newest.reservation_id, newest.started_ms + lease_ms))
        if marked.rowcount == 0:
            return Overloaded("The hold for this call has lapsed.", code="hold_lapsed")
        self._execute(_DISPATCH, (exchange.id, newest.reservation_id, _encode(exchange).decode()))
        return None

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Book an attempt, once: release its hold, and add to its counters."""
        row = self._execute(_ATTEMPT, (settlement.reservation_id,)).fetchone()
        entry, held_nanousd, held_under, cost = row or (None, None, "[]", None)
        posting = post(entry and Entry(entry), cost or 0, settlement)
        if posting is None:
            return
        self._execute(_BOOK, (settlement.reservation_id, posting.entry, settlement.nanousd))
        held = dict.fromkeys(_decode_pairs(held_under), held_nanousd or 0) if entry in OPEN else {}
        for pair in settlement.counters:
            self._execute(_ADD, (*pair, posting.nanousd, -held.pop(pair, 0), posting.tokens, posting.calls, at_ms))
        for pair, nanousd in held.items():
            self._execute(_ADD, (*pair, 0, -nanousd, 0, 0, at_ms))

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
                exchange.prefix or None,
                exchange.caller.agent,
                exchange.state,
                exchange.status,
                exchange.model_served or exchange.model_asked,
                exchange.cost.nanousd,
                _encode(exchange).decode(),
            ),
        )

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend leases."""
        for reservation_id in reservation_ids:
            self._execute(_BEAT, (until_ms, reservation_id))

    def recover(self, at_ms: int) -> list[Exchange]:
        """Book every open attempt past its lease, then close every exchange whose newest attempt is past its lease."""
        for reservation_id, held_nanousd in self._execute(_LAPSED, (at_ms,)).fetchall():
            self._expire(reservation_id, held_nanousd, at_ms)
        return [self._close(_decode(body)) for (body,) in self._execute(_DEAD, (at_ms,)).fetchall()]

    def _expire(self, reservation_id: str, held_nanousd: int | None, at_ms: int) -> None:
        row = self._execute(_BODY, (exchange_id(reservation_id),)).fetchone()
        attempts = _decode(row[0]).attempts if row else ()
        sent = [attempt for attempt in attempts if attempt.reservation_id == reservation_id]
        nanousd, tokens = expired(sent[0], held_nanousd) if sent else (0, 0)
        counters = sent[0].counters if sent else ()
        self.settle(
            Settlement(reservation_id=reservation_id, nanousd=nanousd or 0, tokens=tokens, counters=counters), at_ms
        )
        self._execute(_EXPIRE, (nanousd, reservation_id))

    def _close(self, exchange: Exchange) -> Exchange:
        booked = {a.reservation_id: self._execute(_ATTEMPT, (a.reservation_id,)).fetchone() for a in exchange.attempts}
        closed = recovered(exchange, {name: row and row[3] for name, row in booked.items()})
        self.finish(closed)
        return closed
