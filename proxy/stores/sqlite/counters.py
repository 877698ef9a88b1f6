"""Owns finding the counters that are kept under the name of a conversation or of a customer."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator

from proxy.terms import Selection

_USERS = "SELECT DISTINCT user FROM marks WHERE user != '' AND session_id IN (SELECT value FROM json_each(?))"
_SCOPES = "SELECT DISTINCT scope FROM counters"
_KINDS = ("conversation", "user", "key", "total")
"""Scopes that may be about one person: those of agents and tenants are not."""


def scopes(connection: sqlite3.Connection, which: Selection, sessions: str) -> list[str]:
    """Return the scopes of counters of these conversations (a JSON array); with customers, those of their users too."""
    users = [user for (user,) in connection.execute(_USERS, (sessions,))] if which.customers else []
    return list(_ending(connection, {*json.loads(sessions), *which.names, *users}))


def _ending(connection: sqlite3.Connection, keys: Collection[str]) -> Iterator[str]:
    """Yield the scopes that end with one of these keys, or with its digest: so policies name whose a counter is."""
    ends = {*keys, *map(_digest, keys)}
    for (scope,) in connection.execute(_SCOPES):
        if scope.partition(":")[0] in _KINDS and scope.rpartition(":")[2] in ends:
            yield scope


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
