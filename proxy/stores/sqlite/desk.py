"""Owns what waits for a human, and what is known of sessions, as SQL that runs in the batches of `books`."""

from __future__ import annotations

import sqlite3

import msgspec

from proxy.conversation import together
from proxy.stores import WAITING, decided, standing, used
from proxy.stores.sqlite.contents import UNSEALED, Contents
from proxy.stores.sqlite.tables import PURGE
from proxy.terms import Handoff, Held, HeldState, Session, Table

_STATE = "SELECT body FROM sessions WHERE session_id = ?"
_SAVE = """INSERT INTO sessions VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET at_ms = max(at_ms + 1, excluded.at_ms), body = excluded.body"""

_NEWEST = "SELECT id, body FROM held WHERE key = ? ORDER BY seq DESC LIMIT 1"
_HELD = "SELECT id, body FROM held WHERE id = ?"
_LATE = "SELECT id, body FROM held WHERE state IN ('pending', 'approved') AND expires_ms <= ? LIMIT ?"
_HOLD = "INSERT INTO held (id, key, state, expires_ms, session_id, body) VALUES (?, ?, ?, ?, ?, ?)"
_COPY_HELD = f"{_HOLD} ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body"
_CHANGE = "UPDATE held SET state = ?, body = ? WHERE id = ?"

_OPEN = "SELECT id, body FROM handoffs WHERE session_id = ? AND closed_ms IS NULL"
_HANDOFF = "SELECT id, body FROM handoffs WHERE id = ?"
_HAND_OVER = "INSERT INTO handoffs (id, session_id, at_ms, due_ms, body) VALUES (?1, ?2, ?3, ?3, ?4)"
_COPY_HANDOFF = """INSERT INTO handoffs (id, session_id, at_ms, closed_ms, body) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET closed_ms = excluded.closed_ms, body = excluded.body"""
_CLOSED_ELSEWHERE = "UPDATE handoffs SET closed_ms = ? WHERE session_id = ? AND id <> ? AND closed_ms IS NULL"
_CLOSE = "UPDATE handoffs SET closed_ms = ?, body = ? WHERE id = ?"
_DELIVERED = "UPDATE handoffs SET due_ms = NULL, delivered_ms = ? WHERE id = ? AND due_ms IS NOT NULL"
_POSTPONE = "UPDATE handoffs SET due_ms = ?, error = ?, tries = tries + 1 WHERE id = ? AND due_ms IS NOT NULL"

_PURGES = tuple(PURGE[table] for table in (Table.SESSIONS, Table.HELD, Table.HANDOFFS, Table.LINKS))

_SLICE = 100
"""Rows of a table that house-keeping touches in one batch: it shares the loop with calls."""

_encode = msgspec.json.Encoder().encode
decode_session = msgspec.json.Decoder(Session).decode


class Desk:
    """Write through one connection; every method must run inside a batch, which makes it atomic."""

    def __init__(self, connection: sqlite3.Connection, contents: Contents = UNSEALED) -> None:
        self._execute = connection.execute
        self._contents = contents

    def save(self, session: Session, at_ms: int) -> None:
        """Add the state of a session to what was known of it."""
        if row := self._execute(_STATE, (session.id,)).fetchone():
            session = together(decode_session(row[0]), session)
        self._execute(_SAVE, (session.id, at_ms, _encode(session).decode()))

    def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key waits: then return that one."""
        newest = self._held(_NEWEST, self._contents.keyed(held.key))
        if newest and standing(newest, held.created_ms).state in WAITING:
            return newest
        self._write(_HOLD, held)
        return held

    def copy_held(self, held: Held) -> None:
        """Write an action as it stands elsewhere."""
        self._write(_COPY_HELD, held)

    def use(self, key: str, at_ms: int) -> Held | None:
        """Return the newest action with this key as it stands, and take it if it is approved."""
        held = self._held(_NEWEST, self._contents.keyed(key))
        if held is None:
            return None
        stands = standing(held, at_ms)
        self._change(held, used(stands))
        return stands

    def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Write a human's decision on a pending action; return the action as it stands then."""
        held = self._held(_HELD, held_id)
        return held and self._change(held, decided(held, state, by, note, at_ms))

    def expire(self, at_ms: int) -> int:
        """Expire some actions that waited too long; return how many."""
        late = [self._contents.held(*row) for row in self._execute(_LATE, (at_ms, _SLICE)).fetchall()]
        for held in late:
            self._change(held, standing(held, at_ms))
        return len(late)

    def hand_over(self, handoff: Handoff) -> Handoff:
        """Write a packet that is due at once, unless its conversation has an open one: then return that one."""
        if row := self._execute(_OPEN, (handoff.session_id,)).fetchone():
            return self._contents.handoff(*row)
        body = self._contents.of_handoff(handoff)
        self._execute(_HAND_OVER, (handoff.id, handoff.session_id, handoff.at_ms, body))
        return handoff

    def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Close a packet that is open; return it."""
        row = self._execute(_HANDOFF, (handoff_id,)).fetchone()
        handoff = self._contents.handoff(*row) if row else None
        if handoff is None or handoff.closed_ms:
            return handoff
        closed = msgspec.structs.replace(handoff, closed_ms=at_ms, closed_by=by)
        self._execute(_CLOSE, (at_ms, self._contents.of_handoff(closed), handoff_id))
        return closed

    def copy_handoff(self, handoff: Handoff) -> None:
        """Write a packet as it stands elsewhere, where it is delivered as well."""
        body = self._contents.of_handoff(handoff)
        # Of a session one is open at a time: what is open here besides was closed where nobody told.
        self._execute(_CLOSED_ELSEWHERE, (handoff.at_ms, handoff.session_id, handoff.id))
        row = (handoff.id, handoff.session_id, handoff.at_ms, handoff.closed_ms or None, body)
        self._execute(_COPY_HANDOFF, row)

    def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off the queue."""
        self._execute(_DELIVERED, (at_ms, handoff_id))

    def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Count a failed try of a delivery that is still queued, and set its next one."""
        self._execute(_POSTPONE, (due_ms, error, handoff_id))

    def purge(self, before_ms: int) -> int:
        """Delete some old states of sessions, actions and closed packets; return how many."""
        return sum(self._execute(query, (before_ms, _SLICE)).rowcount for query in _PURGES)

    def _held(self, query: str, name: str) -> Held | None:
        row = self._execute(query, (name,)).fetchone()
        return self._contents.held(*row) if row else None

    def _write(self, query: str, held: Held) -> None:
        key, body = self._contents.keyed(held.key), self._contents.of_held(held)
        self._execute(query, (held.id, key, held.state, held.expires_ms, held.session_id, body))

    def _change(self, before: Held, after: Held) -> Held:
        if after != before:
            self._execute(_CHANGE, (after.state, self._contents.of_held(after), after.id))
        return after
