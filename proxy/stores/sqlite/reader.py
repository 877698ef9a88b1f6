"""Owns reading the store's file beside the processes that serve: for the command line, status pages and exports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Self

import msgspec

from proxy.sealing import PLAIN, Seal
from proxy.stores.sqlite.contents import Contents
from proxy.stores.sqlite.counters import scopes
from proxy.stores.sqlite.file import reopen
from proxy.terms import Exchange, Json, Kept, Selection, Totals

_TAIL = "SELECT seq, body FROM exchanges ORDER BY seq DESC LIMIT ?"
_AFTER = "SELECT seq, body FROM exchanges WHERE seq > ? ORDER BY seq LIMIT ?"
_BETWEEN = """SELECT started_ms, seq, body FROM exchanges
    WHERE (started_ms, seq) > (?, ?) AND started_ms < ? ORDER BY started_ms, seq LIMIT ?"""
_FIND = "SELECT body FROM exchanges WHERE id = ?1 UNION ALL SELECT body FROM dispatched WHERE exchange_id = ?1"
_BODY = "SELECT body FROM exchanges WHERE id = ?"
_IN_FLIGHT = "SELECT body FROM dispatched"
_TOTALS = """SELECT scope, window, settled_nanousd, reserved_nanousd, tokens, calls FROM counters
    ORDER BY scope, window"""
_KEPT_OF = "SELECT exchange_id, body FROM facts WHERE exchange_id = ?"
_KEPT = "SELECT at_ms, exchange_id, body FROM facts WHERE (at_ms, exchange_id) > (?, ?) ORDER BY 1, 2 LIMIT ?"
_BESIDE = {
    "stands": "SELECT * FROM stands WHERE session_id IN (SELECT value FROM json_each(?))",
    "marks": "SELECT * FROM marks WHERE session_id IN (SELECT value FROM json_each(?))",
    "counters": "SELECT * FROM counters WHERE scope IN (SELECT value FROM json_each(?))",
}
_PAGE = 500
_KEPT_PAGE = 50

_decode = msgspec.json.Decoder(Exchange).decode


class Reader:
    """Read one file, never write it; every page is a read of its own, so that a slow reader never holds up the log."""

    def __init__(self, path: str, seal: Seal = PLAIN) -> None:
        """Open the file, content with `seal`; raise ConfigError when there is none or it is not ours."""
        self._contents = Contents(seal)
        self._connection = reopen(path, "ro")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def tail(self, limit: int) -> list[tuple[int, Exchange]]:
        """Return the newest finished exchanges with their sequence numbers, oldest first."""
        rows = self._connection.execute(_TAIL, (limit,)).fetchall()
        return [(seq, _decode(body)) for seq, body in reversed(rows)]

    def after(self, seq: int, limit: int = _PAGE) -> list[tuple[int, Exchange]]:
        """Return finished exchanges written after `seq`, oldest first; one that was corrected comes again."""
        rows = self._connection.execute(_AFTER, (seq, limit)).fetchall()
        return [(seq, _decode(body)) for seq, body in rows]

    def between(self, from_ms: int, to_ms: int) -> Iterator[Exchange]:
        """Yield finished exchanges that started in [from, to), in that order."""
        last = (from_ms, -1)
        while rows := self._connection.execute(_BETWEEN, (*last, to_ms, _PAGE)).fetchall():
            yield from (_decode(body) for _, _, body in rows)
            last = rows[-1][:2]

    def in_flight(self) -> list[Exchange]:
        """Return the exchanges that are dispatched and not finished."""
        return [_decode(body) for (body,) in self._connection.execute(_IN_FLIGHT).fetchall()]

    def find(self, name: str) -> Exchange | None:
        """Return the exchange, finished or in flight, that has this id or holds the decision with this id."""
        for candidate in (name, name.rpartition("-")[0]):
            row = self._connection.execute(_FIND, (candidate,)).fetchone()
            exchange = _decode(row[0]) if row else None
            if exchange and (exchange.id == name or any(decision.id == name for decision in exchange.decisions)):
                return exchange
        return None

    def body(self, exchange_id: str) -> bytes | None:
        """Return a finished exchange as it was written, None if there is none."""
        row = self._connection.execute(_BODY, (exchange_id,)).fetchone()
        return row[0].encode() if row else None

    def kept_of(self, exchange_id: str) -> Kept | None:
        """Return what was kept of a call, None if nothing was."""
        row = self._connection.execute(_KEPT_OF, (exchange_id,)).fetchone()
        return self._contents.kept(*row) if row else None

    def kept(self, from_ms: int) -> Iterator[Kept]:
        """Yield what was kept of calls that started at this time or later, in that order."""
        last = (from_ms, "")
        while rows := self._connection.execute(_KEPT, (*last, _KEPT_PAGE)).fetchall():
            yield from (self._contents.kept(*row[1:]) for row in rows)
            last = rows[-1][:2]

    def beside(self, which: Selection) -> dict[str, list[dict[str, Json]]]:
        """Return what there is of conversations and of their customers' users outside the tables of the tiers."""
        sessions = json.dumps(sorted(which.sessions))
        counted = json.dumps(scopes(self._connection, which, sessions))
        names = {"stands": sessions, "marks": sessions, "counters": counted}
        return {table: self._rows(_BESIDE[table], names[table]) for table in names}

    def _rows(self, query: str, names: str) -> list[dict[str, Json]]:
        found = self._connection.execute(query, (names,))
        columns = [column for column, *_ in found.description]
        return [dict(zip(columns, row, strict=True)) for row in found]

    def totals(self) -> list[tuple[str, str, Totals]]:
        """Return every counter as (scope, window, totals)."""
        return [
            (scope, window, Totals(nanousd=settled, reserved_nanousd=reserved, tokens=tokens, calls=calls))
            for scope, window, settled, reserved, tokens, calls in self._connection.execute(_TOTALS).fetchall()
        ]
