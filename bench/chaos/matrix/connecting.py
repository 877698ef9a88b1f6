"""Owns rows 1 and 2 of the fault matrix: providers that cannot be reached, and those that do not begin to answer."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.matrix.cell import CONNECT_S, FIRST_BYTE_S, Cell, Expected, Play, body_of, both, good, rescued

UNSENT = "Nothing was sent, so nothing can be billed."
PLACES = {
    "refused": ("connect_failed", 0.0, "A closed port answers at once."),
    "dropped": ("connect_timeout", CONNECT_S, "SYNs that nobody answers: a full listen backlog drops them."),
    "unknown host": ("dns_failed", 0.0, "A name under .invalid is never there (RFC 6761)."),
    "impossible host": ("dns_failed", 0.0, "A label has 63 bytes at most."),
    "tls: plain http": ("tls_failed", 0.0, "What answers does not speak TLS."),
    "tls: silent": ("connect_timeout", CONNECT_S, "The handshake is part of connecting."),
    "tls: closes": ("tls_failed", 0.0, "A handshake that is broken off has failed."),
    "tls: unknown authority": ("tls_failed", 0.0, "Whoever signs for himself could be anybody."),
    "tls: another host": ("tls_failed", 0.0, "A certificate is for the host that it names."),
    "tls: expired": ("tls_failed", 0.0, "A certificate has its time."),
}
"""By place: the code, the deadline that runs out, and why."""

HANGS = {
    "silence": Play(end="silence"),
    "half a status line": Play(pieces=(b"HTTP/1.1 2",), end="silence"),
    "half a head": Play(pieces=(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev",), end="silence"),
    "only 100 Continue": Play(pieces=(b"HTTP/1.1 100 Continue\r\n\r\n",), end="silence"),
    "only 103 Early Hints": Play(pieces=(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",), end="silence"),
    "a head byte by byte": Play(
        pieces=(b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 200,), slice=1, gap_s=0.05, end="silence"
    ),
}
ENDS = {
    "closes before it answers": (Play(end="close"), "connection_lost"),
    "resets before it answers": (Play(end="reset"), "connection_lost"),
    "closes in its head": (Play(pieces=(b"HTTP/1.1 200 OK\r\ncontent-",), end="close"), "connection_lost"),
    "resets in its head": (Play(pieces=(b"HTTP/1.1 200 OK\r\ncontent-",), end="reset"), "connection_lost"),
    "speaks another protocol": (Play(pieces=(b"SSH-2.0-OpenSSH_9.2\r\n",), end="close"), "protocol_error"),
    "has a status that is no number": (Play(pieces=(b"HTTP/1.1 abc OK\r\n\r\n",), end="close"), "protocol_error"),
    "has a header without a name": (Play(pieces=(b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",), end="close"), "protocol_error"),
    "has two lengths": (
        Play(pieces=(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",), end="close"),
        "protocol_error",
    ),
    "has a header of 1 MB": (
        Play(pieces=(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 1_000_000 + b"\r\n\r\n",), end="close"),
        "protocol_error",
    ),
    "changes to another protocol": (
        Play(pieces=(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",), end="close"),
        "protocol_error",
    ),
}


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for place, (code, within_s, why) in PLACES.items():
        expected = Expected(status=502, code=code, state="fault", billed="free", within_s=within_s)
        for cell in both(Cell(row=1, fault=place, place=place, why=f"{why} {UNSENT}", expected=expected)):
            yield from rescued(cell)
    well = Cell(
        row=1,
        fault="tls: nothing is wrong",
        place="tls: well",
        why="The authority is one that is trusted.",
        play=Play(pieces=good(False)),
        expected=Expected(body=body_of(False)),
    )
    yield well
    sent = "The request was sent, so the call may be billed: it is booked by an estimate."
    for name, play in HANGS.items():
        expected = Expected(
            status=504, code="first_byte_timeout", state="fault", billed="estimate", within_s=FIRST_BYTE_S
        )
        fault = f"hangs before its head is whole: {name}"
        for cell in both(Cell(row=2, fault=fault, why=f"A head has a deadline. {sent}", play=play, expected=expected)):
            yield from rescued(cell)
    for name, (play, code) in ENDS.items():
        expected = Expected(status=502, code=code, state="fault", billed="estimate")
        for cell in both(Cell(row=4, fault=name, why=f"There is no answer. {sent}", play=play, expected=expected)):
            yield from rescued(cell)
