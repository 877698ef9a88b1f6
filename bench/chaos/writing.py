"""Owns a provider that writes its replies a token at a time and charges for what it has written, also if it is left.

A streamed reply ends when whoever asked has gone: the provider notices when it next looks, and has by then written some
tokens more, of which nobody sees anything. A reply that is not streamed is written whole whoever waits, and charged so.

What a call comes to is told by OpenAI's published formulas (cookbook, "How to count tokens with tiktoken") with its own
tokenizer, straight from the JSON: by no code of Handrail's. A `Told` may bring the input that was really charged.
"""

from __future__ import annotations

import asyncio
import binascii
import functools
import gzip
import json
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

import msgspec
import tiktoken

from proxy.accounting.tokens import VOCABULARIES
from proxy.recording import digest

PACE_S = 0.01
"""Between two tokens: a hundred in a second."""
LAG_TOKENS = 8
"""The most that is written between the end of a connection and its being noticed: 80 ms."""
CALL_TOKENS, PARALLEL_TOKENS = 7, 12
"""What frames one tool call, and each of several (recorded calls)."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One call and its reply."""

    body: dict[str, Any]
    """Without `stream` and `user`."""
    reply: dict[str, Any]
    """The message."""
    input_tokens: int = 0
    """What was really charged, where that is known."""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one call is charged for."""

    user: str
    digest: str
    input_tokens: int
    output_tokens: int


class Call:
    """One call as it is under way, for whoever made it."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.events = list(_events(told.reply))
        self.tokens = sum(tokens for _, tokens in self.events)
        self._written = -1
        self._more = asyncio.Event()

    def wrote(self, events: int) -> None:
        """Note how many events are written; 0: the call has come."""
        self._written = events
        self._more.set()

    async def reached(self, events: int) -> None:
        """Wait until so many events are written."""
        while self._written < events:
            await self._more.wait()
            self._more.clear()


class Writer:
    """The provider."""

    def __init__(self, dice: random.Random) -> None:
        self.bill: list[Charge] = []
        self._calls: dict[str, Call] = {}
        self._dice = dice

    def expect(self, user: str, told: Told) -> Call:
        """Take down what a call with this `user` is answered."""
        call = self._calls[user] = Call(told)
        return call

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve on a port of this machine, which is given."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                await self._answer(body, reader, writer)
        writer.close()

    async def _answer(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(body)
        call = self._calls[asked["user"]]
        sent = call.told.input_tokens or asked_tokens(asked)
        call.wrote(0)
        got = 0
        try:
            if asked.get("stream"):
                async for tokens in self._streamed(call, sent, reader, writer):
                    got = min(call.tokens, got + tokens)
            else:
                got = call.tokens
                await asyncio.sleep(PACE_S * got / 4)
                await _write(writer, _whole(call, sent))
        finally:
            self.bill.append(Charge(user=asked["user"], digest=digest(body), input_tokens=sent, output_tokens=got))

    async def _streamed(
        self, call: Call, sent: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[int]:
        """Write events; yield the tokens of each, at last those of which nobody hears."""
        await asyncio.sleep(2 * PACE_S)
        with suppress(OSError):
            await _write(writer, STREAM_HEAD)
            for number, (event, tokens) in enumerate([*call.events, *_last(call, sent)], 1):
                if reader.at_eof():
                    break
                await _write(writer, event)
                yield tokens
                call.wrote(number)
                await asyncio.sleep(PACE_S if tokens else 0)
        if reader.at_eof():
            yield self._dice.randint(0, LAG_TOKENS)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


# --- replies --------------------------------------------------------------------------------------------------------

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_EVENTS = 3
"""After the content: the finish reason, the usage, the end marker."""


def _events(reply: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    """Yield the events of a reply, each with what it took to write."""
    yield _event({"role": "assistant", "content": ""}), 0
    for piece, tokens in _pieces(reply.get("content") or ""):
        yield _event({"content": piece}), tokens
    calls = reply.get("tool_calls") or []
    frame = CALL_TOKENS if len(calls) == 1 else PARALLEL_TOKENS
    for number, call in enumerate(calls):
        function = call["function"]
        begun = {"index": number, "id": call["id"], "type": "function", "function": {**function, "arguments": ""}}
        yield _event({"tool_calls": [begun]}), frame + _count(function["name"])
        for piece, tokens in _pieces(function["arguments"]):
            yield _event({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}), tokens


def _last(call: Call, sent: int) -> Iterator[tuple[bytes, int]]:
    yield _event({}, finish=_finish(call)), 0
    usage = {"prompt_tokens": sent, "completion_tokens": call.tokens, "total_tokens": sent + call.tokens}
    yield _chunk(msgspec.json.encode({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage})), 0
    yield b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 0


def _finish(call: Call) -> str:
    return "tool_calls" if call.told.reply.get("tool_calls") else "stop"


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _chunk(msgspec.json.encode({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _whole(call: Call, sent: int) -> bytes:
    usage = {"prompt_tokens": sent, "completion_tokens": call.tokens, "total_tokens": sent + call.tokens}
    choice = {"index": 0, "message": call.told.reply, "finish_reason": _finish(call)}
    body = msgspec.json.encode({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


# --- tokens ---------------------------------------------------------------------------------------------------------


def asked_tokens(body: dict[str, Any]) -> int:
    """Return what a request comes to by the cookbook's formulas."""
    tokens = 3
    for message in body["messages"]:
        tokens += 3 + sum(_count(value) for value in message.values() if isinstance(value, str) and value)
        tokens -= _count(message.get("tool_call_id", ""))  # Ids are not shown to the model.
        calls = message.get("tool_calls") or []
        frame = CALL_TOKENS if len(calls) == 1 else PARALLEL_TOKENS
        tokens += sum(
            frame + _count(call["function"]["name"]) + _count(call["function"]["arguments"]) for call in calls
        )
    functions = [tool["function"] for tool in body.get("tools", ())]
    return tokens + sum(map(_function_tokens, functions)) + (12 if functions else 0)


def _function_tokens(function: dict[str, Any]) -> int:
    described = function.get("description", "").removesuffix(".")
    tokens = 7 + _count(f"{function['name']}:{described}")
    properties = function.get("parameters", {}).get("properties", {})
    tokens += 3 if properties else 0
    for name, schema in properties.items():
        described = schema.get("description", "").removesuffix(".")
        tokens += 3 + _count(f"{name}:{schema.get('type', '')}:{described}")
        if "enum" in schema:
            tokens += sum(3 + _count(str(value)) for value in schema["enum"]) - 3
    return tokens


@functools.cache
def _count(text: str) -> int:
    return len(_encoding().encode_ordinary(text))


def _pieces(text: str) -> Iterator[tuple[str, int]]:
    """Yield a text token by token, each with how many it is: what is no text alone comes with the next."""
    rest, count = b"", 0
    for token in _encoding().encode_ordinary(text):
        rest += _encoding().decode_single_token_bytes(token)
        count += 1
        with suppress(UnicodeDecodeError):
            yield rest.decode(), count
            rest, count = b"", 0


@functools.cache
def _encoding() -> tiktoken.Encoding:
    lines = gzip.decompress((files("proxy.accounting") / "data" / "o200k_base.tiktoken.gz").read_bytes()).splitlines()
    ranks = {binascii.a2b_base64(token): int(rank) for token, rank in map(bytes.split, lines)}
    pattern = VOCABULARIES["o200k_base"].pattern
    return tiktoken.Encoding("o200k_base", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
