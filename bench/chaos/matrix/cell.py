"""Owns what a cell of the fault matrix is written in: what provider and client do, and what must come of it.

A provider's reply is written byte by byte (`Play`), so that nothing between a cell and the wire can put it right. The
good reply is the same everywhere; its usage is what a call is billed for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

CONNECT_S = FIRST_BYTE_S = IDLE_S = 2.0
"""The deadlines under which the cells run."""
DRAIN_S = 3.0
SLACK_S = 1.0
"""How far beyond its deadlines an answer may come: the scorecard's own figure."""

KEY = "sk-canary-5b1f0a94e7c2"
"""The provider's key: it may stand in nothing that anybody gets to see."""

Billed: TypeAlias = Literal["exact", "estimate", "free"]
End: TypeAlias = Literal["whole", "close", "reset", "silence"]


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider writes for one call, and how it leaves the connection."""

    pieces: tuple[bytes, ...] = ()
    """Written one after another: the whole of the wire, head and framing included."""
    gap_s: float = 0.0
    """Between two pieces."""
    slice: int = 0
    """Bytes that are written at once; 0: a piece at once."""
    end: End = "whole"


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What must come of a call."""

    status: int = 200
    """0: the client has left and hears nothing."""
    code: str = ""
    """Of the error object, or of the error event at a stream's end; empty: there is none."""
    body: bytes | None = None
    """What the client must get, to the byte, an error event at its end aside; None: any beginning of `begins`."""
    begins: bytes = b""
    """What the provider sent, of which the client may get whole events."""
    state: str = "complete"
    """Of the record; empty: no call was made, so nothing is on record."""
    billed: Billed = "exact"
    calls: int = 1
    """How many times a provider was asked, the one that takes over included."""
    within_s: float = 0.0
    """The deadlines that have to run out first."""
    headers: tuple[tuple[str, str], ...] = ()
    """What the reply's head must have."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One cell: a fault, in one variation."""

    row: int
    """Of the fault matrix."""
    fault: str
    why: str
    """Why this is what has to come of it."""
    expected: Expected
    stream: bool = False
    place: str = "raw"
    """Where the model is: the provider that plays, or an address at which something else is wrong."""
    play: Play = Play()
    falls_back: bool = False
    """A second target stands behind the first, and is well."""
    judged: bool = False
    """Policy looks at the whole reply before it leaves."""
    leaves: int | None = None
    """The client leaves after so many bytes of the reply's body; -1: before there is any."""
    resets: bool = False
    """It leaves with a RST."""
    body: bytes | None = None
    """The body of the request, where that is what is wrong."""
    request_headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    @property
    def heavy(self) -> bool:
        """Say whether it is so much that others would be late beside it: such cells are played one after another."""
        return len(self.body or b"") + sum(map(len, self.play.pieces)) > 500_000

    def late(self, took_s: float) -> bool:
        """Say whether an answer came too late."""
        return self.expected.status != 0 and took_s > self.expected.within_s + SLACK_S

    @property
    def name(self) -> str:
        """Say which cell this is."""
        marks = ["streamed" if self.stream else "whole"]
        marks += ["falls back"] * self.falls_back + ["judged"] * self.judged
        return f"{self.row}: {self.fault} ({', '.join(marks)})"


# --- the good reply -------------------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
NANOUSD = 7 * 1_000 + 5 * 2_000
"""What a call costs at the configuration's prices."""
DONE = b"data: [DONE]\n\n"


def event(tree: dict[str, object]) -> bytes:
    """Return one event."""
    return (
        b"data: " + msgspec.json.encode({"id": "c", "object": "chat.completion.chunk", "model": "m", **tree}) + b"\n\n"
    )


def delta(says: dict[str, object], finish: str | None = None) -> bytes:
    """Return the event of one delta."""
    return event({"choices": [{"index": 0, "delta": says, "finish_reason": finish}]})


ROLE, HE, LLO, STOP = (
    delta({"role": "assistant", "content": ""}),
    delta({"content": "Hé"}),
    delta({"content": "llo"}),
    delta({}, "stop"),
)
TOLD = event({"choices": [], "usage": USAGE})
EVENTS = (ROLE, HE, LLO, STOP, TOLD, DONE)
DOCUMENT = msgspec.json.encode(
    {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Héllo"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
)


def chunked(body: Sequence[bytes], kind: str = "text/event-stream", *lines: str) -> tuple[bytes, ...]:
    """Frame a reply in HTTP chunks."""
    head = _head("200 OK", kind, "transfer-encoding: chunked", *lines)
    return (head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in body if piece), b"0\r\n\r\n")


def sized(body: bytes, kind: str = "application/json", *lines: str, status: str = "200 OK") -> tuple[bytes, ...]:
    """Frame a reply by its length."""
    return (_head(status, kind, f"content-length: {len(body)}", *lines), body)


def unframed(body: Sequence[bytes], kind: str = "text/event-stream") -> tuple[bytes, ...]:
    """Frame a reply by the end of the connection."""
    return (_head("200 OK", kind, "connection: close"), *body)


def _head(status: str, kind: str, *lines: str) -> bytes:
    kinds = [f"content-type: {kind}"] if kind else []
    return "\r\n".join([f"HTTP/1.1 {status}", *kinds, *lines, "", ""]).encode("latin-1")


def good(stream: bool) -> tuple[bytes, ...]:
    """Return the good reply on the wire."""
    return chunked(EVENTS) if stream else sized(DOCUMENT)


def body_of(stream: bool) -> bytes:
    """Return the good reply's body."""
    return b"".join(EVENTS) if stream else DOCUMENT


# --- variations -----------------------------------------------------------------------------------------------------


def both(cell: Cell) -> Iterator[Cell]:
    """Yield a cell unstreamed and streamed."""
    yield replace(cell, stream=False)
    yield replace(cell, stream=True)


def rescued(cell: Cell, within_s: float | None = None) -> Iterator[Cell]:
    """Yield a cell whose call fails, and the one in which a second target takes it over before the first byte."""
    yield cell
    expected = cell.expected
    yield replace(
        cell,
        falls_back=True,
        why=f"{cell.why} Nothing has left yet, so the next target is asked.",
        expected=replace(
            expected,
            status=200,
            code="",
            body=body_of(cell.stream),
            state="complete",
            calls=expected.calls + 1,
            within_s=expected.within_s if within_s is None else within_s,
            headers=(),
        ),
    )
