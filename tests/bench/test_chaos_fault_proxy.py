"""Owns the proof of the network that rows break: each toxic does what its word says, to connections that are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.chaos.fault_proxy import (
    Bandwidth,
    FaultProxy,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

DATA = b"0123456789" * 10


@asynccontextmanager
async def behind(*toxics: Toxic) -> AsyncIterator[tuple[FaultProxy, list[int]]]:
    """Put a proxy before a server that sends back what it gets; yield it, and the sizes of what the server gets."""
    sizes: list[int] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                sizes.append(len(data))
                writer.write(data)
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1], *toxics) as proxy:
        yield proxy, sizes


async def exchange(proxy: FaultProxy, data: bytes = DATA) -> bytes:
    """Send data and the end; return all that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "toxics",
    [
        pytest.param([], id="none"),
        pytest.param([Latency(ms=20, jitter_ms=5), Slicer(size=7, variation=3, delay_us=10)], id="late and in pieces"),
        pytest.param([Bandwidth(bytes_per_s=10_000)], id="slow"),
        pytest.param([SlowClose(ms=10)], id="ends late"),
    ],
)
async def test_all_arrives(toxics: list[Toxic]) -> None:
    """What only takes time loses nothing."""
    async with behind(*toxics) as (proxy, _):
        assert DATA == await exchange(proxy)


@pytest.mark.parametrize(
    ("toxic", "at_least_s"),
    [
        pytest.param(Latency(ms=80), 0.08, id="latency"),
        pytest.param(Bandwidth(bytes_per_s=1000), 0.1, id="bandwidth"),
        pytest.param(SlowClose(ms=80), 0.08, id="slow close"),
        pytest.param(Slicer(size=20, delay_us=20_000), 0.08, id="slicer"),
    ],
)
async def test_time_passes(toxic: Toxic, at_least_s: float) -> None:
    """Each takes the time that it was given."""
    loop = asyncio.get_running_loop()
    async with behind(toxic) as (proxy, _):
        began_s = loop.time()
        await exchange(proxy)

        assert loop.time() - began_s >= at_least_s


async def test_latency_does_not_add_up() -> None:
    """What arrives together leaves together, however many pieces it has."""
    loop = asyncio.get_running_loop()
    async with behind(Latency(ms=200)) as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        began_s = loop.time()
        for _ in range(50):
            writer.write(b"x")
            await asyncio.sleep(0.005)
        await reader.readexactly(50)
        writer.close()

        assert loop.time() - began_s < 50 * 0.2


async def test_a_slicer_upstream_is_what_the_server_sees() -> None:
    """A direction of its own."""
    async with behind(Slicer(direction="upstream", size=10, delay_us=5_000)) as (proxy, sizes):
        await exchange(proxy)

        assert len(sizes) > 1


async def test_limited_data() -> None:
    """Exactly so many bytes arrive, then the connection ends."""
    async with behind(LimitData(bytes=33)) as (proxy, _):
        assert DATA[:33] == await exchange(proxy)


async def test_nothing_arrives_for_a_time() -> None:
    """Data get lost, and the connection is closed in the end; or never."""
    async with behind(Timeout(ms=10)) as (proxy, _):
        assert b"" == await exchange(proxy)
        proxy.toxics = [Timeout()]
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(DATA)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.05)
        writer.close()


async def test_a_reset() -> None:
    """The connection ends as after a crash."""
    async with behind(ResetPeer()) as (proxy, _):
        with pytest.raises(ConnectionResetError):
            await exchange(proxy)


async def test_down_and_up() -> None:
    """What is open ends, nothing new is taken; then the same port takes connections again."""
    async with behind() as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        await reader.readexactly(1)
        await proxy.down()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await exchange(proxy)
        await proxy.up()

        assert (DATA, 2) == (await exchange(proxy), proxy.connections)


async def test_toxics_of_an_open_connection_change() -> None:
    """What is asked for in the middle counts from there."""
    async with behind() as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"before")
        before = await reader.readexactly(6)
        proxy.toxics = [LimitData(bytes=8)]
        writer.write(b"after")

        assert b"beforeaf" == before + await reader.read()
        writer.close()
