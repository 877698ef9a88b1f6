"""Owns the proof of proxy/stores/postgres/shelf.py beyond its contract: columns, views, and what errors say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from proxy.errors import Overloaded
from proxy.ports import Shelf
from proxy.stores import postgres
from proxy.terms import Row, Secret, State, Table
from tests.contracts.tiers import warm
from tests.ports import free_ports
from tests.postgres_servers import PASSWORD, shared_server
from tests.stores.samples import AT_MS, attempt, exchange


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    """Give the tables of a real server, empty."""
    async with warm(tmp_path) as opened:
        yield opened


async def asked(query: str) -> list[tuple[object, ...]]:
    """Ask as an analyst does."""
    server = await asyncio.to_thread(shared_server)
    return [tuple(row) for row in await server.run(query)]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"R" + (4).to_bytes(4, "big"), id="cut short"),
        pytest.param(b"R" + b"\xff" * 4, id="a length that is none"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
    ],
)
async def test_whatever_answers_in_its_place_is_a_tier_that_is_away(said: bytes) -> None:
    """A pooler that is about to end, or quite another program: what the client makes of it ends no shipping."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(said)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"postgresql://u@127.0.0.1:{server.sockets[0].getsockname()[1]}/d"
        async with postgres.open(postgres.Settings(url=url)) as shelf:
            with pytest.raises(Overloaded, match="The warm tier cannot be used"):
                await shelf.write([a_record()])


def a_record() -> Row:
    record = exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45), session="s_1")
    record = msgspec.structs.replace(record, status=200, model_served="m-2", tool_calls=("refund", "lookup"))
    return Row(
        table=Table.EXCHANGES, id="ex_1", version=1, at_ms=AT_MS, session_id="s_1", body=msgspec.json.encode(record)
    )


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        pytest.param(
            "SELECT agent, state, status, model, cost_nanousd, extract(epoch FROM at)::bigint FROM handrail.exchanges",
            ("a", "complete", 200, "m-2", 45, AT_MS // 1000),
            id="columns",
        ),
        pytest.param(
            "SELECT exchange_id, session_id, agent, place, id, phase, verdict FROM handrail.decisions",
            ("ex_1", "s_1", "a", 1, "ex_1-request", "request", "allow"),
            id="decisions",
        ),
        pytest.param(
            "SELECT exchange_id, number, provider, input_tokens, output_tokens, cost_nanousd FROM handrail.attempts",
            ("ex_1", 1, "p", 3, 4, 45),
            id="attempts",
        ),
        pytest.param(
            "SELECT string_agg(tool, ',' ORDER BY place) FROM handrail.tool_calls", ("refund,lookup",), id="tool calls"
        ),
    ],
)
async def test_people_can_ask_for_it(shelf: Shelf, query: str, answer: tuple[object, ...]) -> None:
    """What is inside records are columns and related tables."""
    await shelf.write([a_record()])

    assert [answer] == await asked(query)


def wrong_password(url: str) -> postgres.Settings:
    return postgres.Settings(url=url, password=Secret("not-the-password-canary"))


def wrong_port(url: str) -> postgres.Settings:
    (port,) = free_ports(1)
    return postgres.Settings(url=f"postgresql://127.0.0.1:{port}", password=Secret("canary"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param(wrong_password, "InvalidPasswordError 28P01", id="password"),
        pytest.param(wrong_port, "Connection refused", id="nobody there"),
    ],
)
async def test_an_error_says_what_is_wrong_and_no_secret(
    settings: Callable[[str], postgres.Settings], says: str
) -> None:
    """A tier that cannot be reached is told by its kind of error, never in words that could hold a password."""
    server = await asyncio.to_thread(shared_server)
    async with postgres.open(settings(server.url)) as shelf:
        with pytest.raises(Overloaded) as refused:
            await shelf.write([])

    assert ("tier_unavailable", f"The warm tier cannot be used: {says}.") == (refused.value.code, str(refused.value))


async def test_a_server_that_answers_nothing_is_given_up(shelf: Shelf) -> None:
    """A statement that takes too long fails, and the next one is served as before."""
    server = await asyncio.to_thread(shared_server)
    settings = postgres.Settings(url=server.url, password=Secret(PASSWORD), statement_s=0.2)
    async with postgres.open(settings) as hasty:
        await hasty.write([])
        server.freeze()
        try:
            with pytest.raises(Overloaded, match="no reply in time"):
                await hasty.write([a_record()])
        finally:
            server.thaw()

        await hasty.write([a_record()])

    assert [("ex_1",)] == await asked("SELECT id FROM handrail.exchanges")
