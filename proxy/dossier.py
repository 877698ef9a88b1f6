"""Owns what is known of conversations, folded from the rows that tiers keep of them.

In: rows of any tiers, in any order, and what opens their bodies. Out: conversations, each with its calls and all that
came of them; the names by which it is proven that nothing is left of them. Never: a tier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from proxy import kept as keeping
from proxy.conversation import user_of
from proxy.terms import Exchange, Handoff, Held, Kept, Link, Row, Selection, Session, Table

SHORTEST_NAME = 6
"""A customer's name that is shorter is not looked for: it would be found in anything."""
Open = Callable[[Table, str, bytes], bytes]
"""Returns the body of a row as it was before it was sealed."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one conversation, oldest first."""

    id: str
    calls: tuple[Exchange, ...] = ()
    session: Session | None = None
    """What is known beyond its calls: labels, level, the tool calls that were let through."""
    held: tuple[Held, ...] = ()
    handoffs: tuple[Handoff, ...] = ()
    kept: tuple[Kept, ...] = ()
    links: tuple[Link, ...] = ()


_calls = msgspec.json.Decoder(Exchange).decode
_sessions = msgspec.json.Decoder(Session).decode
_held = msgspec.json.Decoder(Held).decode
_handoffs = msgspec.json.Decoder(Handoff).decode
_links = msgspec.json.Decoder(Link).decode


def newest(rows: Iterable[Row]) -> list[Row]:
    """Return of each row the version that counts, oldest first, whichever tiers have it."""
    found: dict[tuple[Table, str], Row] = {}
    for row in rows:
        known = found.get((row.table, row.id))
        if known is None or row.version > known.version:
            found[row.table, row.id] = row
    return sorted(found.values(), key=lambda row: (row.at_ms, row.id))


def conversations(rows: Iterable[Row], open_body: Open) -> list[Conversation]:
    """Fold rows into conversations, that which began first before others; raise Overloaded where a body cannot be
    opened."""
    by: dict[str, dict[Table, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for row in newest(rows):
        by[row.session_id][row.table].append(open_body(row.table, row.id, row.body))
    return [_folded(name, bodies) for name, bodies in by.items()]


def _folded(name: str, bodies: dict[Table, list[bytes]]) -> Conversation:
    calls = map(_calls, bodies[Table.EXCHANGES])
    return Conversation(
        id=name,
        calls=tuple(sorted(calls, key=lambda call: (call.started_ms, call.session.turn))),
        session=next(map(_sessions, bodies[Table.SESSIONS]), None),
        held=tuple(map(_held, bodies[Table.HELD])),
        handoffs=tuple(map(_handoffs, bodies[Table.HANDOFFS])),
        kept=tuple(map(keeping.unpacked, bodies[Table.FACTS])),
        links=tuple(map(_links, bodies[Table.LINKS])),
    )


def widened(which: Selection, rows: Iterable[Row]) -> Selection:
    """Return the selection with the conversations of its customers, as far as these rows tell of them."""
    found = {row.session_id for row in rows if row.session_id and row.customer in which.customers}
    return msgspec.structs.replace(which, sessions=which.sessions | found)


def channels(one: Conversation) -> tuple[str, ...]:
    """Return the agents that held a conversation."""
    agents = [*(link.channel for link in one.links), *(call.caller.agent for call in one.calls)]
    return tuple(dict.fromkeys(agents))


def ids(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the names of calls, actions and packets among these rows."""
    named = (Table.EXCHANGES, Table.FACTS, Table.HELD, Table.HANDOFFS)
    return tuple(dict.fromkeys(row.id for row in rows if row.table in named))


def needles(which: Selection, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return every name by which something that is left of these rows would be known."""
    names = (name for name in sorted(which.names) if len(name) >= SHORTEST_NAME)
    return (*sorted(which.sessions), *ids(rows), *sorted(which.customers), *names)


def users(rows: Iterable[Row], name: str) -> frozenset[str]:
    """Return the digests under which budgets know the customer of this name, for each caller that has served it."""
    calls = (_calls(row.body) for row in rows if row.table is Table.EXCHANGES)
    return frozenset(user_of(name, call.caller) for call in calls if name)
