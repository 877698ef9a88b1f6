"""Owns rows 3 and 4 of the fault matrix: replies that stop or break off once they have begun."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.matrix.cell import (
    DOCUMENT,
    DONE,
    EVENTS,
    HE,
    IDLE_S,
    LLO,
    ROLE,
    STOP,
    TOLD,
    Billed,
    Cell,
    End,
    Expected,
    Play,
    chunked,
    sized,
    unframed,
)

HALF = HE[: len(HE) // 2]
BEGUN = (
    "What was passed on stands, and an error event says that it is not whole; no end is made up, nobody is asked again."
)
STALLS: dict[str, tuple[tuple[bytes, ...], Billed]] = {
    "after the role": ((ROLE,), "estimate"),
    "after some text": ((ROLE, HE), "estimate"),
    "in the middle of an event": ((ROLE, HALF), "estimate"),
    "in the middle of a letter": ((ROLE, HE[: HE.index("é".encode()) + 1]), "estimate"),
    "after the finish reason": ((ROLE, HE, LLO, STOP), "estimate"),
    "after the usage": ((ROLE, HE, LLO, STOP, TOLD), "exact"),
}
"""By place: what has come, and what is known of the usage."""
PING = b": ping\n\n"
WIRE = b"".join(chunked(EVENTS))
BROKEN_CHUNKS = {
    "a chunk size that is no number": b"zz\r\n",
    "a chunk that is longer than its size": b"2\r\nabcdef\r\n",
    "a chunk size of 2^64": b"fffffffffffffffff\r\nx",
}


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    yield from _stalls()
    yield from _breaks()


def _stalls() -> Iterator[Cell]:
    for place, (body, billed) in STALLS.items():
        yield from _cut(3, f"stalls {place}", body, "silence", "idle_timeout", billed, IDLE_S)
    head = Cell(
        row=3,
        fault="stalls after its head",
        stream=True,
        why="A head has come, but nothing of it has left. The provider was at work, so it is booked by an estimate.",
        play=Play(pieces=chunked(())[:1], end="silence"),
        expected=Expected(status=504, code="idle_timeout", state="fault", billed="estimate", within_s=IDLE_S),
    )
    yield head
    yield Cell(
        row=3,
        fault="stalls in its body",
        why="Of an unstreamed reply nothing leaves before it is whole.",
        play=Play(pieces=(sized(DOCUMENT)[0], DOCUMENT[:40]), end="silence"),
        expected=Expected(status=504, code="idle_timeout", state="fault", billed="estimate", within_s=IDLE_S),
    )
    yield Cell(
        row=3,
        fault="stalls after [DONE]",
        stream=True,
        why="The reply has come to its own end: what the connection does then takes nothing from it.",
        play=Play(pieces=chunked(EVENTS)[:-1], end="silence"),
        expected=Expected(body=b"".join(EVENTS), within_s=IDLE_S),
    )
    pinged = (ROLE, *[PING] * 6, HE, LLO, STOP, TOLD, DONE)
    for judged in (False, True):
        yield Cell(
            row=3,
            fault="thinks for longer than the deadline, and pings",
            stream=True,
            judged=judged,
            why="Any byte is a sign of life.",
            play=Play(pieces=chunked(pinged), gap_s=IDLE_S * 0.3),
            expected=Expected(body=b"".join(pinged), within_s=IDLE_S * 0.3 * (len(pinged) + 1)),
        )


def _breaks() -> Iterator[Cell]:
    for place, (body, billed) in STALLS.items():
        yield from _cut(4, f"closes {place}", body, "close", "stream_cut", billed)
        yield from _cut(4, f"resets {place}", body, "reset", "stream_cut", billed)
    for name, chunk in BROKEN_CHUNKS.items():
        yield Cell(
            row=4,
            fault=name,
            stream=True,
            why=BEGUN,
            play=Play(pieces=(*chunked((ROLE, HE))[:-1], chunk), gap_s=0.05, end="close"),
            expected=Expected(code="protocol_error", begins=ROLE + HE, state="fault", billed="estimate"),
        )
    for name, ends in (("chunked", chunked), ("until close", unframed)):
        for place, body, code in (
            ("after some text", (ROLE, HE), "stream_cut"),
            ("after the finish reason", (ROLE, HE, LLO, STOP, TOLD), ""),
        ):
            whole = "Its finish reason was the last: the reply is whole, and its end marker is not made up."
            yield Cell(
                row=4,
                fault=f"ends in order without [DONE] {place}, {name}",
                stream=True,
                why=BEGUN if code else whole,
                play=Play(pieces=ends(body), end="whole" if ends is chunked else "close"),
                expected=Expected(
                    code=code,
                    body=b"".join(body),
                    state="fault" if code else "complete",
                    billed="estimate" if code else "exact",
                ),
            )
    for end in ("close", "reset"):
        cut = Cell(
            row=4,
            fault=f"{end}s in its body",
            why="Of an unstreamed reply nothing leaves before it is whole.",
            play=Play(pieces=(sized(DOCUMENT)[0], DOCUMENT[:-1]), end=end),
            expected=Expected(status=502, code="stream_cut", state="fault", billed="estimate"),
        )
        yield cut


def _cut(
    row: int, fault: str, body: tuple[bytes, ...], end: End, code: str, billed: Billed, within_s: float = 0.0
) -> Iterator[Cell]:
    """Yield a stream that ends like this, passed on as it comes, and held until it is judged."""
    play = Play(pieces=chunked(body)[:-1], gap_s=0.05, end=end)
    expected = Expected(code=code, begins=b"".join(body), state="fault", billed=billed, within_s=within_s)
    cell = Cell(row=row, fault=fault, stream=True, why=BEGUN, play=play, expected=expected)
    yield cell
    status = 504 if code == "idle_timeout" else 502
    yield Cell(
        row=row,
        fault=fault,
        stream=True,
        judged=True,
        why="Nothing of a reply that is judged whole has left, so the status says what happened.",
        play=play,
        expected=Expected(status=status, code=code, state="fault", billed=billed, within_s=within_s),
    )


def offsets(step: int) -> Iterator[Cell]:
    """Yield the recorded stream, cut after every so many bytes, in order and with a RST."""
    for at in range(0, len(WIRE), step):
        for end in ("close", "reset"):
            yield Cell(
                row=4,
                fault=f"{end}s after {at} bytes",
                stream=True,
                why="Wherever it is cut.",
                play=Play(pieces=(WIRE[:at],), end=end),
                expected=Expected(begins=b"".join(EVENTS)),
            )
