"""Owns the strict HTTP intake: one inbound request becomes a `RawRequest`, or a HandrailError that says why not.

aiohttp's parser already refuses most malformed messages; what it lets pass and two parsers could read in two ways is
refused here, so that what is judged is what was sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import cast

from aiohttp import StreamReader
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11

from proxy.errors import BadRequest, NotFound, TooLarge
from proxy.server import routes
from proxy.server.connection import SPOKEN, Connection, Inbound
from proxy.server.routes import Endpoint
from proxy.snapshot import Limits
from proxy.terms import RawRequest

MIN_RATE = 1024
"""Bytes per second below which an upload is cut off."""
SLICE = 64 * 1024
"""Bytes of a body that are looked through in one go."""
START_S = 5.0
"""Head start of an upload before the rate is asked for."""

SINGLE = frozenset(
    {
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "transfer-encoding",
        "x-agent-id",
        "x-api-key",
    }
)
"""Headers that somebody trusts; two values of one of them are two readings of one request."""
SINGLE_PREFIX = "x-handrail-"

# A segment is spelled in one way: unreserved characters, sub-delimiters but `;`, `:` and `@`, and no percent-encoding
# at all, so `%2e`, `%2f`, `%00` and their like cannot be, and no segment is empty, `.` or `..`.
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+)+")
_QUERY = re.compile(r"[!$-~]*")
# Control characters, and the surrogates that aiohttp makes of bytes that are not UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_NO_PART = bytes(set(range(256)) - set(b":[{"))
_JSON_TYPE = re.compile(r"application/json\s*(?:;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE)


class Refused(BadRequest):
    """The HTTP of a request is not acceptable; the status says in which way."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, code=code, headers=headers)
        self.status = status


async def read(request: Inbound, limits: Limits) -> tuple[Endpoint, RawRequest]:
    """Return the endpoint that was asked for and the whole request; raise HandrailError, after which the connection
    cannot be used again."""
    headers = fields(request.headers.items())
    check_version(request.sent_version, headers)
    path = path_of(request.raw_path)
    endpoint = endpoint_of(request.method, path)
    check_body(endpoint.method, headers, request.body_exists)
    if int(headers.get("content-length", "0")) > limits.max_body_bytes:
        raise _too_large(limits)
    if "expect" in headers and request.sent_version >= HttpVersion11:
        await _go_on(request, headers["expect"])
    body = await read_body(request.content, limits)
    if request.broken:
        raise Refused(400, "bad_body", "The request body is broken.")
    await check_parts(body, limits.max_body_parts)
    return endpoint, RawRequest(
        method=request.method,
        path=path,
        headers=headers,
        body=body,
        peer=request.remote or "unix",
        endpoint=endpoint.name,
        uid=cast(Connection, request.protocol).uid,
    )


def fields(sent: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers with lower-cased names, one value each; raise Refused where they can be read in two ways."""
    headers: dict[str, str] = {}
    for given, value in sent:
        name = given.lower()
        if "_" in name:
            raise Refused(400, "bad_header", f"The header {name} has an underscore; write it with a hyphen.")
        if not value.isprintable() and _UNPRINTABLE.search(value):
            raise Refused(400, "bad_header", f"The header {name} has a control character, or is not UTF-8.")
        if name not in headers:
            headers[name] = value
        elif name in SINGLE or name.startswith(SINGLE_PREFIX):
            raise Refused(400, "duplicate_header", f"The header {name} may be sent only once.")
        else:
            headers[name] += f"{'; ' if name == 'cookie' else ', '}{value}"
    return headers


def check_version(version: HttpVersion, headers: Mapping[str, str]) -> None:
    """Raise Refused unless it is HTTP/1.1, or HTTP/1.0 with a body that has a length."""
    if version not in SPOKEN:
        raise Refused(505, "http_version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if version == HttpVersion10 and "transfer-encoding" in headers:
        raise Refused(400, "bad_framing", "HTTP/1.0 has no Transfer-Encoding.")


def path_of(target: str) -> str:
    """Return the path of a request target in origin form; raise Refused if it could be spelled in another way."""
    path, _, query = target.partition("?")
    if not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        raise Refused(
            400,
            "bad_path",
            "The request target must be a plain absolute path, such as /v1/chat/completions: no host, no empty or dot "
            "segments, no percent-encoding, backslash, semicolon or fragment.",
        )
    return path


def endpoint_of(method: str, path: str) -> Endpoint:
    """Return what the route table has; raise NotFound, or Refused 405 with the methods that there are."""
    found = routes.find(path)
    if not found:
        raise NotFound(f"There is no {path} here.", code="unknown_url")
    if method not in found:
        allow = ", ".join(sorted(found))
        message = f"{path} takes {allow} only."
        raise Refused(405, "method_not_allowed", message, headers={"allow": allow})
    return found[method]


def check_body(method: str, headers: Mapping[str, str], has_body: bool) -> None:
    """Raise Refused if a body is sent where none belongs, or is anything but plain JSON where one does."""
    if method == "GET":
        if has_body:
            raise Refused(400, "unexpected_body", "A GET request has no body.")
        return
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "content_encoding", "Compressed requests are not accepted; send plain JSON.")
    if not _JSON_TYPE.fullmatch(headers.get("content-type", "")):
        raise Refused(415, "content_type", "The content-type must be application/json, in UTF-8.")


async def check_parts(body: bytes, most: int) -> None:
    """Raise TooLarge if a JSON body has more names, objects and lists: each costs so much to read that a body of few
    bytes could hold everyone up. They are counted by what begins them, without reading, and where texts have too much
    of that, outside of texts: in slices, so that others have their turn."""
    if len(body) <= most or len(body.translate(None, _NO_PART)) <= most:
        return
    # Without escapes every other stretch between quotes is outside of texts; where it is not, the body is no JSON.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    found, quotes = 0, 0
    for start in range(0, len(plain), SLICE):
        stretches = plain[start : start + SLICE].split(b'"')
        found += len(b"".join(stretches[quotes % 2 :: 2]).translate(None, _NO_PART))
        quotes += len(stretches) - 1
        if found > most:
            message = f"The request body has more than {most} names, objects and lists (limits.max_body_parts)."
            raise TooLarge(message, code="too_many_parts")
        await asyncio.sleep(0)


async def _go_on(request: Inbound, expect: str) -> None:
    if expect.lower() != "100-continue":
        raise Refused(417, "expectation", "The only expectation that can be met is 100-continue.")
    await request.say_continue()


async def read_body(content: StreamReader, limits: Limits) -> bytes:
    """Return the whole body; raise TooLarge, or Refused if it is broken or comes too slowly.

    Every KiB that has come buys one more second, up to the deadline.
    """
    if content.is_eof():
        return _within(content.read_nowait() if not content.at_eof() else b"", limits)
    start, body = asyncio.get_running_loop().time(), bytearray()
    while True:
        try:
            async with asyncio.timeout_at(start + allowed_s(len(body), limits)):
                piece = await content.readany()
        except TimeoutError:
            raise Refused(408, "request_timeout", "The request body came too slowly.") from None
        if not piece:
            return bytes(body)
        body += _within(piece, limits, len(body))


def allowed_s(received: int, limits: Limits) -> float:
    """Return how long an upload may have taken so far: every KiB that came buys a second more, up to the deadline."""
    return min(limits.body_s, START_S + received / MIN_RATE)


def _within(piece: bytes, limits: Limits, before: int = 0) -> bytes:
    if before + len(piece) > limits.max_body_bytes:
        raise _too_large(limits)
    return piece


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The request body is larger than {limits.max_body_bytes} bytes.")
