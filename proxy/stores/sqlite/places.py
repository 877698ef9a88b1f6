"""Owns where conversations are and where they were, as SQL that runs in the batches of `books`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from proxy.terms import Place, Stand

STANDING = "SELECT session_id, turn FROM stands WHERE end = ? ORDER BY seq DESC LIMIT 2"
PASSED = "SELECT session_id, turn FROM marks WHERE mark = ? AND user IN ('', ?) LIMIT 3"
_TAKE = """DELETE FROM stands WHERE seq = (SELECT max(seq) FROM stands WHERE end = ?)
    RETURNING session_id, turn"""
_LEAVE = "DELETE FROM stands WHERE session_id = ?"
_STAND = "INSERT OR REPLACE INTO stands (session_id, turn, end, at_ms) VALUES (?, ?, ?, ?)"
_MARK = "INSERT OR REPLACE INTO marks (mark, user, session_id, turn, at_ms) VALUES (?, ?, ?, ?, ?)"

# The oldest rows are looked at, and no others: those of one time stand side by side.
_PURGES = (
    """DELETE FROM stands WHERE seq IN
    (SELECT seq FROM (SELECT seq, at_ms FROM stands ORDER BY seq LIMIT ?) WHERE at_ms < ?)""",
    """DELETE FROM marks WHERE seq IN
    (SELECT seq FROM (SELECT seq, at_ms FROM marks ORDER BY seq LIMIT ?) WHERE at_ms < ?)""",
)
_SLICE = 100
"""Rows of a table that house-keeping touches in one batch: it shares the loop with calls."""


class Places:
    """Write through one connection; every method must run inside a batch, which makes it atomic."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._many = connection.executemany

    def take(self, end: str) -> list[Place]:
        """Take the newest of the conversations that stand here, if any is left."""
        return read(self._execute(_TAKE, (end,)).fetchall())

    def stand(self, stand: Stand, at_ms: int) -> None:
        """Write where a call leaves its conversation."""
        if stand.end:
            self._execute(_STAND, (stand.session_id, stand.turn, stand.end, at_ms))
        else:
            self._execute(_LEAVE, (stand.session_id,))
        rows = [(mark, stand.user, stand.session_id, stand.turn, at_ms) for mark in stand.marks]
        self._many(_MARK, rows)

    def purge(self, before_ms: int) -> int:
        """Delete some of what was written earlier; return how many."""
        return sum(self._execute(query, (_SLICE, before_ms)).rowcount for query in _PURGES)


def read(rows: Sequence[tuple[str, int]]) -> list[Place]:
    """Return the places of some rows, one for each conversation: it may have named its user only later."""
    return [Place(session_id=session_id, turn=turn) for session_id, turn in dict(rows).items()]
