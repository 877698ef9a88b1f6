"""Owns row 6 of the fault matrix: providers that refuse, with every form of Retry-After and of body."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.matrix.cell import KEY, Cell, Expected, Play, both, rescued, sized

ERROR = b'{"error":{"message":"Scripted.","type":"scripted_error","param":null,"code":"scripted"}}'
REASONS = {
    400: "It is the client's own fault: its status, and nobody else is asked.",
    404: "The client named a model that is not there: its status, and nobody else is asked.",
    408: "The provider gave up: its status, after others were asked.",
    409: "A conflict passes: its status, after others were asked.",
    413: "It is the client's own fault: its status, and nobody else is asked.",
    422: "It is the client's own fault: its status, and nobody else is asked.",
    429: "The provider has no room: its status and how long to wait, after others were asked.",
    500: "The provider failed: 502, after others were asked.",
    502: "The provider failed: 502, after others were asked.",
    503: "The provider has no room: 502, after others were asked.",
    504: "The provider was too late: 504, after others were asked.",
    529: "The provider is overloaded: 502, after others were asked.",
}
FINAL = {400, 404, 413, 422}
WAITS = {
    "seconds": "retry-after: 7",
    "a date": "retry-after: Fri, 31 Dec 2027 23:59:59 GMT",
    "milliseconds": "retry-after-ms: 250",
    "a negative number": "retry-after: -5",
    "1e9": "retry-after: 1000000000",
    "NaN": "retry-after: NaN",
    "nothing": "retry-after:",
    "two of them": "retry-after: 1\r\nretry-after-ms: 900",
}
BODIES = {
    "html": (b"<html><body>Bad gateway</body></html>", "upstream_error"),
    "nothing": (b"", "upstream_error"),
    "half an object": (ERROR[:30], "upstream_error"),
    "an error that is a text": (b'{"error":"no room"}', "upstream_error"),
    "a list": (b"[1,2]", "upstream_error"),
    "broken UTF-8": (b'{"error":{"message":"\xff\xfe","code":"scripted"}}', "scripted"),
    "1 MB": (b'{"error":{"code":"scripted","message":"%b"}}' % (b"x" * 1_000_000), "scripted"),
    "the key that it was sent": (b'{"error":{"code":"echo","message":"bad key %b"}}' % KEY.encode(), "upstream_error"),
}


def mapped(status: int) -> int:
    """Return what a client is told: its own faults as they are, the provider's as a gateway's."""
    return status if 400 <= status < 500 or status == 504 else 502


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for status, why in REASONS.items():
        yield from _refusals(f"answers {status}", why, status, ERROR, "scripted")
    for name, header in WAITS.items():
        told = tuple(
            (line.partition(": ")[0], line.partition(": ")[2]) for line in header.split("\r\n") if ": " in line
        )
        for status in (429, 503):
            why = (
                "How long to wait is between the client and the provider: passed on as it came, never waited for here."
            )
            yield from _refusals(f"answers {status}, Retry-After: {name}", why, status, ERROR, "scripted", header, told)
    for name, (body, code) in BODIES.items():
        for status in (429, 500):
            why = "What can be read of an error is told; what cannot is not passed on, nor is a key."
            yield from _refusals(f"answers {status} with {name}", why, status, body, code)
    for status in (401, 403):
        expected = Expected(status=502, code="provider_auth", state="fault", billed="free")
        play = Play(pieces=sized(ERROR, status=f"{status} No"))
        why = "Handrail's own key was refused: nothing that the client sent is wrong, and it must not try again."
        yield from both(Cell(row=6, fault=f"answers {status}", why=why, play=play, expected=expected))
    for status in (301, 302, 307, 308):
        expected = Expected(status=502, code="upstream_error", state="fault", billed="free")
        play = Play(pieces=sized(b"", "text/html", "location: http://127.0.0.1:1/elsewhere", status=f"{status} There"))
        why = "A key goes nowhere but where the configuration says: a redirect is a fault."
        yield from both(Cell(row=6, fault=f"answers {status}", why=why, play=play, expected=expected))


def _refusals(
    fault: str,
    why: str,
    status: int,
    body: bytes,
    code: str,
    header: str = "",
    told: tuple[tuple[str, str], ...] = (),
) -> Iterator[Cell]:
    play = Play(pieces=sized(body, "application/json", *filter(None, [header]), status=f"{status} No"))
    expected = Expected(status=mapped(status), code=code, state="fault", billed="free", headers=told)
    for cell in both(Cell(row=6, fault=fault, why=why, play=play, expected=expected)):
        if status in FINAL:
            yield cell
        else:
            yield from rescued(cell)
