"""Owns the proof of strict intake: a body has one reading, and a parser that disagrees with ours finds nothing to."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.wire import strict


def nested(levels: int, opener: str = "[", closer: str = "]") -> bytes:
    """Return an object in which this many levels are open at once."""
    inner = levels - 1
    return ('{"a":' + opener * inner + ("1" if opener == '{"a":' else "") + closer * inner + "}").encode()


ACCEPTED = [
    pytest.param(b"{}", id="empty object"),
    pytest.param(b' \t\r\n{ "a" : [ 1 , 2 ] } \n', id="white space"),
    pytest.param(b'{"a":{"b":1},"c":{"b":1}}', id="one key in two objects"),
    pytest.param(b'{"a":1,"A":2}', id="keys that differ in case"),
    pytest.param(b'{"\\u0061":1}', id="escaped key"),
    pytest.param(b'{"a:b":"c:d"}', id="colons in strings"),
    pytest.param(b'{"a":"\\u003a\\u003A:"}', id="escaped colons"),
    pytest.param(b'{"a":"\\\\u003a"}', id="a backslash and u003a"),
    pytest.param(b'{"a":"\\/\\b\\f\\n\\r\\t\\"\\\\"}', id="every short escape"),
    pytest.param(b'{"content":"\\u0000","a":[{"text":"b\\u0000","c":[1]}]}', id="escaped NUL in what people write"),
    pytest.param(b'{"a":"\\\\u0000"}', id="a backslash and u0000"),
    pytest.param(b'{"a":"\x7f"}', id="DEL"),
    pytest.param('{"a":"Grüß 👋"}'.encode(), id="UTF-8"),
    pytest.param(b'{"a":"\\ud83d\\ude00"}', id="surrogate pair"),
    pytest.param('{"ä":1,"a\u0308":2}'.encode(), id="keys that differ in normal form"),
    pytest.param(b'{"a":-0}', id="minus zero"),
    pytest.param(b'{"a":-0.0}', id="minus zero as a float"),
    pytest.param(b'{"a":1E5,"b":1e-5,"c":1.50}', id="number forms"),
    pytest.param(b'{"a":1e308}', id="near the largest double"),
    pytest.param(b'{"a":1e-400}', id="smaller than a double: zero"),
    pytest.param(b'{"a":18446744073709551615}', id="largest uint64"),
    pytest.param(b'{"a":-9223372036854775808}', id="smallest int64"),
    pytest.param(b'{"a":0.1234567890123456789012345}', id="more digits than a double has"),
    pytest.param(nested(64), id="64 levels of lists"),
    pytest.param(nested(64, '{"a":', "}"), id="64 levels of objects"),
    pytest.param(b'{"a":"' + b"[" * 1000 + b'"}', id="brackets in a string"),
    pytest.param(b'{"a":' + b"[[]," * 40 + b"[]" + b"]" * 40 + b"}", id="many lists, not deep"),
]

REFUSED = [
    pytest.param(b'{"a":1,"a":2}', id="key twice"),
    pytest.param(b'{"a":1,"a":1}', id="key twice, one value"),
    pytest.param(b'{"a":1,"\\u0061":2}', id="key twice, one escaped"),
    pytest.param(b'{"model":"x","\\u006dodel":"y"}', id="model twice, one escaped"),
    pytest.param(b'{"a":{"b":1,"b":2}}', id="key twice in an object"),
    pytest.param(b'{"a":[{"b":1,"b":2}]}', id="key twice in a list"),
    pytest.param(b'{"a":1,"a":":"}', id="key twice, a colon in the kept value"),
    pytest.param(b'{"a":":","a":1}', id="key twice, a colon in the lost value"),
    pytest.param(b'{"a":1,"a":"\\u003a"}', id="key twice, an escaped colon in the kept value"),
    pytest.param(b'{"a":1,"a":2,"b":"\\u003A"}', id="key twice, an escaped colon elsewhere"),
    pytest.param(b'{"":1,"":2}', id="empty key twice"),
    pytest.param(b'{"a\\u0000":1,"a\\u0000":2}', id="key with NUL twice"),
    pytest.param(b'{"a\\u0000":1}', id="key with NUL"),
    pytest.param(b'{"content":{"a\\u0000":1}}', id="key with NUL in a text's place"),
    pytest.param(b'{"a":["b\\u0000"]}', id="name with NUL"),
    pytest.param(b"", id="nothing"),
    pytest.param(b" ", id="white space only"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b'"a"', id="a string"),
    pytest.param(b"null", id="null"),
    pytest.param(b"{}{}", id="two objects"),
    pytest.param(b"{}x", id="trailing garbage"),
    pytest.param(b"{}\0", id="trailing NUL"),
    pytest.param(b'{"a":1', id="cut"),
    pytest.param(b'{"a":1,}', id="trailing comma"),
    pytest.param(b'{"a":[1,]}', id="trailing comma in a list"),
    pytest.param(b"{'a':1}", id="single quotes"),
    pytest.param(b"{a:1}", id="bare key"),
    pytest.param(b'{"a":1/*x*/}', id="comment"),
    pytest.param(b'{"a":1}//x', id="line comment"),
    pytest.param(b'{"a":NaN}', id="NaN"),
    pytest.param(b'{"a":Infinity}', id="Infinity"),
    pytest.param(b'{"a":-Infinity}', id="-Infinity"),
    pytest.param(b'{"a":1e400}', id="beyond a double"),
    pytest.param(b'{"a":18446744073709551616}', id="beyond uint64"),
    pytest.param(b'{"a":-9223372036854775809}', id="beyond int64"),
    pytest.param(b'{"a":' + b"9" * 100 + b"}", id="100 digits"),
    pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="5000 digits"),
    pytest.param(b'{"a":01}', id="leading zero"),
    pytest.param(b'{"a":+1}', id="plus sign"),
    pytest.param(b'{"a":.5}', id="no digit before the point"),
    pytest.param(b'{"a":1.}', id="no digit after the point"),
    pytest.param(b'{"a":0x1}', id="hexadecimal"),
    pytest.param(b'{"a":1_0}', id="underscore"),
    pytest.param(b'{"a":True}', id="Python's True"),
    pytest.param(b'{"a":"\\ud800"}', id="lone high surrogate"),
    pytest.param(b'{"a":"\\udc00"}', id="lone low surrogate"),
    pytest.param(b'{"a":"\\udc00\\ud800"}', id="surrogates in the wrong order"),
    pytest.param(b'{"\\ud800":1}', id="lone surrogate in a key"),
    pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
    pytest.param(b'{"a":"\xc0\xaf"}', id="overlong UTF-8"),
    pytest.param(b'{"a":"\xff"}', id="no UTF-8"),
    pytest.param(b'{"\xff":1}', id="no UTF-8 in a key"),
    pytest.param(b'{"a":"\n"}', id="line feed in a string"),
    pytest.param(b'{"a":"\0"}', id="NUL in a string"),
    pytest.param(b'{"a":"\\x41"}', id="unknown escape"),
    pytest.param(b"\xef\xbb\xbf{}", id="BOM"),
    pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
    pytest.param('{"a":1}'.encode("utf-16-le"), id="UTF-16 without BOM"),
    pytest.param('{"a":1}'.encode("utf-32"), id="UTF-32"),
    pytest.param(b"\x0b{}", id="vertical tab"),
    pytest.param("\u00a0{}".encode(), id="no-break space"),
    pytest.param(nested(65), id="65 levels of lists"),
    pytest.param(nested(65, '{"a":', "}"), id="65 levels of objects"),
    pytest.param(nested(100_000), id="100000 levels"),
    pytest.param(b"[" * 100_000, id="100000 levels, cut"),
]


def test_there_are_enough_vectors() -> None:
    """The differential has at least 40 bodies on which parsers are known to differ."""
    assert len(REFUSED) >= 40


@pytest.mark.parametrize("body", ACCEPTED)
def test_a_body_with_one_reading_is_read(body: bytes) -> None:
    """What is accepted is read as Python's parser reads it, and would be written with the same meaning."""
    tree = strict.read(body)

    assert json.loads(body) == tree == json.loads(msgspec.json.encode(tree))


