"""Owns the proof of event framing: the standard's reading, and bytes that are the same in any slicing."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import framing
from proxy.framing import Event, EventDecoder

PIECES = [b"data", b"id", b"event", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"\0", b"\xef\xbb\xbf", b"\xc3"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


def fed(slices: list[bytes], limit: int = framing.LIMIT_BYTES) -> tuple[list[Event], EventDecoder]:
    """Feed slices to a new decoder."""
    decoder = EventDecoder(limit)
    return [event for data in slices for event in decoder.feed(data)], decoder


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut data into pieces of one size."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def dispatched(data: bytes) -> list[tuple[str, bytes, str]]:
    """Read complete events as the standard says it, line by line."""
    events: list[tuple[str, bytes, str]] = []
    lines: list[bytes] = []
    kind = last_id = ""
    for line in re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if line == b"":
            if lines:
                events.append((kind or "message", b"\n".join(lines), last_id))
            lines, kind = [], ""
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            kind = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            last_id = value.decode(errors="replace")
    return events


@st.composite
def sliced(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a text and a slicing of it."""
    data = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return data, [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


@given(sliced())
@settings(max_examples=300)
def test_slicing_changes_nothing(case: tuple[bytes, list[bytes]]) -> None:
    """The same bytes give the same events, and the same rest, however they arrive."""
    data, slices = case

    (whole, one), (parts, other) = fed([data]), fed(slices)

    assert (whole, one.close()) == (parts, other.close())


@given(TEXTS)
def test_no_byte_is_lost_or_invented(data: bytes) -> None:
    """The raw bytes of the events and of the rest are the input."""
    events, decoder = fed([data])
    rest = decoder.close()

    assert data == b"".join(event.raw for event in events) + (rest.raw if rest else b"")


@given(TEXTS)
@settings(max_examples=300)
def test_events_are_those_of_the_standard(data: bytes) -> None:
    """Types, data and ids agree with a reading of the standard, line by line."""
    events, decoder = fed([data])
    # Only the end of the stream tells whether a last CR was half of a CRLF.
    last = decoder.close()
    ended = [last] if last and re.search(rb"(?>\r\n|\n|\r){2}\Z|\A[\r\n]+\Z", last.raw) else []

    assert dispatched(data) == [(e.type, e.data, e.id) for e in events + ended if e.data is not None]


@pytest.mark.parametrize(
    ("data", "event"),
    [
        pytest.param(b"data: a\n\n", {"data": b"a"}, id="one line"),
        pytest.param(b"data:a\n\n", {"data": b"a"}, id="no space"),
        pytest.param(b"data:  a\n\n", {"data": b" a"}, id="two spaces"),
        pytest.param(b"data\n\n", {"data": b""}, id="no colon"),
        pytest.param(b"data: a\ndata: b\n\n", {"data": b"a\nb"}, id="two lines"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", {"data": b"a"}, id="BOM"),
        pytest.param(b": ping\n\n", {}, id="comment"),
        pytest.param(b"retry: 5\nfoo: bar\n\n", {}, id="other fields"),
        pytest.param(b"\n\n", {}, id="blank lines only"),
        pytest.param(b"\ndata: a\n\n", {"data": b"a"}, id="blank line before"),
        pytest.param(b"event: ping\ndata: a\n\n", {"data": b"a", "type": "ping"}, id="type"),
        pytest.param(b"id: 1\ndata: a\n\n", {"data": b"a", "id": "1"}, id="id"),
        pytest.param(b"id: 1\0\ndata: a\n\n", {"data": b"a"}, id="id with NUL"),
        pytest.param(b"data: \xff\n\n", {"data": b"\xff"}, id="broken UTF-8"),
        pytest.param(b"data: a\r\n\r\n", {"data": b"a"}, id="CRLF"),
        pytest.param(b"data: a\n\r\n", {"data": b"a"}, id="LF then CRLF"),
    ],
)
def test_one_event(data: bytes, event: dict[str, Any]) -> None:
    """Each shape of event is read as the standard says, and keeps its bytes."""
    assert [Event(raw=data, **event)] == fed([data])[0]


def test_a_last_cr_waits_for_its_lf() -> None:
    """A CR at the end of what has arrived may be half of a CRLF: the event leaves with all of its bytes."""
    decoder = EventDecoder()

    assert [] == decoder.feed(b"data: a\r\n\r")
    assert [b"data: a\r\n\r\n"] == [event.raw for event in decoder.feed(b"\ndata: b")]


def test_the_end_gives_what_no_blank_line_ended() -> None:
    """An unfinished event is returned once, at the end."""
    _, decoder = fed([b"data: a\n\ndata: b"])

    assert Event(raw=b"data: b", data=b"b") == decoder.close()


@pytest.mark.parametrize("size", [1, 2, 7, 64], ids=str)
@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\rx"], ids=["LF", "CRLF", "CR"])
def test_an_event_longer_than_the_limit_ends_the_reading(size: int, ending: bytes) -> None:
    """Events before it are returned, nothing of it or after it is, in any slicing."""
    data = b"data: 1\n\n" + b"data: " + b"x" * 20 + ending + b"data: 2\n\n"

    events, decoder = fed([*pieces(data, size), b"data: 3\n\n"], limit=20)

    assert ([b"1"], True, None) == ([event.data for event in events], decoder.overflowed, decoder.close())


@pytest.mark.parametrize("size", [1, 3, 64], ids=str)
def test_an_event_as_long_as_the_limit_is_read(size: int) -> None:
    """The limit itself is allowed, in any slicing."""
    data = b"data: " + b"x" * 12 + b"\n\n"

    events, decoder = fed(pieces(data, size), limit=20)

    assert ([data], False) == ([event.raw for event in events], decoder.overflowed)


def test_a_line_of_a_megabyte_in_small_pieces() -> None:
    """A long line is read, each byte scanned once: in quadratic time this would not come back."""
    line = b"data: " + b"x" * 1_000_000

    events, _ = fed([*pieces(line, 10), b"\n\n"])

    assert [line[6:]] == [event.data for event in events]


@given(st.text(st.sampled_from("ab\nö")).map(str.encode))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    """Data of any number of lines survives encoding."""
    assert [data] == [event.data for event in fed([framing.encode(data)])[0]]


@pytest.mark.parametrize("size", [0, 1, 2], ids=["as recorded", "1 byte", "2 bytes"])
def test_the_published_vectors(real_data: Path, size: int) -> None:
    """All 49 vectors of the contract tests give their events."""
    vectors = json.loads((real_data / "sse" / "sse_vectors.json").read_text())
    wrong = []
    for vector in vectors:
        chunks = [base64.b64decode(chunk) for chunk in vector["chunks_b64"]]
        slices = pieces(b"".join(chunks), size) if size else chunks
        events, decoder = fed(slices)
        found = [event for event in [*events, decoder.close()] if event and event.data is not None]
        expected = [(e.get("type", "message"), e["data"], e.get("id", "")) for e in vector["events"]]
        if expected != [(e.type, (e.data or b"").decode(), e.id) for e in found]:
            wrong.append(vector["name"])

    assert (49, []) == (len(vectors), wrong)
