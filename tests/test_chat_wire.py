"""Owns the proof of chat completions on the wire: what comes back passes byte for byte, and is read to its end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.framing import LIMIT_BYTES
from proxy.gate import Gate
from proxy.terms import ChoiceDelta, Delta, End, Fault, Usage
from tests.streams import (
    CALL,
    DONE,
    PROVIDER,
    STREAMS,
    TEXT,
    USAGE,
    Stream,
    chunk,
    decoded,
    event,
    passed,
    request,
    through,
)

EACH = [pytest.param(stream, id=name) for name, stream in STREAMS.items()]


# --- streams --------------------------------------------------------------------------------------------------------


def last_usage(deltas: list[Delta]) -> Usage | None:
    """Return what a reply was said to have used."""
    return next((delta.usage for delta in reversed(deltas) if delta.usage), None)


@pytest.mark.parametrize("stream", EACH)
def test_a_stream_adds_up(stream: Stream) -> None:
    """Text, calls, finish reasons, model and usage of every kind of stream are read; it ends as it says."""
    gate = Gate()

    deltas, ended = decoded(stream.data, PROVIDER.decoder(request(choices=stream.choices), {}, 0))
    for delta in deltas:
        gate.feed(delta)

    assert (stream.replies, stream.usage) == (gate.replies(), last_usage(deltas))
    assert stream.fault == (ended.code if isinstance(ended, Fault) else "")


@pytest.mark.parametrize(
    "stream", [pytest.param(stream, id=name) for name, stream in STREAMS.items() if not stream.fault]
)
def test_frames_pass_byte_for_byte(stream: Stream) -> None:
    """What leaves the gate, when nothing is dropped, is exactly what the provider sent."""
    gate = Gate()

    early, ended = through(stream, gate)

    assert stream.data == b"".join(delta.frame for delta in early + gate.release())
    assert End() == ended


def every_cut(data: bytes) -> Iterator[list[int]]:
    """Yield each place at which data can be cut once, and the cut into single bytes."""
    yield from ([at] for at in range(1, len(data)))
    yield list(range(1, len(data)))


@pytest.mark.parametrize("stream", EACH)
def test_slicing_changes_nothing(stream: Stream) -> None:
    """Cut at any byte, a stream gives the same deltas, the same end and the same replies."""
    whole = Gate()
    expected = through(stream, whole)
    replies, held = whole.replies(), whole.release()

    for cuts in every_cut(stream.data):
        gate = Gate()
        assert expected == through(stream, gate, cuts)
        assert (replies, held) == (gate.replies(), gate.release())


@given(st.sampled_from(sorted(STREAMS)), st.data())
@settings(max_examples=150)
def test_random_slicing_changes_nothing(name: str, data: st.DataObject) -> None:
    """Cut at any number of bytes, the same comes out, and the same is held."""
    stream = STREAMS[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream.data)), max_size=12)))
    whole, parts = Gate(), Gate()

    assert through(stream, whole) == through(stream, parts, cuts)
    assert (whole.replies(), whole.release()) == (parts.replies(), parts.release())


def is_complete(cut: bytes, choices: int) -> bool:
    """Say whether a cut stream has the end marker, or every finish reason: a plain reading, event by event."""
    finished = set()
    text = cut.decode(errors="replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for block in text.split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n")]
        data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
        if data.startswith("[DONE]"):
            return True
        if data.endswith("}") and is_json(data):
            listed = json.loads(data).get("choices", [])
            finished |= {choice["index"] for choice in listed if choice["finish_reason"]}
    return len(finished) >= choices


def is_json(data: str) -> bool:
    """Say whether a text is JSON."""
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def check_cuts(data: bytes, choices: int, *, never: bool = False) -> None:
    """Cut a stream at every byte: an end only where it is complete, and never a byte that was not sent."""
    for at in range(len(data)):
        cut = data[:at]
        deltas, ended = decoded(cut, PROVIDER.decoder(request(choices=choices), {}, 0))
        assert isinstance(ended, End) == (is_complete(cut, choices) and not never), cut
        assert cut.startswith(b"".join(delta.frame for delta in deltas))
        assert b"" == ended.frame or never


@pytest.mark.parametrize("stream", EACH)
def test_a_cut_stream_is_a_fault(stream: Stream) -> None:
    """Cut off at any byte, a stream that lacks a part of its reply is a fault, and no end marker is made up."""
    check_cuts(stream.data, stream.choices, never=bool(stream.fault))


def test_the_fault_of_a_cut_stream() -> None:
    """A cut before the first byte may be tried elsewhere; the message says what happened."""
    deltas, ended = decoded(CALL[:-9], PROVIDER.decoder(request(), {}, 0))

    assert 4 == len(deltas)
    assert ended == Fault(
        status=502,
        type="upstream_error",
        code="stream_cut",
        message="The provider's stream ended before its reply did.",
        retryable=True,
    )


def test_an_unfinished_event_does_not_leave() -> None:
    """Half an event would swallow the error event that follows it: it stays behind."""
    deltas, _ = decoded(TEXT + b'data: {"choices":[{"ind', PROVIDER.decoder(request(choices=2), {}, 0))

    assert TEXT == b"".join(delta.frame for delta in deltas)


@pytest.mark.parametrize("half", [b'data: {"choices":[],"usa', b"data: [DON", b"dat", b": bye"])
def test_half_an_event_after_the_reply_does_not_leave(half: bytes) -> None:
    """A reply that is complete ends before half an event, which no client could read and might be hidden usage."""
    deltas, ended = decoded(TEXT + half, PROVIDER.decoder(request(), {}, 0))

    assert (TEXT, End()) == (b"".join(delta.frame for delta in deltas), ended)


@pytest.mark.parametrize("last", [b"data: [DONE]", b'data: {"choices":[],"usage":{}}\n'], ids=["DONE", "usage"])
def test_a_last_event_may_lack_its_blank_line(last: bytes) -> None:
    """Some vendors end the stream without one: an event that can be read is one."""
    deltas, ended = decoded(TEXT + last, PROVIDER.decoder(request(), {}, 0))

    assert (TEXT + last, End()) == (b"".join(delta.frame for delta in deltas), ended)


def test_all_choices_must_finish() -> None:
    """One finish reason of two is a cut stream."""
    deltas, ended = decoded(TEXT, PROVIDER.decoder(request(choices=2), {}, 0))

    assert (4, True) == (len(deltas), isinstance(ended, Fault))


def test_an_error_event_is_the_fault() -> None:
    """An error in mid-stream is passed on as the provider wrote it; nothing after it is."""
    error = b'data: {"error":{"message":"boom"}}\n\n'

    deltas, ended = decoded(TEXT + error + TEXT + DONE, PROVIDER.decoder(request(), {}, 0))

    assert TEXT == b"".join(delta.frame for delta in deltas)
    assert isinstance(ended, Fault)
    assert ("provider_error", error, b'{"error":{"message":"boom"}}') == (ended.code, ended.frame, ended.body)


def test_usage_alone_is_marked() -> None:
    """A chunk that has usage and no choices can be hidden; usage beside a choice cannot."""
    alone, beside = event({"choices": [], "usage": USAGE}), chunk({}, "stop", usage=USAGE)

    deltas, _ = decoded(beside + alone, PROVIDER.decoder(request(), {}, 0))

    assert [False, True] == [delta.usage_only for delta in deltas]
    assert [Usage(input_tokens=9, output_tokens=4)] * 2 == [delta.usage for delta in deltas]


def test_the_end_marker_is_final() -> None:
    """The provider's own end marker is told apart from everything else."""
    deltas, _ = decoded(TEXT + DONE, PROVIDER.decoder(request(), {}, 0))

    assert [False] * 4 + [True] == [delta.final for delta in deltas]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"data: <html>\n\n", id="HTML"),
        pytest.param(b"data: {broken\n\n", id="broken JSON"),
        pytest.param(b"data: []\n\n", id="a list"),
        pytest.param(b"data:\n\n", id="empty data"),
        pytest.param(b": ping\n\n", id="a comment"),
        pytest.param(b"event: ping\n\n", id="no data"),
        pytest.param(event({"model": 5, "choices": 5, "usage": 5}), id="wrong types"),
        pytest.param(event({"choices": [], "error": None}), id="no error"),
    ],
)
def test_what_says_nothing_passes(data: bytes) -> None:
    """An event from which nothing is read passes byte for byte."""
    (first, *_), ended = decoded(data + DONE, PROVIDER.decoder(request(), {}, 0))

    assert (data, (), None, "") == (first.frame, first.choices, first.usage, first.model.removeprefix("m-2026"))
    assert End() == ended


