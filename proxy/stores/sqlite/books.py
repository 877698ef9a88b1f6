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
_LAPSED = """SELECT reservation_id, entry, held_nanousd FROM attempts
    WHERE entry IN ('reserved', 'dispatched') AND expires_ms < ?"""
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

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        """Run the operations as one transaction and return their results; on any error nothing was written."""
        self._execute("BEGIN IMMEDIATE")
        try:
            results = [operation() for operation in operations]
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
            row = self._execute(_ROOM, (limit.scope, limit.window)).fetchone()
            if (row[0] if row else 0) + amount > limit.cap_nanousd:
                return exceeded(limit)
        held = pairs(reservation.limits)
        self._execute(_RESERVE, (reservation.id, reservation.expires_ms, amount, _encode(held).decode()))
        for scope, window in held:
            self._execute(_ADD, (scope, window, 0, amount, 0, 0, at_ms))
        return None

    def dispatch(self, exchange_id: str, reservation_id: str, expires_ms: int, body: str) -> HandrailError | None:
        """Write that the attempt is on its way, or refuse when its hold is gone."""
        if self._execute(_DISPATCH_ATTEMPT, (reservation_id, expires_ms)).rowcount == 0:
            return Overloaded("The hold for this call has lapsed.", code="hold_lapsed")
        self._execute(_DISPATCH, (exchange_id, reservation_id, body))
        return None

    def settle(self, settlement: Settlement, at_ms: int, entry: Entry = Entry.SETTLED) -> None:
        """Book an attempt once."""
        row = self._execute(_ATTEMPT, (settlement.reservation_id,)).fetchone()
        before, held_nanousd, held_under, cost = row or (None, None, "[]", None)
        posting = post(before and Entry(before), cost or 0, settlement)
        if posting is None:
            return
        self._execute(_BOOK, (settlement.reservation_id, posting.entry, settlement.nanousd))
        held = dict.fromkeys(_decode_pairs(held_under), held_nanousd) if before in OPEN else {}
        for pair in settlement.counters:
            add = (posting.nanousd, -held.pop(pair, 0), posting.tokens, posting.calls)
            self._execute(_ADD, (*pair, *add, at_ms))
        for pair, amount in held.items():
            self._execute(_ADD, (*pair, 0, -amount, 0, 0, at_ms))
