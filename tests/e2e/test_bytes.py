"""Owns the proof that without a policy Handrail changes no byte: not of the request, not of the reply."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.e2e.rig import LISTENERS, WAIT_S, Served, handrail

CONFIG = """\
providers: {raw: {dialect: openai, base_url: "PROVIDER/v1"}}
models: {other-name: {provider: raw, model: m}}
unknown_price: mark
"""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider sends, byte by byte."""

    head: bytes
    body: bytes
    piece: int = 1 << 20
    """Bytes in one write."""


class RawProvider:
    """A provider made of a bare socket: it sends what it is told, and remembers the request."""

    def __init__(self) -> None:
        self.script = Script(head=b"", body=b"")
        self.head = b""
        self.received = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        with peer.makefile("rb") as lines:
            self.head = b"".join(iter(lines.readline, b"\r\n"))
            length = re.search(rb"(?i)content-length: *(\d+)", self.head)
            self.received = lines.read(int(length[1]) if length else 0)
        script = self.script
        peer.sendall(script.head)
        for at in range(0, len(script.body), script.piece):
            peer.sendall(script.body[at : at + script.piece])

    def close(self) -> None:
        """Take no more connections."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Wire(NamedTuple):
    """The two ends: the provider, and a Handrail without any policy in front of it."""

    provider: RawProvider
    handrail: Served

    def ask(self, body: bytes, **headers: str) -> Reply:
        """Send a body as it is; return what came back."""
        url = urlsplit(self.handrail.base_url)
        with closing(HTTPConnection(str(url.hostname), url.port, timeout=WAIT_S)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("POST", f"{url.path}/chat/completions", body, {"content-type": JSON, **named})
            reply = connection.getresponse()
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())


class Reply(NamedTuple):
    """What a client sees of a reply."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """Start both ends."""
    folder: Path = tmp_path_factory.mktemp("bytes")
    with closing(RawProvider()) as provider:
        (folder / "handrail.yaml").write_text(LISTENERS + CONFIG.replace("PROVIDER", provider.url))
        with handrail(folder / "handrail.yaml") as served:
            yield Wire(provider, served)


JSON = "application/json"
REQUEST = b"""{ "model" : "m",
  "messages":[{"role":"user","content":"h\\u00e9llo \xf0\x9f\x91\x8b \\/ \\ud83d\\ude00","cache_control":{"type":"x"}}],
\t"temperature": 1.0, "top_p":1E0, "logit_bias":{"50256":-100},"new": [1.50, -0, {"deep":{"er":null}}]  }\r\n"""
STREAMED = REQUEST.replace(b'"temperature"', b'"stream" :true ,"stream_options":{ "include_usage": true},"temperature"')
UNASKED = REQUEST.replace(b'"temperature"', b'"stream" :true ,"temperature"')

DOCUMENT = b"""{"id":"c-1", "choices" :[{"message":{"content":"h\\u00e9llo \xf0\x9f\x91\x8b \\/ \\ud83d\\ude00","role":
 "assistant","annotations":[],"x_vendor":{"k":1.50}},"index":0,"finish_reason":"stop"}],"model":"m-2026",
 "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"x_cost":0.10},"x_new":-0 }\r\n"""

EVENTS = (
    b": connected\r\n\r\n",
    b'data:{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"x_new":1.50}\r\n\r\n',
    b'event: message\nid: 7\nretry:10\ndata:   {"choices":[{"index":0,"delta":{"content":"h\\u00e9llo "}}]}\n\n',
    b": keep-alive\n\n",
    b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"\xf0\x9f\x91\x8b"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}], "model":"m-2026"}\r\r',
)
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"x_cost":0.10}}\n\n'
DONE = b"data: [DONE]\n\n"


def document(framing: str, piece: int = 1 << 20) -> Script:
    """Return the whole reply, framed in one of HTTP's three ways."""
    if framing == "chunked":
        body = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in DOCUMENT) + b"0\r\n\r\n"
        return Script(head=head(JSON, b"transfer-encoding: chunked"), body=body, piece=piece)
    length = b"content-length: %d" % len(DOCUMENT) if framing == "length" else b"x-length: unsaid"
    return Script(head=head(JSON, length), body=DOCUMENT, piece=piece)


def stream(piece: int = 1 << 20) -> Script:
    """Return the streamed reply, ended by the end of the connection."""
    return Script(head=head("text/event-stream"), body=b"".join((*EVENTS, USAGE, DONE)), piece=piece)


