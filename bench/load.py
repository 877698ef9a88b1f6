"""Owns the bench's clients: a closed loop of connections that send one canned request after another.

`python bench/load.py PORT CONNECTIONS SECONDS KIND` prints one JSON line; KIND is `whole`, or `stream:GAP_MS`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

import uvloop

SYSTEM = (
    "You are the support agent of a small online shop. Be brief and friendly. Use the tools; never invent anything. "
)
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def request(kind: str) -> bytes:
    """Make a request of about 1 KB: four messages of a support conversation."""
    stream, _, gap = kind.partition(":")
    body: dict[str, object] = {
        "model": "gpt-5-mini",
        "messages": [
            {"role": "system", "content": SYSTEM * 3},
            {"role": "user", "content": "Hi, I bought a jacket two weeks ago and it does not fit, what can I do?"},
            {
                "role": "assistant",
                "content": "I am sorry to hear that. You can return it within 30 days — shall I explain how?",
            },
            {"role": "user", "content": "Yes please, how do I return it, and who pays for the shipping back to you?"},
        ],
        "temperature": 0.2,
        "max_completion_tokens": 256,
    }
    if stream == "stream":
        body |= {"stream": True, "user": f"gap_ms={gap or 0}"}
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n"
        "content-type: application/json\r\nauthorization: Bearer sk-placeholder\r\nuser-agent: bench\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Results:
    """What all connections measured."""

    def __init__(self) -> None:
        self.ms: list[float] = []
        self.first_ms: list[float] = []
        self.failed = 0
        self.bytes = 0


class Client(asyncio.Protocol):
    """One connection that keeps one request in flight."""

    def __init__(self, data: bytes, until: float, results: Results, done: asyncio.Future[None]) -> None:
        self._data = data
        self._until = until
        self._results = results
        self._done = done
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]  # a TCP transport writes
        self._send()

    def _send(self) -> None:
        self._seen, self._need, self._first = b"", -1, 0.0
        self._began = time.perf_counter()
        self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        """Note the times; send again when the reply is whole."""
        now = time.perf_counter()
        self._results.bytes += len(data)
        self._first = self._first or now
        self._seen = self._seen + data if self._need < 0 else data[-16:]
        if self._need < 0:
            head, gap, body = self._seen.partition(b"\r\n\r\n")
            if not gap:
                return
            length = _LENGTH.search(head)
            self._ok = head.startswith(b"HTTP/1.1 200")
            self._need = int(length[1]) if length else 0
            self._got = len(body)
        else:
            self._got += len(data)
        if self._got >= self._need if self._need else self._seen.endswith(b"0\r\n\r\n"):
            self._whole(now)

    def _whole(self, now: float) -> None:
        results = self._results
        results.failed += not self._ok
        results.ms.append((now - self._began) * 1000)
        results.first_ms.append((self._first - self._began) * 1000)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that was closed on us."""
        if time.perf_counter() < self._until:
            self._results.failed += 1
        if not self._done.done():
            self._done.set_result(None)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


async def run(port: int, connections: int, seconds: float, kind: str) -> dict[str, float]:
    """Keep `connections` requests in flight for a while; return what was measured."""
    loop, results, data = asyncio.get_running_loop(), Results(), request(kind)
    began = time.perf_counter()
    done = [loop.create_future() for _ in range(connections)]
    for one in done:
        await loop.create_connection(lambda one=one: Client(data, began + seconds, results, one), "127.0.0.1", port)  # type: ignore[misc]  # bound early
    await asyncio.gather(*done)
    took = time.perf_counter() - began
    return {
        "requests": len(results.ms),
        "failed": results.failed,
        "rps": len(results.ms) / took,
        "p50_ms": percentile(results.ms, 0.5),
        "p99_ms": percentile(results.ms, 0.99),
        "first_p50_ms": percentile(results.first_ms, 0.5),
        "first_p99_ms": percentile(results.first_ms, 0.99),
    }


if __name__ == "__main__":
    port, connections, seconds, kind = sys.argv[1:5]
    print(json.dumps(uvloop.run(run(int(port), int(connections), float(seconds), kind))))