def test_broken_utf8_hides_no_call() -> None:
    """An event that a lenient client could read is judged, though it is no clean JSON."""
    data = CALL.replace(b'"refund"', b'"ref\xffund"')

    deltas, _ = decoded(data + DONE, PROVIDER.decoder(request(), {}, 0))

    assert "ref\ufffdund" == deltas[1].choices[0].tool_calls[0].name


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"data: " + b'{"a":' * 100_000 + b"\n\n", "event_unreadable", id="too deep to be judged"),
        pytest.param(b"data: " + b"x" * LIMIT_BYTES + b"\n\n", "event_too_large", id="too long to be judged"),
    ],
)
def test_what_cannot_be_judged_does_not_pass(data: bytes, code: str) -> None:
    """An event that another parser could read, and ours cannot, ends the reply."""
    decoder = PROVIDER.decoder(request(), {}, 0)
    assert not decoder.over

    deltas, ended = decoded(TEXT + data + CALL + DONE, decoder)

    assert decoder.over
    assert TEXT == b"".join(delta.frame for delta in deltas)
    assert isinstance(ended, Fault)
    assert (code, 502, b"") == (ended.code, ended.status, ended.frame)


OPENED = event({"choices": [{"index": 0, "delta": {"tool_calls": [{"id": "c", "function": {"name": "f"}}]}}]})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(OPENED, True, id="a call"),
        pytest.param(OPENED.replace(b"\n", b"\r\n"), True, id="CRLF"),
        pytest.param(b": a\n\n", True, id="a comment"),
        pytest.param(b"data: ping\n\n", True, id="no JSON at all"),
        pytest.param(b'data: {"choices":\ndata: []}\n\n', True, id="on two lines"),
        pytest.param(b"\xef\xbb\xbf" + OPENED, False, id="a byte order mark amid the stream"),
        pytest.param(b" " + OPENED, False, id="a space before the line"),
        pytest.param(b' data: {"a":1}\n' + OPENED, False, id="such a line beside another"),
        pytest.param(OPENED.rstrip() + b"\ndata: x\n\n", False, id="a line of its own amid others"),
        pytest.param(b'data: {"x":\n' + OPENED.rstrip() + b"\ndata: }\n\n", False, id="a line of its own within"),
        pytest.param(OPENED.rstrip() + b" x\n\n", False, id="more after it"),
        pytest.param(b' data: {"a":1}\ndata: [DONE]\n\n', False, id="with the end marker"),
        pytest.param(event({"choices": [{"index": 1, "delta": {}}]}), False, id="a choice not asked for"),
        pytest.param(event({"choices": [{"index": 0}, {"index": 0}]}), False, id="a choice twice"),
    ],
)
def test_what_clients_read_differently(data: bytes, expected: bool) -> None:
    """An event in which some clients find what others do not is marked, and keeps its bytes."""
    deltas, _ = decoded(TEXT + data + DONE, PROVIDER.decoder(request(), {}, 0))

    assert (data, expected) == (deltas[-2].frame, deltas[-2].clear)


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({"choices": [{"index": 0, "delta": {"tool_calls": [{"id": "c"}]}}]}, id="a call"),
        pytest.param({"Choices": []}, id="what some clients take for choices"),
    ],
)
def test_an_error_takes_no_reply_along(beside: dict[str, Any]) -> None:
    """Of an event that is an error and a reply, the error alone is passed on."""
    alone = {"error": {"message": "boom"}}

    _, ended = decoded(event({**alone, **beside}), PROVIDER.decoder(request(), {}, 0))

    assert isinstance(ended, Fault)
    assert (alone, b"data: " + ended.body + b"\n\n") == (json.loads(ended.body), ended.frame)


