"""Owns the proof that no connection waits for ever, takes a place it may not have, or logs what was sent on it."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress

import pytest

from tests.server.rig import (
    DONE,
    STREAM,
    WAIT_S,
    Hall,
    chat,
    code_of,
    connect,
    event,
    exchange,
    serving,
    status_of,
    until,
)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param((b"",), id="nothing"),
        pytest.param((b"POST /v1/chat/comp",), id="half a line"),
        pytest.param((b"POST /v1/models HTTP/1.1\r\nHost: h\r\n",), id="half a head"),
    ],
)
async def test_a_head_that_does_not_end_is_given_up(before: tuple[bytes, ...]) -> None:
    """A connection on which no whole request head comes is closed, however busy it looks meanwhile."""
    async with serving(Hall(), header_s=0.1) as rig:
        reply = await exchange(rig.address, *before, gap_s=0.005)

    assert b"" == reply


async def test_a_head_that_drips_is_given_up() -> None:
    """However many bytes come, the head has one deadline: who sends one byte after another is closed as well."""
    async with serving(Hall(), header_s=0.1) as rig:
        reader, writer = await connect(rig.address)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nX-A: ")
        await until(lambda: rig.plane.clients)
        with suppress(ConnectionError):
            async with asyncio.timeout(WAIT_S):
                while not reader.at_eof():
                    writer.write(b"a")
                    await writer.drain()
                    await asyncio.sleep(0.005)
        writer.close()
        still_open = len(rig.plane.clients)

    assert 0 == still_open


async def test_a_second_head_that_does_not_end_is_given_up() -> None:
    """The deadline holds for every request of a connection, not only for the first."""
    async with serving(Hall(STREAM, DONE), header_s=0.4) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat())
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"POST /v1/chat")
        rest = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()

    assert b"" == rest


async def test_a_connection_between_calls_may_wait_longer() -> None:
    """Between calls the deadline for heads does not run, so that clients with pools close first."""
    async with serving(Hall(STREAM, event("a"), DONE), header_s=0.4) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat())
        await reader.readuntil(b"0\r\n\r\n")
        await asyncio.sleep(0.5)
        writer.write(chat())
        reply = await reader.readuntil(b"0\r\n\r\n")
        writer.close()

    assert 200 == status_of(reply)


async def test_a_head_in_pieces_is_read() -> None:
    """A request that comes drop by drop, but in time, is answered like any other."""
    hall = Hall(STREAM, DONE)
    pieces = [bytes([byte]) for byte in chat(b"{}", b"Connection: close")]

    async with serving(hall) as rig:
        reply = await exchange(rig.address, *pieces, gap_s=0)

    assert (200, [b"{}"]) == (status_of(reply), [seen.body for seen in hall.seen])


async def test_there_are_only_so_many_connections() -> None:
    """Who comes when the room is full is told so and when to come back; a place that becomes free can be taken."""
    async with serving(Hall(STREAM, DONE), max_connections=2) as rig:
        _, first = await connect(rig.address)
        _, second = await connect(rig.address)
        await until(lambda: len(rig.plane.clients) == 2)
        refused = await exchange(rig.address, b"")
        first.close()
        await until(lambda: len(rig.plane.clients) == 1)
        taken = await exchange(rig.address, chat(b"{}", b"Connection: close"))
        second.close()

    assert (503, "overloaded", 200) == (status_of(refused), code_of(refused), status_of(taken))
    assert b"\r\nretry-after: 1\r\n" in refused


async def test_events_are_not_held_back_by_the_kernel() -> None:
    """Every accepted connection has TCP_NODELAY."""
    async with serving(Hall()) as rig:
        _, writer = await connect(rig.address)
        await until(lambda: rig.plane.clients)
        [client] = rig.plane.clients
        assert client.transport
        accepted = client.transport.get_extra_info("socket")
        nodelay = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()

    assert 1 == nodelay


async def test_what_was_sent_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """aiohttp's own logger would quote the line at fault, which may hold a credential: nothing is logged."""
    async with serving(Hall()) as rig:
        await exchange(rig.address, b"GET /v1/models HTTP/1.1\r\nAuthorization : Bearer hr_secret\r\n\r\n")

    assert "" == caplog.text


async def test_running_out_of_files_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    """When the process has no file descriptor left, new connections wait, and the log does not flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async with serving(Hall(STREAM, DONE)) as rig:
        with socket.socket() as client:
            client.setblocking(False)
            # The client's own descriptor is the last that may be had: accepting would need one more.
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            try:
                host, _, port = rig.address.rpartition(":")
                await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
                await until(lambda: caplog.records)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until(lambda: rig.plane.clients)

    assert ["socket.accept() out of system resource"] == [
        record.message.partition("\n")[0] for record in caplog.records
    ]
