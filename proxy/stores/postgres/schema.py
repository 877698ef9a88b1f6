"""Owns what stands in the database: tables that are alike in every tier, what people ask for as columns, and views of
what is inside records.

A body is `body` where it is JSON that PostgreSQL can hold, else `raw`: sealed, or with a NUL in some text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from proxy.errors import Overloaded
from proxy.terms import Table

_COLUMNS: Mapping[Table, Mapping[str, tuple[str, str]]] = {
    Table.EXCHANGES: {
        "agent": ("text", "body->'caller'->>'agent'"),
        "tenant": ("text", "body->'caller'->>'tenant'"),
        "endpoint": ("text", "body->>'endpoint'"),
        "state": ("text", "body->>'state'"),
        "status": ("integer", "(body->>'status')::integer"),
        "model": ("text", "coalesce(nullif(body->>'model_served', ''), body->>'model_asked')"),
        "cost_nanousd": ("bigint", "(body->'cost'->>'nanousd')::bigint"),
        "total_ms": ("double precision", "(body->>'total_ms')::double precision"),
    },
    Table.FACTS: {"policy_digest": ("text", "body->'kept'->>'policy_digest'")},
    Table.SESSIONS: {"level": ("text", "body->>'level'"), "labels": ("jsonb", "body->'labels'")},
    Table.HELD: {
        "agent": ("text", "body->>'agent'"),
        "tool": ("text", "body->>'tool'"),
        "rule": ("text", "body->>'rule'"),
        "state": ("text", "body->>'state'"),
        "decided_by": ("text", "body->>'decided_by'"),
    },
    Table.HANDOFFS: {
        "agent": ("text", "body->>'agent'"),
        "queue": ("text", "body->>'queue'"),
        "rule": ("text", "body->>'rule'"),
        "closed_ms": ("bigint", "(body->>'closed_ms')::bigint"),
    },
    Table.LINKS: {"channel": ("text", "body->>'channel'")},
}
"""Columns that PostgreSQL itself takes out of a body."""


def _table(table: Table) -> tuple[str, ...]:
    own = "".join(
        f",\n    {name} {kind} GENERATED ALWAYS AS ({what}) STORED" for name, (kind, what) in _COLUMNS[table].items()
    )
    return (
        f"""CREATE TABLE handrail.{table} (
    id text PRIMARY KEY, version bigint NOT NULL, at_ms bigint NOT NULL,
    at timestamptz GENERATED ALWAYS AS (to_timestamp(at_ms / 1000.0)) STORED,
    session_id text NOT NULL, customer text NOT NULL, body jsonb, raw bytea{own},
    CHECK (num_nonnulls(body, raw) = 1))""",
        f"CREATE INDEX {table}_by_time ON handrail.{table} (at_ms, id)",
        f"CREATE INDEX {table}_by_session ON handrail.{table} (session_id)",
        f"CREATE INDEX {table}_by_customer ON handrail.{table} (customer) WHERE customer <> ''",
    )


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        *(statement for table in Table for statement in _table(table)),
        """CREATE VIEW handrail.decisions AS SELECT e.id AS exchange_id, e.session_id, e.at, e.agent, d.place,
            d.one->>'id' AS id, d.one->>'phase' AS phase, d.one->>'verdict' AS verdict, d.one->>'rule' AS rule,
            d.one->>'reason' AS reason, d.one->>'shadow_verdict' AS shadow_verdict, d.one->>'subject' AS subject,
            d.one AS body
        FROM handrail.exchanges e, jsonb_array_elements(e.body->'decisions') WITH ORDINALITY AS d (one, place)""",
        """CREATE VIEW handrail.attempts AS SELECT e.id AS exchange_id, e.session_id, e.at, e.agent,
            (a.one->>'number')::integer AS number, a.one->>'reservation_id' AS reservation_id,
            a.one->'target'->>'provider' AS provider, a.one->'target'->>'model' AS model, a.one->>'state' AS state,
            (a.one->>'status')::integer AS status, (a.one->'usage'->>'input_tokens')::bigint AS input_tokens,
            (a.one->'usage'->>'output_tokens')::bigint AS output_tokens, a.one->'usage'->>'source' AS usage_source,
            (a.one->'cost'->>'nanousd')::bigint AS cost_nanousd, (a.one->'cost'->>'estimated')::boolean AS estimated,
            (a.one->>'ttft_ms')::double precision AS ttft_ms, (a.one->>'total_ms')::double precision AS total_ms,
            a.one->>'error' AS error, a.one AS body
        FROM handrail.exchanges e, jsonb_array_elements(e.body->'attempts') AS a (one)""",
        """CREATE VIEW handrail.tool_calls AS SELECT e.id AS exchange_id, e.session_id, e.at, e.agent, t.place, t.tool
        FROM handrail.exchanges e, jsonb_array_elements_text(e.body->'tool_calls') WITH ORDINALITY t (tool, place)""",
    ),
)
"""Statements that bring a database from version `i` to `i + 1`; append only, since databases of every version exist."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('handrail schema', 0))"
_VERSION = "CREATE TABLE handrail.schema_version (version integer NOT NULL)"


async def migrate(connection: asyncpg.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the database to the newest schema in one transaction, one process at a time; raise Overloaded when a newer
    Handrail made it."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        version = await _version(connection)
        if version > len(migrations):
            raise Overloaded(
                f"The warm tier was made by a newer Handrail (schema {version}, this one knows {len(migrations)}).",
                code="tier_newer",
            )
        for statements in migrations[version:]:
            for statement in statements:
                await connection.execute(statement)
        if version < len(migrations):
            await connection.execute("UPDATE handrail.schema_version SET version = $1", len(migrations))


async def _version(connection: asyncpg.Connection) -> int:
    # Asked first: who may not make a schema can be given one.
    if await connection.fetchval("SELECT to_regnamespace('handrail') IS NULL"):
        await connection.execute("CREATE SCHEMA handrail")
    if await connection.fetchval("SELECT to_regclass('handrail.schema_version') IS NULL"):
        await connection.execute(_VERSION)
        await connection.execute("INSERT INTO handrail.schema_version VALUES (0)")
    version: int = await connection.fetchval("SELECT version FROM handrail.schema_version")
    return version
