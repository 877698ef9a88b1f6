"""Owns the price of a call through the upstream door, beside aiohttp's own client, in CPU time of this process alone.

Run: python bench/upstream_cost.py [calls] [concurrency]
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

import aiohttp

from proxy.terms import Secret, UpstreamCall
from proxy.upstream import UpstreamSettings, open_upstream

CONTENT = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"message":{"content":"' + b"x" * 800 + b'"}}]}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT)
EVENT = b"data: " + CONTENT[:280] + b"\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = HEAD + b"%x\r\n%b\r\n" % (len(EVENT), EVENT) * 50 + b"0\r\n\r\n"
BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"y" * 950 + b'"}]}'
HEADERS = {"content-type": "application/json", "accept": "application/json", "user-agent": "handrail"}
KEY = "Bearer sk-bench"


class Provider(asyncio.Protocol):
    """Answers every request at once: `/stream` with fifty events, anything else with one body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        """Answer when a request has arrived whole."""
        self.seen += data
        if self.seen.endswith(BODY[-8:]):
            reply = STREAM if b" /stream " in self.seen[:40] else WHOLE
            self.seen = b""
            self.transport.write(reply)


def provide(pipe: Connection) -> None:
    """Serve until killed; tell the port."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def provider() -> Iterator[str]:
    """Give the address of a provider in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=provide, args=(theirs,), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{ours.recv()}"
    process.terminate()


async def measure(one: Callable[[], Awaitable[None]], calls: int, concurrency: int) -> float:
    """Return the CPU microseconds of one call, after a warm-up."""

    async def lane(count: int) -> None:
        for _ in range(count):
            await one()

    async def all_lanes(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(lane(count // concurrency))

    await all_lanes(calls // 5)
    began = time.process_time()
    await all_lanes(calls)
    return (time.process_time() - began) / calls * 1e6


async def main(calls: int, concurrency: int) -> None:
    """Measure both clients, in turns, three times each."""
    with provider() as url:
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=60)
        connector = aiohttp.TCPConnector(limit=0)
        jar = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as session,
            open_upstream(UpstreamSettings()) as upstream,
        ):
            for path in ("/whole", "/stream"):
                call = UpstreamCall(method="POST", url=url + path, headers=HEADERS, body=BODY, auth=Secret(KEY))

                async def door(call: UpstreamCall = call) -> None:
                    async with upstream.send(call) as reply:
                        async for _ in reply.chunks():
                            pass

                async def bare(address: str = url + path) -> None:
                    headers = {**HEADERS, "authorization": KEY}
                    async with session.post(address, data=BODY, headers=headers, allow_redirects=False) as reply:
                        async for _ in reply.content.iter_any():
                            pass

                for _ in range(3):
                    ours, theirs = await measure(door, calls, concurrency), await measure(bare, calls, concurrency)
                    print(f"{path}: door {ours:.1f} us, aiohttp session.post {theirs:.1f} us, {theirs / ours:.2f} x")


if __name__ == "__main__":
    count, lanes = (int(value) for value in (*sys.argv[1:], *("20000", "64")[len(sys.argv) - 1 :]))
    asyncio.run(main(count, lanes))