def head(kind: str, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """Return the head of a reply after which the provider closes."""
    return b"\r\n".join(
        (b"HTTP/1.1 " + status, b"content-type: " + kind.encode(), b"connection: close", *lines, b"", b"")
    )


# --- replies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("piece", [1, 7, 1 << 20], ids=["bytes", "sevens", "at once"])
def test_a_reply_keeps_its_bytes(framing: str, piece: int, wire: Wire) -> None:
    """A whole reply arrives as it was sent: spacing, escapes, numbers, unknown fields, however it was cut."""
    wire.provider.script = document(framing, piece)

    reply = wire.ask(REQUEST)

    assert (200, str(len(DOCUMENT)), DOCUMENT) == (reply.status, reply.headers["content-length"], reply.body)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20], ids=["bytes", "sevens", "at once"])
def test_a_stream_keeps_its_bytes(piece: int, wire: Wire) -> None:
    """A stream arrives as it was sent: comments, line ends, fields, data of several lines, however it was cut."""
    wire.provider.script = stream(piece)

    assert b"".join((*EVENTS, USAGE, DONE)) == wire.ask(STREAMED).body


def test_only_usage_that_nobody_asked_for_is_left_out(wire: Wire) -> None:
    """A stream whose client did not ask for usage lacks that one event and no other byte."""
    wire.provider.script = stream()

    assert b"".join((*EVENTS, DONE)) == wire.ask(UNASKED).body


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "stream"])
def test_a_refusal_keeps_its_bytes(request_: bytes, wire: Wire) -> None:
    """The provider's own error object arrives as it was sent, with its status."""
    body = b'{ "error":{"message":"no\\u0021","type":"invalid_request_error","param":"tools","code":null,"x":1.0}}\n'
    wire.provider.script = Script(head=head(JSON, status=b"422 Unprocessable Entity"), body=body)

    reply = wire.ask(request_)

    assert (422, body) == (reply.status, reply.body)


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "stream"])
def test_a_request_keeps_its_bytes(request_: bytes, wire: Wire) -> None:
    """The provider gets the client's own bytes where nothing has to change."""
    wire.provider.script = stream() if request_ is STREAMED else document("length")

    wire.ask(request_)

    assert request_ == wire.provider.received


@pytest.mark.parametrize(
    ("request_", "change"),
    [
        pytest.param(UNASKED, {"stream_options": {"include_usage": True}}, id="usage"),
        pytest.param(REQUEST.replace(b'"m"', b'"other-name"'), {"model": "m"}, id="alias"),
    ],
)
def test_a_changed_request_keeps_the_rest(request_: bytes, change: dict[str, Any], wire: Wire) -> None:
    """Where one field has to change, every other one reaches the provider with its value, known or not."""
    wire.provider.script = stream() if "stream_options" in change else document("length")

    wire.ask(request_)

    assert {**json.loads(request_), **change} == json.loads(wire.provider.received)


# --- headers --------------------------------------------------------------------------------------------------------


def test_the_client_gets_the_headers_that_are_documented(wire: Wire) -> None:
    """Of the provider's headers those about the call pass, and nothing of its infrastructure; Handrail adds three."""
    passed = {
        "openai-processing-ms": "12", "x-request-id": "r-1", "x-ratelimit-remaining-tokens": "7",
        "retry-after": "3", "retry-after-ms": "2500",
    }  # fmt: skip
    theirs = [f"{name}: {value}".encode() for name, value in passed.items()]
    wire.provider.script = Script(
        head=head(JSON, *theirs, b"set-cookie: a=b", b"x-powered-by: x", b"server: theirs"), body=DOCUMENT
    )

    headers = wire.ask(REQUEST).headers

    own = {"x-handrail-decision", "x-handrail-policy", "x-handrail-verdict"}
    assert {*passed, *own, "content-type", "content-length", "server", "date"} == set(headers)
    assert ("handrail", JSON, passed) == (
        headers["server"],
        headers["content-type"],
        {name: headers[name] for name in passed},
    )


def test_the_provider_gets_no_header_of_the_client(wire: Wire) -> None:
    """The client's key, cookies and tracing stay here; the provider sees what a call needs."""
    wire.provider.script = document("length")

    wire.ask(REQUEST, authorization="Bearer sk-client", cookie="a=b", x_stainless_os="Linux", traceparent="00-1-2-01")

    request_line, *lines = wire.provider.head.decode().splitlines()
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert "POST /v1/chat/completions HTTP/1.1" == request_line
    assert {"host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"} == set(headers)
    assert ("identity", JSON) == (headers["accept-encoding"], headers["accept"])
