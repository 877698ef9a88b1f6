"""Owns the provider that rows call: an OpenAI-compatible server in a process of its own, which keeps its own bill.

Usage: python -m bench.chaos.provider --bill FILE [--seed 1] [--port 0]. Prints its port and serves until it is killed.
A call goes as its `metadata.provider` says (the JSON text of a `Script`), else as the newest script that was POSTed to
`/script`. What it says and charges follows from its seed and the bytes of the request, whenever they arrive.

The bill has a line for each call that has arrived whole, written before the first byte of the answer: a `Charge`. It
is what the provider will charge, whatever becomes of the reply or of who asked. A second line, an `Ending`, says how
far the reply got.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
"""Prices per token: 1 and 2 USD per million."""
MOST_INPUT, MOST_OUTPUT = 50, 100
"""Tokens that a call is charged for, unless its script says otherwise."""

ROOT = Path(__file__).parents[2]
End: TypeAlias = Literal["whole", "close", "reset", "stall"]
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RESET = struct.pack("ii", 1, 0)


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a call is to go. Pieces are what is written at once: the head, then the body or its events."""

    status: int = 200
    headers: dict[str, str] = {}
    """Besides the content type, or instead of it."""
    body: str | None = None
    """This text instead of a reply, streamed or not."""
    texts: tuple[str, ...] = ("Hel", "lo", " there")
    """What it says; streamed, one event each."""
    usage: dict[str, int] | None = None
    """Report this usage, which is not what is charged."""
    no_usage: bool = False
    tokens: tuple[int, int] | None = None
    """Charge for so many tokens of input and output."""
    no_done: bool = False
    """End a stream without `[DONE]`."""
    wait_ms: int = 0
    """Before the head."""
    gap_ms: int = 0
    """Before each piece of the body."""
    pace_ms: int = 0
    """Before each piece some time up to this, by chance."""
    slice: int = 0
    """Write so many bytes at once."""
    after: int = 0
    """Pieces after which `end` comes, if it is not `whole`."""
    end: End = "whole"
    """Whether the reply comes to its end, or the connection is closed, reset, or silent for ever."""


class Charge(msgspec.Struct, frozen=True, kw_only=True, tag="charge"):
    """A call that arrived, and what it costs: a call that fails costs nothing."""

    call: int
    digest: str
    """BLAKE2b of the request's body, 16 bytes in hexadecimal digits."""
    user: str
    """The request's `user`: who asked can tell its calls by it."""
    status: int
    input_tokens: int
    output_tokens: int
    nanousd: int
    at_ms: int
    reported: bool = True
    """Whether the reply reports just these tokens."""


class Ending(msgspec.Struct, frozen=True, kw_only=True, tag="ending"):
    """How far a reply got: `gone` if who asked left before the end."""

    call: int
    end: End | Literal["gone"]
    pieces: int
    output_tokens: int
    """What had been said by then, of what was charged."""


Line: TypeAlias = Charge | Ending


class Asked(msgspec.Struct, frozen=True):
    """What is read of a request."""

    stream: Any = False
    user: Any = ""
    metadata: Any = None


# --- answering ------------------------------------------------------------------------------------------------------


