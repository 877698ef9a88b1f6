"""Owns row 8 of the fault matrix: requests that are too large, or that two parsers would read in two ways."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

from bench.chaos.matrix.cell import Cell, Expected, Play, body_of, good

JSON = ("content-type", "application/json")
MODEL = "MODEL"
"""Stands in a body for the model of the cell."""


def request(stream: bool, **more: object) -> bytes:
    """Return a body that would be a good one."""
    tree: dict[str, object] = {"model": MODEL, "stream": stream, "max_completion_tokens": 100}
    if stream:
        tree["stream_options"] = {"include_usage": True}
    return json.dumps({**tree, "messages": [{"role": "user", "content": "Hi"}], **more}, separators=(",", ":")).encode()


def spoilt(stream: bool) -> dict[str, tuple[bytes, str]]:
    """Return bodies that are not read, by what is wrong with them, and the code that says so."""
    body = request(stream)
    text = body.decode()
    inside = text[1:-1]
    return {
        "nothing": (b"", "invalid_json"),
        "half of it": (body[: len(body) // 2], "invalid_json"),
        "more behind it": (body + b"{}", "invalid_json"),
        "a list": (b"[" + body + b"]", "invalid_json"),
        "null": (b"null", "invalid_json"),
        "a comment": (body + b"// so", "invalid_json"),
        "single quotes": (body.replace(b'"', b"'"), "invalid_json"),
        "UTF-16": (text.encode("utf-16"), "invalid_json"),
        "UTF-32": (text.encode("utf-32"), "invalid_json"),
        "a byte order mark": (b"\xef\xbb\xbf" + body, "invalid_json"),
        "Latin-1": (body.replace(b"Hi", b"H\xe9"), "invalid_json"),
        "half a surrogate pair": (body.replace(b"Hi", b"\\ud800"), "invalid_json"),
        "a surrogate in UTF-8": (body.replace(b"Hi", b"\xed\xa0\x80"), "invalid_json"),
        "NaN": (f'{{"temperature":NaN,{inside}}}'.encode(), "invalid_json"),
        "Infinity": (f'{{"temperature":Infinity,{inside}}}'.encode(), "invalid_json"),
        "1e999": (f'{{"temperature":1e999,{inside}}}'.encode(), "invalid_json"),
        "a number of 5,000 digits": (f'{{"seed":{"9" * 5000},{inside}}}'.encode(), "invalid_json"),
        "2^64": (f'{{"seed":{2**64},{inside}}}'.encode(), "invalid_json"),
        "100,000 levels": (request(stream)[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        "70 levels": (request(stream)[:-1] + b',"x":' + b"[" * 70 + b"]" * 70 + b"}", "invalid_json"),
        "NUL in a key": (f'{{"mod\\u0000el":1,{inside}}}'.encode(), "invalid_json"),
        "a key twice": (f'{{"model":"other",{inside}}}'.encode(), "duplicate_key"),
        "a key twice, once escaped": (f'{{"mod\\u0065l":"other",{inside}}}'.encode(), "duplicate_key"),
        "a key twice in a message": (body.replace(b'"role":"user"', b'"role":"user","role":"system"'), "duplicate_key"),
        "a key in capitals": (f'{{"Model":"other",{inside}}}'.encode(), "ambiguous_key"),
        "no messages": (request(stream, messages=[]), "invalid_value"),
        "a model that is a number": (request(stream, model=7), "invalid_value"),
        "a role that nobody has": (request(stream, messages=[{"role": "USER", "content": "Hi"}]), "invalid_value"),
        "a negative limit": (request(stream, max_completion_tokens=-1), "invalid_value"),
    }


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    why = "Two parsers would read it in two ways, or none at all: it is refused, costs nothing and reaches nobody."
    for stream in (False, True):
        for fault, (body, code) in spoilt(stream).items():
            expected = Expected(status=400, code=code, state="fault", billed="free", calls=0)
            yield Cell(row=8, fault=fault, why=why, stream=stream, body=body, expected=expected)
        yield from _fitting(stream)
    yield from _refused()


def _refused() -> Iterator[Cell]:
    packed = zlib.compress(request(False), wbits=31)
    large = request(False, user="x" * (10 * 1024 * 1024))
    keys = b"{" + b",".join(b'"k%d":0' % number for number in range(1_000_000)) + b"}"
    for fault, body, status, code, headers in (
        ("more than 10 MiB", large, 413, "request_too_large", (JSON,)),
        ("a million keys", keys, 413, "request_too_large", (JSON,)),
        ("gzip", packed, 415, "content_encoding", (JSON, ("content-encoding", "gzip"))),
        ("a form", request(False), 415, "content_type", (("content-type", "application/x-www-form-urlencoded"),)),
        (
            "another charset",
            request(False),
            415,
            "content_type",
            (("content-type", "application/json; charset=utf-16"),),
        ),
        ("no content type", request(False), 415, "content_type", ()),
        ("two content types", request(False), 400, "bad_http", (JSON, JSON)),
        ("an underscore in a header", request(False), 400, "bad_header", (JSON, ("x_agent_id", "a"))),
        ("an expectation", request(False), 417, "expectation", (JSON, ("expect", "200-ok"))),
    ):
        expected = Expected(status=status, code=code, state="", billed="free", calls=0)
        why = "It is refused before anybody reads it, so there is no call to record."
        yield Cell(row=8, fault=fault, why=why, body=body, request_headers=headers, expected=expected)


def _fitting(stream: bool) -> Iterator[Cell]:
    fit = {
        "60 levels": request(stream)[:-1] + b',"x":' + b"[" * 60 + b"]" * 60 + b"}",
        "100,000 keys": request(stream)[:-1] + b"," + b",".join(b'"k%d":0' % n for n in range(100_000)) + b"}",
        "a text of 1 MB": request(stream, messages=[{"role": "user", "content": "x " * 500_000}]),
        "unknown fields": request(stream, x_new={"a": [1, None, 1.5, "é"]}),
        "a whole surrogate pair": request(stream).replace(b"Hi", b"\\ud83d\\ude00"),
    }
    for fault, body in fit.items():
        yield Cell(
            row=8,
            fault=fault,
            why="It can be read in one way only, and goes on as it came.",
            stream=stream,
            body=body,
            play=Play(pieces=good(stream)),
            expected=Expected(body=body_of(stream)),
        )
