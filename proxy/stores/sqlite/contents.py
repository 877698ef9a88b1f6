"""Owns what stands in the rows of tables with content: nouns as JSON, sealed where a key is configured."""

from __future__ import annotations

import sqlite3

import msgspec

from proxy.errors import ConfigError, Overloaded
from proxy.kept import packed, unpacked
from proxy.sealing import PLAIN, Seal
from proxy.terms import Handoff, Held, Kept, Table

_NEWEST = {
    Table.FACTS: "SELECT exchange_id, body FROM facts ORDER BY at_ms DESC LIMIT 1",
    Table.HELD: "SELECT id, body FROM held ORDER BY seq DESC LIMIT 1",
    Table.HANDOFFS: "SELECT id, body FROM handoffs ORDER BY seq DESC LIMIT 1",
}
_encode = msgspec.json.Encoder().encode
_decode_held = msgspec.json.Decoder(Held).decode
_decode_handoff = msgspec.json.Decoder(Handoff).decode


class Contents:
    """Write and read bodies; reading raises Overloaded where a body cannot be opened."""

    def __init__(self, seal: Seal = PLAIN) -> None:
        self._seal = seal

    def of_kept(self, kept: Kept) -> str:
        """Return what stands in the row of what was kept of a call."""
        return self._seal.seal(Table.FACTS, kept.exchange_id, packed(kept))

    def kept(self, exchange_id: str, stored: str) -> Kept:
        """Return what was kept of a call."""
        return unpacked(self._seal.open(Table.FACTS, exchange_id, stored))

    def of_held(self, held: Held) -> str:
        """Return what stands in an action's row."""
        return self._seal.seal(Table.HELD, held.id, _encode(held))

    def held(self, held_id: str, stored: str) -> Held:
        """Return an action."""
        return _decode_held(self._seal.open(Table.HELD, held_id, stored))

    def keyed(self, key: str) -> str:
        """Return what the row of an action with this key is found by."""
        return self._seal.keyed(key)

    def of_handoff(self, handoff: Handoff) -> str:
        """Return what stands in a packet's row."""
        return self._seal.seal(Table.HANDOFFS, handoff.id, _encode(handoff))

    def handoff(self, handoff_id: str, stored: str) -> Handoff:
        """Return a packet."""
        return _decode_handoff(self._seal.open(Table.HANDOFFS, handoff_id, stored))


UNSEALED = Contents()
"""Without a key."""


def check(connection: sqlite3.Connection, seal: Seal) -> None:
    """Raise ConfigError where the newest content cannot be opened: that a key is the wrong one shows at the start."""
    for table, query in _NEWEST.items():
        for row_id, stored in connection.execute(query):
            try:
                seal.open(table, row_id, stored)
            except Overloaded as error:
                raise ConfigError([error.message]) from None