class Provider:
    """Answers calls; each connection is served in a task of its own."""

    def __init__(self, bill: int, seed: int) -> None:
        self._bill = bill
        self._seed = seed
        self._calls = 0
        self._script = Script()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        with suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith(b"POST /script "):
                    self._script = msgspec.json.decode(body, type=Script)
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                elif not await self._answer(body, reader, writer):
                    break
        writer.close()

    async def _answer(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a call; say whether the connection can go on."""
        asked = msgspec.json.decode(body, type=Asked)
        told = (asked.metadata or {}).get("provider")
        script = msgspec.json.decode(told, type=Script) if told else self._script
        name = hashlib.blake2b(body, digest_size=16).hexdigest()
        dice = random.Random(f"{self._seed} {name}")  # noqa: S311 - a schedule, not a secret
        charge = self._charge(script, name, str(asked.user), dice)
        self._write(charge)
        planned = pieces(script, charge, stream=bool(asked.stream))
        written = 0
        try:
            for piece in planned[: None if script.end == "whole" else script.after]:
                await asyncio.sleep(_pause_s(script, written, dice))
                if reader.at_eof():
                    break
                await _send(writer, piece, script.slice)
                written += 1
        finally:
            # Of a streamed reply the head and the role come before the texts; of another the body comes at once.
            got = said(script, charge, written - 2 if asked.stream else len(script.texts) * (written > 1))
            end = script.end if script.end != "whole" or written == len(planned) else "gone"
            self._write(Ending(call=charge.call, end=end, pieces=written, output_tokens=got))
        return await _go_on(reader, writer, script.end)

    def _charge(self, script: Script, name: str, user: str, dice: random.Random) -> Charge:
        self._calls += 1
        sent, got = script.tokens or (dice.randint(1, MOST_INPUT), dice.randint(1, MOST_OUTPUT))
        if script.status != 200:
            sent = got = 0
        return Charge(
            call=self._calls,
            digest=name,
            user=user,
            status=script.status,
            input_tokens=sent,
            output_tokens=got,
            nanousd=sent * INPUT_NANOUSD + got * OUTPUT_NANOUSD,
            at_ms=time.time_ns() // 1_000_000,
            reported=script.status == 200 and script.body is None and script.usage is None and not script.no_usage,
        )

    def _write(self, line: Line) -> None:
        os.write(self._bill, msgspec.json.encode(line) + b"\n")


def said(script: Script, charge: Charge, texts: int) -> int:
    """Return how many of the tokens that were charged some of the texts are."""
    share = min(max(texts, 0), len(script.texts)) / max(len(script.texts), 1)
    return int(charge.output_tokens * share)


def _pause_s(script: Script, number: int, dice: random.Random) -> float:
    pause_ms = script.gap_ms if number else script.wait_ms
    return (pause_ms + dice.random() * script.pace_ms) / 1000


async def _send(writer: asyncio.StreamWriter, piece: bytes, size: int) -> None:
    for start in range(0, len(piece), size or len(piece) or 1):
        writer.write(piece[start : start + (size or len(piece))])
        await writer.drain()


async def _go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: End) -> bool:
    """End the connection as the script says; say whether it can take another call."""
    if end == "stall":
        while await reader.read(65536):
            pass
    if end == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
    return end == "whole"


# --- what is answered -----------------------------------------------------------------------------------------------


def pieces(script: Script, charge: Charge, *, stream: bool) -> list[bytes]:
    """Return a reply: its head, then its body, or one piece per event."""
    if script.status != 200 or script.body is not None or not stream:
        kind = "text/event-stream" if stream and script.status == 200 else "application/json"
        body = (_failure(script) if script.status != 200 else _reply(script, charge)) if script.body is None else None
        data = script.body.encode() if script.body is not None else msgspec.json.encode(body)
        return [_head(script, kind, f"content-length: {len(data)}"), data]
    head = _head(script, "text/event-stream", "transfer-encoding: chunked")
    events = [msgspec.json.encode(event) for event in _events(script, charge)]
    done = [] if script.no_done else [b"[DONE]"]
    last = b"0\r\n\r\n"
    chunks = [_chunk(b"data: %b\n\n" % data) for data in [*events, *done]]
    return [head, *chunks[:-1], chunks[-1] + last]


def _head(script: Script, kind: str, framing: str) -> bytes:
    phrase = http.HTTPStatus(script.status).phrase
    lines = [f"{name}: {value}" for name, value in {"content-type": kind, **script.headers}.items()]
    return "\r\n".join([f"HTTP/1.1 {script.status} {phrase}", *lines, framing, "\r\n"]).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _usage(script: Script, charge: Charge) -> dict[str, int]:
    total = charge.input_tokens + charge.output_tokens
    charged = {"prompt_tokens": charge.input_tokens, "completion_tokens": charge.output_tokens, "total_tokens": total}
    return charged if script.usage is None else script.usage


def _failure(script: Script) -> dict[str, object]:
    return {"error": {"message": f"Failed with {script.status}.", "type": "api_error", "code": "scripted"}}


def _reply(script: Script, charge: Charge) -> dict[str, object]:
    message = {"role": "assistant", "content": "".join(script.texts)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {} if script.no_usage else {"usage": _usage(script, charge)}
    return {"id": f"chatcmpl-{charge.call}", "object": "chat.completion", "model": "m", "choices": choices, **usage}


def _events(script: Script, charge: Charge) -> Iterator[dict[str, object]]:
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": t} for t in script.texts), {}]
    base = {"id": f"chatcmpl-{charge.call}", "object": "chat.completion.chunk", "model": "m"}
    for number, delta in enumerate(deltas, 1):
        finish = "stop" if number == len(deltas) else None
        yield {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    if not script.no_usage:
        yield {**base, "choices": [], "usage": _usage(script, charge)}


# --- the process ----------------------------------------------------------------------------------------------------


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A provider with a bill of its own.")
    parser.add_argument("--bill", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    bill = os.open(chosen.bill, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    server = await asyncio.start_server(
        Provider(bill, chosen.seed).serve, "127.0.0.1", chosen.port, limit=1 << 24, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class FakeProvider:
    """A provider in a process of its own, for rows: `with FakeProvider(folder) as provider`."""

    def __init__(self, folder: Path, *, seed: int = 1) -> None:
        self.bill = folder / "bill.jsonl"
        """Goes on where an earlier provider of this folder ended."""
        self.url = ""
        self.port = 0
        self._command = [sys.executable, "-m", __spec__.name, "--bill", str(self.bill), "--seed", str(seed)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> FakeProvider:
        process = subprocess.Popen(
            [*self._command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._process = process
        if process.stdout is None or not (port := process.stdout.readline()):
            raise RuntimeError("the provider did not start")
        self.port = int(port)
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()

    def script(self, script: Script) -> None:
        """Say how calls go from now on that say nothing themselves."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            connection.request("POST", "/script", msgspec.json.encode(script))
            connection.getresponse().read()

    def lines(self) -> list[Line]:
        """Return the bill so far."""
        decoder = msgspec.json.Decoder(Line)
        return [decoder.decode(line) for line in self.bill.read_bytes().splitlines()]

    def charges(self) -> list[Charge]:
        """Return the calls that arrived so far."""
        return [line for line in self.lines() if isinstance(line, Charge)]


if __name__ == "__main__":
    asyncio.run(main())
