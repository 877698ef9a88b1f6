"""Owns the proof of proxy/stores/postgres/schema.py: how a database comes to what this version needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from proxy.errors import Overloaded
from proxy.stores import postgres
from proxy.stores.postgres import schema
from proxy.terms import Secret
from tests.postgres_servers import PASSWORD, PostgresServer, shared_server


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    """Give a server without our schema."""
    running = await asyncio.to_thread(shared_server)
    await running.run("DROP SCHEMA IF EXISTS handrail CASCADE")
    yield running
    await running.run("DROP SCHEMA IF EXISTS handrail CASCADE")


async def connect(server: PostgresServer) -> asyncpg.Connection:
    return await asyncpg.connect(server.url, password=PASSWORD, ssl=False)


FIRST, SECOND = ("CREATE TABLE handrail.t (a integer)",), ("ALTER TABLE handrail.t ADD b integer DEFAULT 2",)


async def test_migrations_run_forward_and_keep_the_rows(server: PostgresServer) -> None:
    """A database of an older version gets exactly the steps it lacks, once."""
    connection = await connect(server)
    await schema.migrate(connection, [FIRST])
    await connection.execute("INSERT INTO handrail.t VALUES (1)")
    for _ in range(2):
        await schema.migrate(connection, [FIRST, SECOND])

    assert [(1, 2)] == [tuple(row) for row in await connection.fetch("SELECT * FROM handrail.t")]
    await connection.close()


async def test_a_step_that_fails_leaves_nothing(server: PostgresServer) -> None:
    """The schema is as it was before, whatever was done of the step."""
    connection = await connect(server)
    with pytest.raises(asyncpg.PostgresError):
        await schema.migrate(connection, [(*FIRST, "SELECT nonsense")])

    assert await connection.fetchval("SELECT to_regnamespace('handrail') IS NULL")
    await connection.close()


async def test_replicas_that_start_together_share_one_schema(server: PostgresServer) -> None:
    """Of several at once one makes the schema, and all of them find it."""
    connections = [await connect(server) for _ in range(4)]
    await asyncio.gather(*map(schema.migrate, connections))

    assert len(schema.MIGRATIONS) == await connections[0].fetchval("SELECT version FROM handrail.schema_version")
    for connection in connections:
        await connection.close()


async def test_a_newer_schema_is_refused(server: PostgresServer) -> None:
    """What a newer Handrail made is not written to: the records wait, and the reason says so."""
    connection = await connect(server)
    await schema.migrate(connection)
    await connection.execute("UPDATE handrail.schema_version SET version = 99")
    await connection.close()

    async with postgres.open(postgres.Settings(url=server.url, password=Secret(PASSWORD))) as shelf:
        with pytest.raises(Overloaded, match="newer Handrail") as refused:
            await shelf.write([])

    assert "tier_newer" == refused.value.code
