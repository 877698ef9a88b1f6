"""Owns a provider that says what it was sent, keeps every body of it, and has a bill of its own.

What it says follows from the newest message: a tool call where a refund is asked for, the same few words for whoever
writes `plain`, else the message itself. The id of a reply (`echo-N`) tells what it cost: `cost_nanousd`.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import msgspec

INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
"""Prices per token: 1 and 2 USD per million."""
PLAIN = "It is on its way to you, and will be there tomorrow."
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "refund", "arguments": '{"amount": 1, "order": "A-1"}'},
}
PIECE = 7
"""Characters of a text in one event of a stream."""
PLACEHOLDER = re.compile(rb"\[EMAIL_[0-9A-F]{8}\]")


def tokens(serial: int) -> tuple[int, int]:
    """Return what the reply of this number is charged for."""
    return serial * 7 % 50 + 1, serial * 13 % 100 + 1


def cost_nanousd(reply_id: str) -> int:
    """Return what a reply cost; nothing if it is none of this provider's."""
    name, _, serial = reply_id.partition("-")
    into, out = tokens(int(serial)) if name == "echo" else (0, 0)
    return into * INPUT_NANOUSD + out * OUTPUT_NANOUSD


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    """As many as may connect at once: beyond that some would wait for seconds."""


class Echo:
    """Listens on loopback; `with` starts it and ends it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """The bodies of all requests."""
        numbers = itertools.count(1)
        echo = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one connection."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                """Keep the body, and answer it."""
                body = self.rfile.read(int(self.headers["content-length"]))
                echo.sent.append(body)
                asked, serial = msgspec.json.decode(body), next(numbers)
                kind = "text/event-stream" if asked.get("stream") else "application/json"
                data = b"".join(streamed(asked, serial)) if asked.get("stream") else whole(asked, serial)
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server has
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Echo:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def said(asked: Any) -> dict[str, Any]:
    """Return the message of the assistant."""
    newest = asked["messages"][-1]
    text = newest["content"] if newest["role"] == "user" else "plain"
    if "refund please" in text:
        return {"role": "assistant", "content": None, "tool_calls": [CALL]}
    return {"role": "assistant", "content": PLAIN if "plain" in text else f"Heard: {text}"}


def _usage(serial: int) -> dict[str, int]:
    into, out = tokens(serial)
    return {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}


def whole(asked: Any, serial: int) -> bytes:
    """Return the body of a reply that is not streamed."""
    message = said(asked)
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
    head = {"id": f"echo-{serial}", "object": "chat.completion", "model": "m", "created": 1}
    return msgspec.json.encode({**head, "choices": [choice], "usage": _usage(serial)})


def streamed(asked: Any, serial: int) -> Iterator[bytes]:
    """Yield the events of a reply, its text in small pieces."""
    message, head = said(asked), {"id": f"echo-{serial}", "object": "chat.completion.chunk", "model": "m", "created": 1}
    calls = [{"index": 0, **call} for call in message.get("tool_calls", ())]
    text = message["content"] or ""
    pieces = [{"content": text[at : at + PIECE]} for at in range(0, len(text), PIECE)]
    for delta in [{"role": "assistant"}, *pieces, *([{"tool_calls": calls}] if calls else [])]:
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
    yield _event({**head, "choices": [end]})
    yield _event({**head, "choices": [], "usage": _usage(serial)})
    yield b"data: [DONE]\n\n"


def _event(tree: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(tree)
