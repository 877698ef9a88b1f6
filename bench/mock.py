"""Owns the bench's provider: a raw protocol that answers canned chat completions and is never the bottleneck.

`python bench/mock.py PORT` serves on loopback until it is killed. A body with `"stream":true` gets 54 events, each its
own write; with `"gap_ms":N` in its `user` field they are N ms apart.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

import uvloop

CHUNKS = 50
TEXT = "You can return any item within 30 days of delivery, unused and in its original packaging. "
USAGE = {"prompt_tokens": 212, "completion_tokens": 64, "total_tokens": 276}
_GAP = re.compile(rb'"gap_ms=(\d+)"')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def _document() -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": TEXT * 4, "refusal": None, "annotations": []}
    body = json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion",
            "created": 1767225600,
            "model": "gpt-5-mini-2025-08-07",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_0123456789",
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    tree = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": "gpt-5-mini-2025-08-07",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        **more,
    }
    data = b"data: " + json.dumps(tree, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def _delta(delta: dict[str, object], finish: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], usage=None)


DOCUMENT = _document()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [
    _delta({"role": "assistant", "content": "", "refusal": None}),
    *(_delta({"content": TEXT[i % 60 : i % 60 + 12]}) for i in range(CHUNKS)),
    _delta({}, "stop"),
    _event([], usage=USAGE),
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
]


class Provider(asyncio.Protocol):
    """One connection: a request in, a canned reply out."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]  # a TCP transport writes

    def data_received(self, data: bytes) -> None:
        """Answer once a request is whole; the bench never pipelines."""
        self._buffer += data
        head, gap, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not gap or (length and len(body) < int(length[1])):
            return
        self._buffer = b""
        if b'"stream":true' not in body:
            self._transport.write(DOCUMENT)
            return
        spaced = _GAP.search(body)
        self._transport.write(STREAM_HEAD)
        self._next(0, int(spaced[1]) / 1000 if spaced else 0.0)

    def _next(self, number: int, gap_s: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(EVENTS[number])
        if number + 1 < len(EVENTS):
            asyncio.get_running_loop().call_later(gap_s, self._next, number + 1, gap_s)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