@pytest.mark.parametrize("body", REFUSED)
def test_a_body_with_two_readings_is_refused(body: bytes) -> None:
    """What another parser could read differently, or not at all, is an error of the caller."""
    with pytest.raises(BadRequest) as caught:
        strict.read(body)

    assert (400, True) == (caught.value.status, caught.value.code in ("invalid_json", "duplicate_key"))


def test_the_key_that_appears_twice_is_named() -> None:
    """The caller learns which key is at fault."""
    with pytest.raises(BadRequest, match="'b' appears twice") as caught:
        strict.read(b'{"a":{"b":1,"\\u0062":2}}')

    assert ("duplicate_key", "b") == (caught.value.code, caught.value.param)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"{", "not valid JSON: Input data was truncated", id="cut"),
        pytest.param(b"{}x", r"trailing characters \(byte 3\)", id="where"),
        pytest.param(b'{"a":"\xff"}', "it is not UTF-8", id="not UTF-8"),
        pytest.param(b'{"a":18446744073709551616}', "does not fit in 64 bits", id="number"),
        pytest.param(nested(65), "nested deeper than 64 levels", id="depth"),
        pytest.param(b"[]", "must be a JSON object", id="no object"),
    ],
)
def test_the_reason_is_told(body: bytes, message: str) -> None:
    """The caller learns what is wrong and, where there is a place, at which byte."""
    with pytest.raises(BadRequest, match=message):
        strict.read(body)


STRINGS = st.text(st.sampled_from('ab:\\"/\u00e4\n'), max_size=3)


def written(text: str, escape: bool) -> str:
    """Write a string, each character escaped or none."""
    return '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"' if escape else json.dumps(text, ensure_ascii=False)


@st.composite
def texts(draw: st.DrawFn, depth: int = 3) -> str:
    """Draw a JSON text in which keys repeat often and are written in different ways."""
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind == 0:
        return draw(st.sampled_from(["1", "null", "true", "1.5"]) | st.builds(written, STRINGS, st.booleans()))
    inner = [draw(texts(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == 1:
        return "[" + " , ".join(inner) + "]"
    keys = [written(draw(STRINGS), draw(st.booleans())) for _ in inner]
    space = draw(st.sampled_from(["", " ", "\n"]))
    return "{" + ",".join(f"{key}{space}:{space}{value}" for key, value in zip(keys, inner, strict=True)) + "}"


class Twice(Exception):
    """A key appears twice."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of pairs, none of which may be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Twice
    return found


@given(texts().map(lambda text: '{"top":' + text + "}"))
@settings(max_examples=500)
def test_exactly_the_bodies_with_a_key_twice_are_refused(text: str) -> None:
    """The count of colons decides as the exact check does, whatever is in the strings and however it is written."""
    try:
        expected = json.loads(text, object_pairs_hook=unique)
    except Twice:
        expected = None

    try:
        found = strict.read(text.encode())
    except BadRequest:
        found = None

    assert expected == found
