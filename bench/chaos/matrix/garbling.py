"""Owns row 7 of the fault matrix: a status of 200, and a body that is not what was asked for, or in an odd spelling."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.matrix.cell import (
    DOCUMENT,
    DONE,
    EVENTS,
    HE,
    KEY,
    LLO,
    ROLE,
    STOP,
    TOLD,
    Cell,
    Expected,
    Play,
    both,
    chunked,
    delta,
    event,
    good,
    rescued,
    sized,
    unframed,
)

BODY = b"".join(EVENTS)
PASSES = "A client reads it as we do, so it passes, to the byte."
AMBIGUOUS = "Clients read it in different ways: it passes where nobody judges it, and fails where somebody has to."
FAILS = "It is no reply, so the call has failed; the provider answered, so it is booked by an estimate."
ERROR = b'{"error":{"message":"Overloaded.","type":"overloaded_error","code":"overloaded"}}'
LONG = delta({"content": "x" * 1_000_000})

CLEAR: dict[str, bytes] = {
    "lines end in CRLF": BODY.replace(b"\n", b"\r\n"),
    "lines end in CR": BODY.replace(b"\n", b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "comments between events": BODY.replace(b"\n\n", b"\n\n: ping\n\n"),
    "comments inside of events": BODY.replace(b"data:", b": so\ndata:"),
    "event, id and retry lines": BODY.replace(b"data:", b"event: message\nid: 7\nretry: 10\ndata:"),
    "no blank after the colon": BODY.replace(b"data: ", b"data:"),
    "data in several lines": BODY.replace(b',"choices"', b',\ndata: "choices"'),
    "empty events": BODY.replace(b"\n\n", b"\n\n\n\n"),
    "an empty data line": b"data:\n\n" + BODY,
    "words that are not JSON": b"data: hello\n\n" + BODY,
    "a line of 1 MB": b"".join((ROLE, LONG, STOP, TOLD, DONE)),
    "no choices at first": event({"choices": [], "prompt_filter_results": []}) + BODY,
    "unknown fields": BODY.replace(b'"model"', b'"x_new":{"a":[1,null]},"model"'),
    "the usage twice": b"".join(
        (ROLE, HE, event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}), LLO, STOP, TOLD, DONE)
    ),
    "a comment after [DONE]": BODY + b": bye\n\n",
}
UNCLEAR: dict[str, bytes] = {
    "half an object": b"".join((ROLE, b'data: {"id":"c","choices":[\n\n', HE, LLO, STOP, TOLD, DONE)),
    "broken UTF-8": BODY.replace("é".encode(), b"\xff"),
    "a key twice": BODY.replace(b'{"content":"llo"}', b'{"content":"llo","content":"LLO"}'),
    "a choice that was not asked for": BODY.replace(LLO, LLO.replace(b'"index":0', b'"index":5')),
}
FRAMED = {
    "one byte at a time": Play(pieces=chunked(EVENTS), slice=1),
    "seven bytes at a time": Play(pieces=chunked(EVENTS), slice=7),
    "all at once": Play(pieces=(b"".join(chunked(EVENTS)),)),
    "chunks of one byte": Play(pieces=chunked([bytes([byte]) for byte in BODY])),
    "framed by a length": Play(pieces=sized(BODY, "text/event-stream")),
    "framed by the end": Play(pieces=unframed(EVENTS), end="close"),
    "chunk extensions": Play(
        pieces=tuple(p.replace(b"\r\n", b";x=y\r\n", 1) if n else p for n, p in enumerate(chunked(EVENTS)))
    ),
    "trailers": Play(pieces=(*chunked(EVENTS)[:-1], b"0\r\nx-checked: yes\r\n\r\n")),
    "after 100 and 103": Play(
        pieces=(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", *chunked(EVENTS))
    ),
    "as application/json": Play(pieces=chunked(EVENTS, "application/json")),
    "as text/plain": Play(pieces=chunked(EVENTS, "text/plain")),
    "without a content type": Play(pieces=chunked(EVENTS, "")),
    "with cookies": Play(pieces=chunked(EVENTS, "text/event-stream", f"set-cookie: a={KEY}")),
}
NO_REPLY = {
    "html": (b"<!doctype html>\n<html>\n<body>Sign in</body></html>", "text/html"),
    "nothing": (b"", "application/json"),
    "a text": (b"OK", "text/plain"),
    "a list": (b"[1,2]", "application/json"),
    "null": (b"null", "application/json"),
    "half an object": (DOCUMENT[:40], "application/json"),
    "UTF-16": (DOCUMENT.decode().encode("utf-16"), "application/json"),
}
DOCUMENTS = {
    "a byte order mark": b"\xef\xbb\xbf" + DOCUMENT,
    "blanks around it": b" \r\n" + DOCUMENT + b"\n\n",
    "many lines": DOCUMENT.replace(b",", b",\n  "),
    "1 MB": DOCUMENT.replace("Héllo".encode(), b"x" * 1_000_000),
    "unknown fields": DOCUMENT.replace(b'"model"', b'"x_new":{"a":[1,null]},"model"'),
}


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    yield from _spellings()
    yield from _framings()
    yield from _no_replies()
    yield from _errors()
    yield from _unreadable()


def _spellings() -> Iterator[Cell]:
    for judged in (False, True):
        for fault, body in CLEAR.items():
            yield _streamed(fault, PASSES, body, judged=judged)
        for fault, body in DOCUMENTS.items():
            yield Cell(
                row=7,
                fault=fault,
                why=PASSES,
                judged=judged,
                play=Play(pieces=sized(body)),
                expected=Expected(body=body),
            )
    for fault, body in UNCLEAR.items():
        yield _streamed(fault, AMBIGUOUS, body)
        unclear = Expected(status=502, code="reply_ambiguous", state="fault")
        yield Cell(
            row=7,
            fault=fault,
            why=AMBIGUOUS,
            stream=True,
            judged=True,
            play=Play(pieces=chunked((body,))),
            expected=unclear,
        )


def _streamed(fault: str, why: str, body: bytes, *, judged: bool = False) -> Cell:
    play = Play(pieces=chunked((body,)))
    return Cell(row=7, fault=fault, why=why, stream=True, judged=judged, play=play, expected=Expected(body=body))


def _framings() -> Iterator[Cell]:
    for judged in (False, True):
        for fault, play in FRAMED.items():
            yield Cell(
                row=7, fault=fault, why=PASSES, stream=True, judged=judged, play=play, expected=Expected(body=BODY)
            )


def _no_replies() -> Iterator[Cell]:
    expected = Expected(status=502, code="stream_cut", state="fault", billed="estimate")
    for fault, (body, kind) in NO_REPLY.items():
        play = Play(pieces=sized(body, kind))
        for cell in both(Cell(row=7, fault=f"200 with {fault}", why=FAILS, play=play, expected=expected)):
            yield from rescued(cell)
    document = Cell(
        row=7, fault="a document for a stream", why=FAILS, stream=True, play=Play(pieces=good(False)), expected=expected
    )
    yield from rescued(document)
    stream = Cell(row=7, fault="a stream for a document", why=FAILS, play=Play(pieces=good(True)), expected=expected)
    yield from rescued(stream)
    packed = Cell(
        row=7,
        fault="compressed although it was asked not to be",
        why="Nobody could judge it. The provider answered, so it is booked by an estimate; it would answer so again.",
        play=Play(pieces=sized(b"\x1f\x8b\x08", "application/json", "content-encoding: gzip")),
        expected=Expected(status=502, code="compressed", state="fault", billed="estimate"),
    )
    yield from both(packed)


def _errors() -> Iterator[Cell]:
    expected = Expected(status=502, code="overloaded", state="fault", billed="estimate")
    why = "The provider says itself that it failed: its own words, under a status that says so."
    yield from rescued(
        Cell(row=7, fault="200 with an error object", why=why, play=Play(pieces=sized(ERROR)), expected=expected)
    )
    for fault, frame in (
        ("an error event", b"data: " + ERROR + b"\n\n"),
        ("a typed error event", b"event: error\ndata: " + ERROR + b"\n\n"),
    ):
        first = Play(pieces=chunked((frame,)))
        yield from rescued(Cell(row=7, fault=f"{fault} first", why=why, stream=True, play=first, expected=expected))
        for judged in (False, True):
            midway = Expected(code="overloaded", begins=ROLE + HE, state="fault", billed="estimate")
            yield Cell(
                row=7,
                fault=f"{fault} after some text",
                why="What has left stands; the provider's own event ends it, and no end marker follows.",
                stream=True,
                judged=judged,
                play=Play(pieces=chunked((ROLE, HE, frame)), gap_s=0.05),
                expected=expected if judged else midway,
            )


def _unreadable() -> Iterator[Cell]:
    for fault, code, frame in (
        ("an event of 9 MB", "event_too_large", delta({"content": "x" * 9_000_000})),
        ("an event nested 600 deep", "event_unreadable", b"data: " + b"[" * 600 + b"\n\n"),
    ):
        play = Play(pieces=chunked((ROLE, HE, frame, DONE)))
        why = "What cannot be judged does not pass, whoever would judge it."
        expected = Expected(code=code, begins=ROLE + HE, state="fault", billed="estimate")
        yield Cell(row=7, fault=fault, why=why, stream=True, play=play, expected=expected)
        held = Expected(status=502, code=code, state="fault", billed="estimate")
        yield Cell(row=7, fault=fault, why=why, stream=True, judged=True, play=play, expected=held)