# --- unstreamed replies ---------------------------------------------------------------------------------------------

MESSAGE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "m-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
BODY = json.dumps(MESSAGE, indent=2).encode() + b"\n"


@pytest.mark.parametrize("cuts", [[], [1, 5], list(range(1, len(BODY)))], ids=["whole", "three", "bytes"])
def test_an_unstreamed_reply_is_one_delta(cuts: list[int]) -> None:
    """The body is collected, however it arrives, and passes byte for byte as one delta."""
    expected = Delta(
        frame=BODY,
        tree=MESSAGE,
        choices=(ChoiceDelta(text="a", finish_reason="stop"),),
        usage=Usage(input_tokens=9, output_tokens=4),
        model="m-2026",
    )
    assert ([expected], End()) == decoded(BODY, PROVIDER.decoder(request(stream=False), {}, 0), cuts)


def test_a_cut_body_is_a_fault() -> None:
    """Cut off at any byte of its object, an unstreamed reply is a fault and no delta."""
    for at in range(len(BODY.rstrip())):
        deltas, ended = decoded(BODY[:at], PROVIDER.decoder(request(stream=False), {}, 0))
        assert ([], "stream_cut") == (deltas, ended.code if isinstance(ended, Fault) else "")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"<html>", "stream_cut", id="HTML"),
        pytest.param(b"[]", "stream_cut", id="a list"),
        pytest.param(b'{"error":{"message":"boom"}}', "provider_error", id="an error with status 200"),
        pytest.param(b'{"a":' * 100_000, "stream_cut", id="too deep"),
    ],
)
def test_a_body_that_is_no_reply(body: bytes, code: str) -> None:
    """A 200 that carries no reply is a fault that may be tried elsewhere; an error in it is kept."""
    deltas, ended = decoded(body, PROVIDER.decoder(request(stream=False), {}, 0))

    assert isinstance(ended, Fault)
    assert ([], code, 502, True) == (deltas, ended.code, ended.status, ended.retryable)
    assert (body if code == "provider_error" else b"") == ended.body


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_make_it_raise(data: bytes, stream: bool) -> None:
    """Whatever a provider sends, the reply ends, and nothing was invented."""
    deltas, ended = decoded(data, PROVIDER.decoder(request(stream=stream), {}, 0))

    assert isinstance(ended, End | Fault)
    assert data.startswith(b"".join(delta.frame for delta in deltas))


