"""Owns what each table of the tiers is in the file: how its rows are read, which are old, and how those are deleted.

A row that some shelf has not got as it is now stands in the outbox, and is never old.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.terms import Row, Table


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One table as SQL about its rows, each of them called `r`."""

    key: str
    """What the file knows a row by."""
    id: str = "r.id"
    named: str = "r.id = ?1"
    """Whether a row has this id."""
    version: str
    at_ms: str
    session_id: str = "r.session_id"
    among: str = "r.session_id IN (SELECT value FROM json_each(?1))"
    """Whether a row is of one of these conversations; ?1 is a JSON array of their ids."""
    customer: str = ""
    body: str = "r.body"
    old: str
    """Whether nothing needs a row any more that is of a time before ?1."""
    going: str = ""
    """Whether that is so once what is old of the other tables has gone; empty: it does not depend on them."""


_PAST = "r.started_ms < ?1 AND r.seq < (SELECT max(seq) FROM exchanges)"
_FACTS_OF = "SELECT 1 FROM facts f WHERE f.exchange_id = r.id"
SHAPES: Mapping[Table, Shape] = {
    # Facts are found through the records of their calls, so they are erased before those.
    Table.FACTS: Shape(
        key="exchange_id",
        id="r.exchange_id",
        named="r.exchange_id = ?1",
        version="r.at_ms",
        at_ms="r.at_ms",
        session_id="coalesce((SELECT e.session_id FROM exchanges e WHERE e.id = r.exchange_id), '')",
        among="""r.exchange_id IN (SELECT e.id FROM exchanges e
            WHERE e.session_id IN (SELECT value FROM json_each(?1)))""",
        old="r.at_ms < ?1",
    ),
    # The newest row stays, so that no sequence number is ever given twice; and so does one with facts.
    Table.EXCHANGES: Shape(
        key="seq",
        version="r.seq",
        at_ms="r.started_ms",
        old=f"{_PAST} AND NOT EXISTS ({_FACTS_OF})",
        going=f"""{_PAST} AND NOT EXISTS ({_FACTS_OF} AND (f.at_ms >= ?1
            OR EXISTS (SELECT 1 FROM outbox o WHERE o.kind = 'facts' AND o.id = r.id)))""",
    ),
    Table.SESSIONS: Shape(
        key="session_id",
        id="r.session_id",
        named="r.session_id = ?1",
        version="r.at_ms",
        at_ms="r.at_ms",
        old="r.at_ms < ?1",
    ),
    Table.HELD: Shape(
        key="seq",
        version="CASE r.state WHEN 'pending' THEN 1 WHEN 'approved' THEN 2 ELSE 3 END",
        at_ms="r.expires_ms",
        old="r.expires_ms < ?1",
    ),
    # Of a packet that is open, a human owns the conversation.
    Table.HANDOFFS: Shape(key="seq", version="1 + (r.closed_ms IS NOT NULL)", at_ms="r.at_ms", old="r.closed_ms < ?1"),
    # When a link was last used is written to the hour.
    Table.LINKS: Shape(
        key="customer, session_id",
        id="r.customer || ':' || r.session_id",
        named="r.customer = substr(?1, 1, instr(?1, ':') - 1) AND r.session_id = substr(?1, instr(?1, ':') + 1)",
        version="r.last_ms",
        at_ms="r.last_ms",
        customer="r.customer",
        body="""json_object('customer', r.customer, 'session_id', r.session_id, 'channel', r.channel,
            'first_ms', r.first_ms, 'last_ms', r.last_ms)""",
        old="r.last_ms < ?1 - 3600000",
    ),
}

_CUSTOMER = "coalesce((SELECT l.customer FROM links l WHERE l.session_id = {} ORDER BY l.first_ms LIMIT 1), '')"


def select(table: Table, condition: str) -> str:
    """Return the query for the rows of a table that meet a condition, as `row` reads them."""
    shape = SHAPES[table]
    customer = shape.customer or _CUSTOMER.format(shape.session_id)
    columns = ", ".join((shape.id, shape.version, shape.at_ms, shape.session_id, customer, shape.body))
    return f"SELECT {columns} FROM {table} r WHERE {condition}"


def row(table: Table, columns: tuple[str, int, int, str, str, str]) -> Row:
    """Return what `select` found."""
    name, version, at_ms, session_id, customer, body = columns
    return Row(
        table=table,
        id=name,
        version=version,
        at_ms=at_ms,
        session_id=session_id,
        customer=customer,
        body=body.encode(),
    )


def delete(table: Table, condition: str) -> str:
    """Return the statement that deletes the rows of a table that meet a condition."""
    key = SHAPES[table].key
    return f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} r WHERE {condition})"


_SHIPPED = {
    table: f"NOT EXISTS (SELECT 1 FROM outbox o WHERE o.kind = '{table}' AND o.id = {shape.id})"
    for table, shape in SHAPES.items()
}

COUNT: Mapping[Table, str] = {
    table: f"SELECT count(*) FROM {table} r WHERE {shape.going or shape.old} AND {_SHIPPED[table]}"
    for table, shape in SHAPES.items()
}
"""Query for how many rows will be deleted when all tables are purged; ?1 is the time before which they are."""

PURGE: Mapping[Table, str] = {
    table: delete(table, f"{shape.old} AND {_SHIPPED[table]} LIMIT ?2") for table, shape in SHAPES.items()
}
"""Statement that deletes some of those that may be deleted now; ?2 says how many at most."""
