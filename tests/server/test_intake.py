"""Owns the proof that the intake is strict: what two parsers could read in two ways is refused."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import HandrailError, TooLarge
from proxy.server import intake
from proxy.snapshot import Limits
from proxy.terms import End
from tests.server.rig import (
    CHAT,
    DONE,
    STREAM,
    WAIT_S,
    WHOLE,
    Hall,
    chat,
    code_of,
    connect,
    exchange,
    replies_in,
    serving,
    status_of,
    until,
)

CLOSE = b"Connection: close"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n"


def request(line: bytes, *headers: bytes, body: bytes = b"", host: bytes = b"Host: h") -> bytes:
    """Build a raw request; the caller says every header but Host and the length of a body."""
    length = [b"Content-Length: %d" % len(body)] if body else []
    fields = ([host] if host else []) + list(headers) + length
    return line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


POST = b"POST /v1/chat/completions HTTP/1.1"
TYPE = b"Content-Type: application/json"

ACCEPTED = [
    pytest.param(request(POST, TYPE, CLOSE, body=b"{}"), b"{}", id="a body with its length"),
    pytest.param(
        request(POST, TYPE, CLOSE, b"Transfer-Encoding: chunked") + b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
        b"{}",
        id="chunks",
    ),
    pytest.param(
        request(POST, TYPE, CLOSE, b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nX-T: 1\r\n\r\n",
        b"{}",
        id="trailer",
    ),
    pytest.param(request(POST.replace(b"1.1", b"1.0"), TYPE, body=b"{}"), b"{}", id="HTTP/1.0"),
    pytest.param(request(POST.replace(b"1.1", b"1.0"), TYPE, body=b"{}", host=b""), b"{}", id="HTTP/1.0 without host"),
    pytest.param(request(POST.replace(b" HTTP", b"?api-version=1 HTTP"), TYPE, CLOSE, body=b"{}"), b"{}", id="query"),
    pytest.param(
        request(POST, b"content-type: APPLICATION/JSON ; Charset=UTF-8", CLOSE, body=b"{}"), b"{}", id="charset"
    ),
    pytest.param(request(POST, TYPE, b"Content-Encoding: identity", CLOSE, body=b"{}"), b"{}", id="identity"),
    pytest.param(request(POST, TYPE, b"Accept: a", b"Accept: b", CLOSE, body=b"{}"), b"{}", id="a list header twice"),
    pytest.param(request(POST, TYPE, b"X-Name: J\xc3\xb6rg", CLOSE, body=b"{}"), b"{}", id="UTF-8 in a header"),
    pytest.param(request(POST, TYPE, b"X-Name: a\tb", CLOSE, body=b"{}"), b"{}", id="a tab in a header"),
    pytest.param(
        request(POST, TYPE, b"Connection: Upgrade, close", b"Upgrade: h2c", body=b"{}"),
        b"{}",
        id="an upgrade not taken",
    ),
    pytest.param(request(POST, TYPE, CLOSE), b"", id="no body at all"),
]

MALFORMED = [
    pytest.param(
        request(POST, TYPE, b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n" + SMUGGLED,
        id="CL and TE",
    ),
    pytest.param(request(POST, TYPE, b"Content-Length: 2", b"Content-Length: 2") + b"{}", id="two lengths"),
    pytest.param(request(POST, TYPE, b"Content-Length: +2") + b"{}", id="length with a sign"),
    pytest.param(request(POST, TYPE, b"Content-Length: -1") + b"{}", id="negative length"),
    pytest.param(request(POST, TYPE, b"Content-Length: 2, 2") + b"{}", id="list of lengths"),
    pytest.param(request(POST, TYPE, b"Content-Length: 0x2") + b"{}", id="hexadecimal length"),
    pytest.param(request(POST, TYPE, b"Content-Length: 99999999999999999999") + b"{}", id="length beyond 64 bits"),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding: gzip") + b"{}", id="unknown coding"),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n", id="chunked not last"),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding: chunke") + b"0\r\n\r\n", id="nearly chunked"),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding : chunked") + b"0\r\n\r\n", id="space before the colon"),
    pytest.param(request(POST, b"Content-Type:\r\n application/json", body=b"{}"), id="folded header"),
    pytest.param(request(POST, TYPE, body=b"{}").replace(b"\r\n", b"\n"), id="bare line feeds"),
    pytest.param(request(POST, TYPE, b"X-A: a\rb", body=b"{}"), id="bare carriage return"),
    pytest.param(request(POST, TYPE, b"X-A: a\0b", body=b"{}"), id="NUL in a header"),
    pytest.param(request(POST, TYPE, b"X A: 1", body=b"{}"), id="space in a name"),
    pytest.param(request(POST, TYPE, b"Host: g", body=b"{}"), id="two hosts"),
    pytest.param(request(POST, TYPE, body=b"{}", host=b""), id="no host"),
    pytest.param(request(POST, TYPE, b"Content-Type: text/plain", body=b"{}"), id="two content types"),
    pytest.param(
        request(POST, TYPE, b"Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n", id="no number of a chunk"
    ),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding: chunked") + b"2\n{}\n0\n\n", id="chunks with line feeds"),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n", id="chunk too long"),
    pytest.param(request(POST, TYPE, b"Transfer-Encoding: chunked") + b"-2\r\n{}\r\n0\r\n\r\n", id="negative chunk"),
    pytest.param(request(POST, TYPE, *(b"X-%d: 1" % n for n in range(130)), body=b"{}"), id="too many headers"),
    pytest.param(request(POST, TYPE, b"X-A: " + b"a" * 9000, body=b"{}"), id="a header too long"),
    pytest.param(request(b"GET /v1/" + b"a" * 9000 + b" HTTP/1.1"), id="a target too long"),
    pytest.param(b"GARBAGE\r\n\r\n", id="no HTTP"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
    pytest.param(request(b"GET /v1/mod\xc3\xa9ls HTTP/1.1"), id="not ASCII in the target"),
    pytest.param(request(b"GET /v1/models HTTP/1.2"), id="HTTP/1.2"),
    pytest.param(request(b"GET /v1/models HTTP/3.0"), id="HTTP/3.0"),
    pytest.param(request(b"FETCH /v1/models HTTP/1.1"), id="no such method"),
    pytest.param(request(b"GET /v1/models x HTTP/1.1"), id="space in the target"),
    pytest.param(request(b"GET /v1/\0models HTTP/1.1"), id="NUL in the target"),
]

REFUSED = [
    pytest.param(b"GET /v1/models\r\n\r\n", 505, "http_version", id="HTTP/0.9"),
    pytest.param(request(b"GET /v1/models HTTP/2.0"), 505, "http_version", id="HTTP/2.0"),
    pytest.param(
        request(POST.replace(b"1.1", b"1.0"), TYPE, b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
        400, "bad_framing", id="HTTP/1.0 with chunks",
    ),
    pytest.param(request(b"GET http://evil/v1/models HTTP/1.1"), 400, "bad_path", id="absolute form"),
    pytest.param(request(b"CONNECT evil:443 HTTP/1.1"), 400, "bad_path", id="CONNECT"),
    pytest.param(request(b"OPTIONS * HTTP/1.1"), 400, "bad_path", id="asterisk form"),
    pytest.param(request(b"GET /v1/%2e%2e/models HTTP/1.1"), 400, "bad_path", id="encoded dot segment"),
    pytest.param(request(b"GET /v1/../v1/models HTTP/1.1"), 400, "bad_path", id="dot dot"),
    pytest.param(request(b"GET /v1/./models HTTP/1.1"), 400, "bad_path", id="dot"),
    pytest.param(request(b"GET /v1/models/.. HTTP/1.1"), 400, "bad_path", id="dot dot at the end"),
    pytest.param(request(b"GET /v1%2fmodels HTTP/1.1"), 400, "bad_path", id="encoded slash"),
    pytest.param(request(b"GET //v1/models HTTP/1.1"), 400, "bad_path", id="two slashes"),
    pytest.param(request(b"GET /v1/models/ HTTP/1.1"), 400, "bad_path", id="slash at the end"),
    pytest.param(request(b"GET /v1\\models HTTP/1.1"), 400, "bad_path", id="backslash"),
    pytest.param(request(b"GET /v1/models;x=y HTTP/1.1"), 400, "bad_path", id="semicolon"),
    pytest.param(request(b"GET /v1/models%00 HTTP/1.1"), 400, "bad_path", id="encoded NUL"),
    pytest.param(request(b"GET /v1/model%73 HTTP/1.1"), 400, "bad_path", id="encoded letter"),
    pytest.param(request(b"GET /v1/models#x HTTP/1.1"), 400, "bad_path", id="fragment"),
    pytest.param(request(b"GET /v1/models?a#b HTTP/1.1"), 400, "bad_path", id="fragment after a query"),
    pytest.param(request(b"GET /v1/nothing HTTP/1.1"), 404, "unknown_url", id="no such route"),
    pytest.param(request(b"GET /healthz HTTP/1.1"), 404, "unknown_url", id="health is elsewhere"),
    pytest.param(request(b"GET / HTTP/1.1"), 400, "bad_path", id="the root"),
    pytest.param(request(b"GET /V1/models HTTP/1.1"), 404, "unknown_url", id="another case"),
    pytest.param(request(b"PUT /v1/models HTTP/1.1", body=b"{}"), 405, "method_not_allowed", id="PUT"),
    pytest.param(request(b"GET /v1/chat/completions HTTP/1.1"), 405, "method_not_allowed", id="GET of a POST"),
    pytest.param(request(b"GET /v1/models HTTP/1.1", body=b"{}"), 400, "unexpected_body", id="GET with a body"),
    pytest.param(
        request(b"GET /v1/models HTTP/1.1", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400, "unexpected_body", id="GET with chunks",
    ),
    pytest.param(request(POST, TYPE, b"X_Agent_Id: a", body=b"{}"), 400, "bad_header", id="underscore"),
    pytest.param(request(POST, TYPE, b"X-A: \xff", body=b"{}"), 400, "bad_header", id="header not UTF-8"),
    pytest.param(request(POST, TYPE, b"X-A: \xc2\x85", body=b"{}"), 400, "bad_header", id="control character C1"),
    pytest.param(
        request(POST, TYPE, b"Authorization: a", b"authorization: b", body=b"{}"),
        400, "duplicate_header", id="two authorizations",
    ),
    pytest.param(
        request(POST, TYPE, b"X-Agent-Id: a", b"X-Agent-Id: a", body=b"{}"), 400, "duplicate_header", id="two agents"
    ),
    pytest.param(
        request(POST, TYPE, b"X-Handrail-Session: a", b"x-handrail-session: b", body=b"{}"),
        400, "duplicate_header", id="two sessions",
    ),
    pytest.param(
        request(POST, TYPE, b"Content-Encoding: gzip", body=b"\x1f\x8b"), 415, "content_encoding", id="gzip"
    ),
    pytest.param(request(POST, TYPE, b"Content-Encoding: br", body=b"x"), 415, "content_encoding", id="brotli"),
    pytest.param(
        request(POST, b"Content-Type: application/x-www-form-urlencoded", body=b"a=b"), 415, "content_type", id="a form"
    ),
    pytest.param(request(POST, b"Content-Type: text/json", body=b"{}"), 415, "content_type", id="another JSON type"),
    pytest.param(
        request(POST, b"Content-Type: application/json; charset=utf-16", body=b"{}"), 415, "content_type", id="UTF-16"
    ),
    pytest.param(request(POST, body=b"{}"), 415, "content_type", id="no type"),
    pytest.param(request(POST, TYPE, b"Expect: 200-ok", body=b"{}"), 417, "expectation", id="another expectation"),
    pytest.param(request(POST, TYPE, b"Content-Length: 65"), 413, "request_too_large", id="too long as declared"),
    pytest.param(
        request(POST, TYPE, b"Transfer-Encoding: chunked") + b"41\r\n" + b"x" * 65 + b"\r\n0\r\n\r\n",
        413, "request_too_large", id="too long as it comes",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "body"), ACCEPTED)
async def test_well_formed_requests_pass(raw: bytes, body: bytes) -> None:
    """What HTTP/1.1 and 1.0 clients send in good faith reaches the hallway with its bytes unchanged."""
    hall = Hall(STREAM, DONE)

    async with serving(hall) as rig:
        reply = await exchange(rig.address, raw)

    assert (200, [body]) == (status_of(reply), [seen.body for seen in hall.seen])


@pytest.mark.parametrize("raw", MALFORMED)
async def test_malformed_http_is_400_and_the_end_of_the_connection(raw: bytes) -> None:
    """What is no HTTP gets one error object, quotes nothing of what was sent, and is not read on."""
    hall = Hall(STREAM, DONE)

    async with serving(hall) as rig:
        reply = await exchange(rig.address, raw)

    assert (1, 400, "bad_http", []) == (replies_in(reply), status_of(reply), code_of(reply), hall.seen)
    assert [] == rig.bugs


@pytest.mark.parametrize(("raw", "status", "code"), REFUSED)
async def test_what_can_be_read_in_two_ways_is_refused(raw: bytes, status: int, code: str) -> None:
    """What aiohttp takes and another parser could read otherwise is refused, and its connection is not read on."""
    hall = Hall(STREAM, DONE)

    async with serving(hall, max_body_bytes=64) as rig:
        reply = await exchange(rig.address, raw + SMUGGLED if b" HTTP/1.1\r\n" in raw else raw)

    assert (1, status, code, []) == (replies_in(reply), status_of(reply), code_of(reply), hall.seen)
    assert [] == rig.bugs


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        pytest.param((b"zz\r\n",), 400, "bad_body", id="no number"),
        pytest.param((b"2\r\n{}", b"\n0\r\n\r\n"), 400, "bad_body", id="chunk without its end"),
        pytest.param((b"40\r\n" + b"x" * 64 + b"\r\n", b"1\r\nx\r\n"), 413, "request_too_large", id="too long"),
    ],
)
async def test_a_body_that_breaks_off_late_is_refused_at_once(
    pieces: tuple[bytes, ...], status: int, code: str
) -> None:
    """A body that turns bad after its head was read is refused when it does, not when its time is up."""
    hall = Hall(STREAM, DONE)

    async with serving(hall, max_body_bytes=64, body_s=WAIT_S) as rig:
        reply = await exchange(rig.address, CHAT + b"Transfer-Encoding: chunked\r\n\r\n", *pieces)

    assert (status, code, []) == (status_of(reply), code_of(reply), rig.bugs)


async def test_405_says_what_is_allowed() -> None:
    """A 405 names the methods that there are."""
    async with serving(Hall()) as rig:
        reply = await exchange(rig.address, request(b"DELETE /v1/models HTTP/1.1"))

    assert b"\r\nallow: GET\r\n" in reply


async def test_a_client_that_waits_for_leave_gets_it() -> None:
    """`Expect: 100-continue` is answered before the body, and the reply proper follows."""
    async with serving(Hall(STREAM, DONE)) as rig:
        reader, writer = await connect(rig.address)
        writer.write(CHAT + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n")
        leave = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"{}")
        reply = await reader.read()
        writer.close()

    assert (b"HTTP/1.1 100 Continue\r\n\r\n", 200) == (leave, status_of(reply))


async def test_a_body_that_is_too_long_is_refused_before_it_is_sent() -> None:
    """A client that asks for leave to send more than there may be is told so instead."""
    async with serving(Hall(), max_body_bytes=64) as rig:
        reply = await exchange(rig.address, CHAT + b"Expect: 100-continue\r\nContent-Length: 65\r\n\r\n")

    assert (413, 1) == (status_of(reply), replies_in(reply))


async def test_a_body_that_stops_is_given_up() -> None:
    """A body of which the rest does not come is refused when its time is up."""
    async with serving(Hall(), body_s=0.05) as rig:
        reply = await exchange(rig.address, CHAT + b"Content-Length: 10\r\n\r\n{")

    assert (408, "request_timeout") == (status_of(reply), code_of(reply))


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        pytest.param(0, 5.0, id="a head start"),
        pytest.param(10 * 1024, 15.0, id="every KiB buys a second"),
        pytest.param(10 * 1024 * 1024, 30.0, id="up to the deadline"),
    ],
)
def test_an_upload_must_keep_a_rate(received: int, expected: float) -> None:
    """An upload has five seconds, one more for every KiB that came, and never more than the deadline."""
    assert expected == intake.allowed_s(received, Limits(body_s=30.0))


async def test_a_large_body_arrives_whole() -> None:
    """A body of many reads is handed on with every byte."""
    hall, body = Hall(STREAM, DONE), bytes(range(256)) * 4096

    async with serving(hall) as rig:
        await exchange(rig.address, chat(body, CLOSE))

    assert [body] == [seen.body for seen in hall.seen]


async def test_the_hallway_sees_one_value_per_header() -> None:
    """Names are lower-cased; list headers are joined by commas, cookies by semicolons."""
    hall = Hall(STREAM, DONE)
    raw = chat(b"{}", b"ACCEPT: a", b"Accept: b", b"Cookie: c=1", b"Cookie: d=2", CLOSE)

    async with serving(hall) as rig:
        await exchange(rig.address, raw)

    [seen] = hall.seen
    assert ("a, b", "c=1; d=2", "127.0.0.1") == (seen.headers["accept"], seen.headers["cookie"], seen.peer)
    assert ("POST", "/v1/chat/completions") == (seen.method, seen.path)


@pytest.mark.parametrize(
    ("version", "headers", "status"),
    [
        pytest.param(HttpVersion11, {}, 0, id="1.1"),
        pytest.param(HttpVersion11, {"transfer-encoding": "chunked"}, 0, id="1.1 chunked"),
        pytest.param(HttpVersion10, {}, 0, id="1.0"),
        pytest.param(HttpVersion10, {"transfer-encoding": "chunked"}, 400, id="1.0 chunked"),
        pytest.param(HttpVersion(2, 0), {}, 505, id="2.0"),
        pytest.param(HttpVersion(0, 9), {}, 505, id="0.9"),
    ],
)
def test_versions(version: HttpVersion, headers: dict[str, str], status: int) -> None:
    """Only HTTP/1.1 and 1.0 are spoken, and 1.0 without transfer codings."""
    refused = pytest.raises(HandrailError) if status else nullcontext()
    with refused as caught:
        intake.check_version(version, headers)

    assert status == (caught.value.status if caught else 0)


def test_vectors_are_many() -> None:
    """The tables above hold at least the eighty vectors that the security page promises."""
    assert len(ACCEPTED) + len(MALFORMED) + len(REFUSED) >= 80


async def test_a_client_that_leaves_while_it_sends_is_no_bug() -> None:
    """A request of which the rest never comes starts no walk, and nobody is called for it."""
    hall = Hall(STREAM, DONE)

    async with serving(hall) as rig:
        _, writer = await connect(rig.address)
        writer.write(CHAT + b"Content-Length: 10\r\n\r\n{")
        await until(lambda: rig.plane.tasks)
        writer.close()
        await until(lambda: not rig.plane.tasks)

    assert ([], []) == (hall.seen, rig.bugs)


@pytest.mark.parametrize("unix", [True, False])
async def test_the_hallway_is_told_what_is_called_and_by_which_user(tmp_path: Path, unix: bool) -> None:
    """A request has the name of its endpoint, and where it came by a Unix socket the user who sent it."""
    hall = Hall(WHOLE, End(frame=b"{}"))
    listen = f"unix:{tmp_path / 's'}" if unix else "127.0.0.1:0"
    async with serving(hall, listen=listen) as rig:
        await exchange(rig.address, chat(b"{}", b"Connection: close", b"X-Uid: 4"))

    assert [("chat.completions", os.getuid() if unix else None)] == [(raw.endpoint, raw.uid) for raw in hall.seen]


def colons(count: int) -> str:
    """Return a text with so much of what begins names and objects outside of texts, escapes and quotes among it."""
    return '"\\:[{' * count


MANY = [
    pytest.param({"a": {str(number): 1 for number in range(200)}}, True, id="names"),
    pytest.param({"a": [[]] * 200}, True, id="lists"),
    pytest.param({"a": [{}] * 200}, True, id="objects"),
    pytest.param({"a": [1] * 2000}, False, id="elements cost little"),
    pytest.param({"a": colons(200)}, False, id="texts"),
    pytest.param({colons(100): colons(200), "a": [colons(3)] * 50}, False, id="names and texts"),
    pytest.param({"a": colons(200), "b": [{}] * 200}, True, id="behind a text"),
    pytest.param({"a": "x" * intake.SLICE + colons(intake.SLICE // 8), "b": [{}] * 90}, False, id="texts over slices"),
    pytest.param({"a": colons(intake.SLICE // 8) + "x" * intake.SLICE, "b": [{}] * 200}, True, id="in the third slice"),
]


@pytest.mark.parametrize(("tree", "refused"), MANY)
async def test_a_body_has_only_so_many_parts(tree: object, refused: bool) -> None:
    """Names, objects and lists are counted, but not what looks like them in texts; too many are 413."""
    hall = Hall(STREAM, DONE)

    async with serving(hall, max_body_parts=100) as rig:
        reply = await exchange(rig.address, chat(json.dumps(tree).encode(), CLOSE))

    assert (413 if refused else 200) == status_of(reply)
    assert (b"too_many_parts" in reply, hall.seen == []) == (refused, refused)


@given(st.text(alphabet='":[{\\,x', max_size=60), st.integers(0, 40))
@settings(max_examples=60)
def test_parts_are_counted_as_a_parser_counts_them(text: str, objects: int) -> None:
    """Whatever texts hold, a body is refused if and only if a parser finds too many parts in it."""
    body = json.dumps({text: text, "a": [{text: [text]}] * objects}).encode()
    parts = 3 + (text != "a") + 3 * objects

    def refused(most: int) -> bool:
        try:
            asyncio.run(intake.check_parts(body, most))
        except TooLarge:
            return True
        return False

    assert (True, False) == (refused(parts - 1), refused(parts))