# --- the real thing -------------------------------------------------------------------------------------------------

FILES = ("openai", "azure-openai", "groq", "deepseek", "mistral", "openrouter", "ollama", "others")
COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "reasoning_tokens": "reasoning_tokens",
}


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Read the recorded chat replies, errors left out, of every vendor that speaks the format."""
    found: list[dict[str, Any]] = []
    for name in FILES:
        with gzip.open(folder / "cassettes" / f"{name}.jsonl.gz") as lines:
            found += [record for record in map(json.loads, lines) if record["endpoint"] == "chat.completions"]
    return [record for record in found if record["response"]["status"] < 400 and record["expect"]]


def check_replay(record: dict[str, Any]) -> None:
    """Send one recorded reply through decoder and gate, and compare with what its body is known to say."""
    data, expect = record["response"]["body"].encode(), record["expect"]
    asked = json.loads(record["request"]["body"])
    gate, decoder = Gate(), PROVIDER.decoder(request(stream=record["stream"], choices=asked.get("n") or 1), {}, 0)

    deltas, ended = decoded(data, decoder)
    out = [out for delta in deltas for out in passed(gate, delta)] + gate.release()

    reply = gate.replies()[0]
    made = [{"name": call.name, "arguments": call.arguments} for call in reply.tool_calls if call.index >= 0]
    assert (End(), data) == (ended, b"".join(delta.frame for delta in out))
    said = {} if record["stream"] else json.loads(data)["choices"][0].get("message", {})
    spoken = (said.get("audio") or {}).get("transcript")
    assert (expect.get("text") or spoken or "", expect.get("finish") or "") == (reply.text, reply.finish_reason)
    assert (expect.get("tool_calls") or []) == made
    used = last_usage(deltas)
    counted = {name: getattr(used, ours) for name, ours in COUNTS.items()} if used else {}
    assert {name: n for name, n in (expect.get("usage") or {}).items() if name in COUNTS and n} == {
        name: n for name, n in counted.items() if n
    }


def test_recorded_replies_pass_and_are_read(real_data: Path) -> None:
    """Every recorded reply passes byte for byte; its text, calls, end and usage are what its body is known to say."""
    records = recorded(real_data)
    failed = []
    for record in records:
        try:
            check_replay(record)
        except AssertionError as error:
            failed.append((record["id"], str(error)[:300]))

    assert (True, []) == (len(records) > 400, failed)


def test_recorded_streams_cut_at_every_byte(real_data: Path) -> None:
    """The shortest recorded streams, cut at every byte, end only where they are complete."""
    streams = sorted((r["response"]["body"] for r in recorded(real_data) if r["stream"]), key=len)[:8]

    for body in streams:
        check_cuts(body.encode(), 1)
    assert 8 == len(streams)
