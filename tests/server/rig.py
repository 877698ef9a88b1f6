"""Owns the rig of the server tests: a scripted hallway behind a real listener, and raw sockets in front of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from proxy.errors import HandrailError, NotFound
from proxy.ports import Client
from proxy.server.data import DataPlane, Part
from proxy.snapshot import Limits
from proxy.terms import Delta, End, Fault, Head, OnDisconnect, RawRequest

WAIT_S = 30.0
"""Longer than anything here takes; a test that needs it all has hung."""
STREAM = Head(status=200, headers={"content-type": "text/event-stream"})
WHOLE = Head(status=200, headers={"content-type": "application/json"})
DONE = End(frame=b"data: [DONE]\n\n")
JSON = b"Host: h\r\nContent-Type: application/json\r\n"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\n" + JSON


def event(text: str) -> Delta:
    """Return one event of a stream."""
    return Delta(frame=f"data: {text}\n\n".encode())


def error_body(error: HandrailError) -> tuple[Head, bytes]:
    """Return an error object as `wire` would make it."""
    fields = {"message": error.message, "type": error.type, "param": error.param or None, "code": error.code}
    head = Head(status=error.status, headers={"content-type": "application/json", **error.headers})
    return head, msgspec.json.encode({"error": fields})


class Hall:
    """A hallway that plays a script and remembers what it saw. A script item is a part, an exception to raise, or a
    callable to await."""

    def __init__(self, *script: Part | Exception | Callable[[], Awaitable[object]]) -> None:
        self.script = script
        self.seen: list[RawRequest] = []
        self.endings: list[str] = []
        """`complete`, or the name of what ended the walk, with `gone` and why where the client had left."""
        self.yielded = 0
        self.then = OnDisconnect.DRAIN
        """What is to become of calls whose client leaves."""

    async def handle(self, raw: RawRequest, client: Client) -> AsyncGenerator[Part, None]:
        """Play the script once."""
        self.seen.append(raw)
        ending = "complete"
        client.leaving(self.then)
        try:
            for item in self.script:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, Head | Delta | End | Fault):
                    self.yielded += 1
                    yield item
                else:
                    await item()
        except BaseException as error:
            ending = type(error).__name__
            raise
        finally:
            self.endings.append(f"{ending} gone {client.given_up}".strip() if client.gone else ending)


def models(raw: RawRequest) -> tuple[Head, bytes]:
    """Answer GET /v1/models."""
    return WHOLE, b'{"object":"list","data":[]}'


def one_model(raw: RawRequest) -> tuple[Head, bytes]:
    """Answer GET /v1/models/{id}: there is one."""
    if not raw.path.endswith("/gpt"):
        raise NotFound("There is no such model.", code="model_not_found")
    return WHOLE, b'{"id":"gpt"}'


class Rig:
    """A data plane that is up, and the bugs it reported."""

    def __init__(self, hall: Hall, limits: Limits) -> None:
        self.bugs: list[BaseException] = []
        self.hall = hall
        local = {"models.list": models, "models.retrieve": one_model}
        self.plane = DataPlane(hall.handle, local, error=error_body, on_bug=self.bugs.append, limits=limits)
        self.address = ""


@asynccontextmanager
async def serving(
    hall: Hall, *, listen: str = "127.0.0.1:0", grace_s: float = 0.0, **limits: float
) -> AsyncIterator[Rig]:
    """Serve a hallway while the context is open."""
    rig = Rig(hall, msgspec.convert(limits, Limits))
    rig.address = await rig.plane.start(listen)
    try:
        yield rig
    finally:
        await rig.plane.shutdown(grace_s)


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a raw connection."""
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def exchange(address: str, *pieces: bytes, gap_s: float = 0.01) -> bytes:
    """Send the pieces one after another, and return all that comes until the server closes."""
    reader, writer = await connect(address)
    try:
        for number, piece in enumerate(pieces):
            await asyncio.sleep(gap_s if number else 0)
            writer.write(piece)
        return await asyncio.wait_for(reader.read(), WAIT_S)
    finally:
        writer.close()


def status_of(reply: bytes) -> int:
    """Return the status of a raw reply; 0 if there is none."""
    return int(reply.split(b" ", 2)[1]) if reply else 0


def replies_in(raw: bytes) -> int:
    """Count the replies in what a server sent."""
    return len(re.findall(rb"HTTP/1\.[01] \d{3} ", raw))


def code_of(reply: bytes) -> str:
    """Return the error code in a raw reply, which must be one error object of JSON."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if b"content-type: application/json" not in head.lower():
        raise AssertionError(f"not JSON: {head!r}")
    return str(msgspec.json.decode(body)["error"]["code"])


async def until(claim: Callable[[], object]) -> None:
    """Wait until a claim holds."""
    async with asyncio.timeout(WAIT_S):
        while not claim():  # noqa: ASYNC110 - what is waited for is state of a socket, which has no event
            await asyncio.sleep(0.002)


def chat(body: bytes = b"{}", *headers: bytes) -> bytes:
    """Return the bytes of one chat request."""
    extra = b"".join(header + b"\r\n" for header in headers)
    return CHAT + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def names(parts: Sequence[object]) -> list[str]:
    """Return the type names of some values."""
    return [type(part).__name__ for part in parts]
