"""Owns the proof that a call cut anywhere, on either side, is told truly, recorded once and settled once."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

import msgspec
import pytest

from proxy import app
from proxy.recording import digest
from proxy.stores.sqlite import Reader
from proxy.terms import Exchange, State, UsageSource
from tests.e2e.rig import LISTENERS

AT_ONCE = 32
WAIT_S = 100.0
"""Longer than any test here takes: what turns a hang into a failure."""
GAP_S = 0.002
"""Between two events where the client is the one who leaves."""
BILLED_NANOUSD = 7 * 1_000 + 5 * 2_000
"""What the provider's own usage costs at CONFIG's prices."""

CONFIG = """\
providers: {raw: {dialect: openai, base_url: "http://127.0.0.1:PORT/v1"}}
models:
  plain: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  held: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
policies: [policy.yaml]
limits: {connect_s: 60}
telemetry: {log_level: error}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: budget, version: 1.0.0}
spec:
  spend: [{id: cap, scope: agent, window: day, limitUSD: 1000}]
---
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: holds, version: 1.0.0}
spec:
  selector: {models: [held]}
  rules:
    - {id: secret, phase: response, when: 'response.text.contains("secret")', action: deny, message: No.}
    - {id: refund, phase: tool_call, when: 'tool.name == "refund"', action: deny, message: No.}
"""

# --- what the provider says -----------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look_up", "arguments": ""}}


def event(**tree: object) -> bytes:
    """Return one event."""
    return b"data: " + msgspec.json.encode({"id": "c", **tree}) + b"\n\n"


def delta(finish: str | None = None, **says: object) -> bytes:
    """Return the event of one delta."""
    return event(choices=[{"index": 0, "delta": says, "finish_reason": finish}])


def arguments(piece: str) -> bytes:
    """Return the event of a piece of a tool call's arguments."""
    return delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])


TAIL = (event(choices=[], usage=USAGE), DONE)
STREAMS: dict[str, tuple[bytes, ...]] = {
    "text": (delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo"), delta("stop"), *TAIL),
    "tool": (
        delta(role="assistant", content=None),
        delta(tool_calls=[CALL]),
        arguments('{"a":'),
        arguments("1}"),
        delta("tool_calls"),
        *TAIL,
    ),
}
MESSAGE = {"role": "assistant", "content": "Héllo"}
DOCUMENT = msgspec.json.encode(
    {"id": "c", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], "usage": USAGE}
)


def framed(pieces: Sequence[bytes], framing: str, content_type: str) -> list[bytes]:
    """Return a whole HTTP reply in pieces; it is `chunked`, has a `length`, or ends with the connection (`close`)."""
    headers = {
        "chunked": b"transfer-encoding: chunked",
        "length": b"content-length: %d" % sum(map(len, pieces)),
        "close": b"connection: close",
    }
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n" % (content_type.encode(), headers[framing])
    if framing != "chunked":
        return [head, *pieces]
    return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]


@cache
def recorded(kind: str, framing: str) -> list[bytes]:
    """Return the reply that is cut, in pieces: a stream, or the document."""
    if kind == "document":
        return framed([DOCUMENT], framing, "application/json")
    return framed(STREAMS[kind], framing, "text/event-stream")


# --- both sides of Handrail -----------------------------------------------------------------------------------------


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """How one call is to go; it travels in the request's `user` field, so that every call has a body of its own."""

    number: int
    kind: str
    framing: str = "chunked"
    cut: int | None = None
    """The provider sends only so many bytes of its reply."""
    reset: bool = False
    """It then resets the connection instead of closing it."""
    gap_s: float = 0.0


def request(model: str, ask: Ask) -> tuple[bytes, str]:
    """Return the HTTP request of a call, and the digest by which its record is known."""
    tree = {
        "model": model,
        "stream": ask.kind != "document",
        "max_completion_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
        "user": msgspec.json.encode(ask).decode(),
    }
    body = msgspec.json.encode(tree)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body, digest(body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a RST."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the calls of one connection as each of them asks."""
    with suppress(EOFError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = msgspec.json.decode(await reader.readexactly(int(length[1]) if length else 0))
            ask = msgspec.json.decode(body["user"], type=Ask)
            for piece in pieces(ask):
                writer.write(piece)
                await asyncio.sleep(ask.gap_s)
            if ask.reset:
                reset(writer)
            if ask.cut is not None or ask.framing == "close":
                break
    writer.close()


def pieces(ask: Ask) -> list[bytes]:
    """Return what the provider sends for a call."""
    reply = recorded(ask.kind, ask.framing)
    return reply if ask.cut is None else [b"".join(reply)[: ask.cut]]


class World:
    """A Handrail in this process, the provider behind it, and every call that was sent through it."""

    def __init__(self, here: app.Running) -> None:
        self.here = here
        self.sent: list[str] = []
        """The digests of the calls that arrived whole."""
        self._address = here.listen.rpartition(":")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._count = 0

    def ask(self, kind: str, **more: object) -> Ask:
        """Make a call that no other call is equal to."""
        self._count += 1
        return msgspec.convert({"number": self._count, "kind": kind, **more}, Ask)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect, as soon as there are not too many calls at once."""
        async with self._turns:
            reader, writer = await asyncio.open_connection(self._address[0], int(self._address[2]))
            try:
                yield reader, writer
            finally:
                writer.close()

    async def call(self, model: str, ask: Ask) -> tuple[str, bytes]:
        """Make one call and read its reply to the end; return the call's digest and the reply."""
        data, name = request(model, ask)
        self.sent.append(name)
        async with self.connection() as (reader, writer):
            writer.write(data)
            return name, await reader.read(-1)

    async def leave(self, model: str, ask: Ask, after: int, *, hard: bool) -> None:
        """Make one call and leave after so many bytes of its reply."""
        data, name = request(model, ask)
        self.sent.append(name)
        async with self.connection() as (reader, writer):
            writer.write(data)
            if after:
                await reader.readexactly(after)
            if hard:
                reset(writer)

    async def records(self) -> dict[str, Exchange]:
        """Wait until nothing is open; return the records by digest, once they were found to be one for each call."""
        while self.here.house.open_holds or self.here.store.backlog:  # noqa: ASYNC110 - walks end by themselves
            await asyncio.sleep(0.01)
        with Reader(str(self.here.loaded.folder / "state.sqlite")) as reader:
            records, flying, totals = list(reader.between(0, 1 << 62)), reader.in_flight(), reader.totals()
        assert [] == flying
        assert Counter(self.sent) == Counter(record.input_digest for record in records)
        assert {0} == {total.reserved_nanousd for _, _, total in totals} or not totals
        settled = {(total.nanousd, total.calls) for scope, _, total in totals if scope.startswith("agent:")}
        costs = [attempt.cost.nanousd or 0 for record in records for attempt in record.attempts]
        assert settled == {(sum(costs), len(costs))} or not totals
        return {record.input_digest: record for record in records}


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start both; nothing may hang."""
    server = await asyncio.start_server(provide, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    (folder / "policy.yaml").write_text(POLICY)
    state = "state: {path: state.sqlite}\n"
    (folder / "handrail.yaml").write_text(LISTENERS + state + CONFIG.replace("PORT", port))
    async with server, asyncio.timeout(WAIT_S), app.running(app.Options(path=folder / "handrail.yaml")) as here:
        yield World(here)


# --- reading a reply ------------------------------------------------------------------------------------------------


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP reply that came to its own end."""

    status: int
    body: bytes

    @property
    def error(self) -> str:
        """Return the code of the error that the reply ends with, empty without one."""
        last = self.body[self.body.rfind(b'data: {"error"') :] if self.body.rfind(b'data: {"error"') >= 0 else b""
        text = last.removeprefix(b"data: ") or (self.body if self.status != 200 else b"")
        return str(msgspec.json.decode(text)["error"]["code"]) if text else ""

    @property
    def good(self) -> bytes:
        """Return what came before the error event."""
        place = self.body.find(b'data: {"error"')
        return self.body if place < 0 else self.body[:place]


def read(reply: bytes) -> Answer:
    """Take an HTTP reply apart; assert that it is whole, so that the client knows that nothing follows."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if b"chunked" not in head:
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length, head
        assert int(length[1]) == len(rest)
        return Answer(status=status, body=rest)
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            assert rest == b"\r\n"
            return Answer(status=status, body=body)
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


async def gather(calls: Iterable[asyncio._CoroutineLike[tuple[str, bytes]]]) -> list[tuple[str, bytes]]:
    """Make calls at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


# --- the provider breaks off ----------------------------------------------------------------------------------------

FINISHED = re.compile(rb'"finish_reason":"\w+"\}\]\}')


STEP = 7
"""Every so many bytes of a stream is where it is cut, if another case cuts one of its framing or kind at each byte."""


@pytest.mark.parametrize(
    ("model", "kind", "framing", "hard", "step"),
    [
        pytest.param("plain", "text", "chunked", False, 1, id="text-chunked-closed-plain"),
        pytest.param("held", "text", "chunked", False, STEP, id="text-chunked-closed-held"),
        pytest.param("plain", "text", "close", False, STEP, id="text-unframed-closed-plain"),
        pytest.param("held", "text", "close", False, STEP, id="text-unframed-closed-held"),
        pytest.param("plain", "tool", "chunked", True, STEP, id="tool-chunked-reset-plain"),
        pytest.param("held", "tool", "chunked", True, STEP, id="tool-chunked-reset-held"),
        pytest.param("plain", "tool", "close", False, STEP, id="tool-unframed-closed-plain"),
        pytest.param("held", "tool", "close", False, 1, id="tool-unframed-closed-held"),
    ],
)
async def test_a_provider_that_breaks_off_a_stream(
    tmp_path: Path, model: str, kind: str, framing: str, hard: bool, step: int
) -> None:
    """Wherever a provider's stream is cut, the client gets a prefix of it and then at most one error event, never a
    `[DONE]` that the provider did not send; the call is recorded once, its hold settled once, and it is not free."""
    size = len(b"".join(recorded(kind, framing)))
    async with world(tmp_path) as here:
        _, uncut = await here.call(model, here.ask(kind, framing=framing))
        asks = [here.ask(kind, framing=framing, cut=cut, reset=hard) for cut in range(0, size, step)]
        replies = await gather(here.call(model, ask) for ask in asks)
        records = await here.records()

    whole = read(uncut).body
    assert whole == b"".join(piece for piece in STREAMS[kind] if piece != TAIL[0])
    for ask, (name, reply) in zip(asks, replies, strict=True):
        check_cut(whole, read(reply), records[name], ask)


def check_cut(whole: bytes, answer: Answer, record: Exchange, ask: Ask) -> None:
    """Hold what the client got and what was recorded against the provider's bytes."""
    seen = ask.cut or 0
    cost = record.cost.nanousd or 0
    if answer.error:
        assert State.FAULT is record.state, ask
        assert (answer.status == 200) == answer.body.startswith(b"data: "), ask
        if answer.status == 200:
            assert whole.startswith(answer.good), ask
            assert answer.good.endswith(b"\n\n"), ask
    else:
        assert whole.startswith(answer.body), ask
        assert FINISHED.search(answer.body), ask
        assert answer.body == whole or ask.framing == "close", ask
        assert State.COMPLETE is record.state, ask
    if DONE in answer.body:
        assert DONE.strip() in b"".join(recorded(ask.kind, ask.framing))[:seen], ask
    assert cost > 0, ask
    if record.attempts[-1].usage.source is UsageSource.PROVIDER:
        assert BILLED_NANOUSD == cost, ask


@pytest.mark.parametrize(("framing", "model"), [("length", "plain"), ("chunked", "held"), ("close", "plain")])
async def test_a_provider_that_breaks_off_a_document(tmp_path: Path, framing: str, model: str) -> None:
    """Wherever an unstreamed reply is cut, the client gets an error object and nothing of the reply."""
    reply = recorded("document", framing)
    size = len(b"".join(reply))
    async with world(tmp_path) as here:
        _, uncut = await here.call(model, here.ask("document", framing=framing))
        asks = [here.ask("document", framing=framing, cut=cut, reset=cut % 2 == 0) for cut in range(size)]
        replies = await gather(here.call(model, ask) for ask in asks)
        records = await here.records()

    assert DOCUMENT == read(uncut).body
    for name, got in replies:
        answer = read(got)
        assert (502, State.FAULT) == (answer.status, records[name].state)
        assert answer.error in ("stream_cut", "connection_lost", "protocol_error")
        assert records[name].cost.nanousd


# --- the client leaves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind", "hard", "step"),
    [
        pytest.param("plain", "text", False, 1, id="text-closed-plain"),
        pytest.param("held", "text", False, STEP, id="text-closed-held"),
        pytest.param("plain", "tool", True, STEP, id="tool-reset-plain"),
        pytest.param("held", "tool", True, STEP, id="tool-reset-held"),
    ],
)
async def test_a_client_that_leaves(tmp_path: Path, model: str, kind: str, hard: bool, step: int) -> None:
    """After however many bytes a client leaves, the call is recorded once and booked at what the provider charges."""
    async with world(tmp_path) as here:
        first, uncut = await here.call(model, here.ask(kind))
        async with asyncio.TaskGroup() as group:
            for after in (*range(0, len(uncut), step), len(uncut)):
                group.create_task(here.leave(model, here.ask(kind, gap_s=GAP_S), after, hard=hard))
        records = await here.records()

    assert State.COMPLETE is records[first].state
    assert {State.COMPLETE, State.CLIENT_GONE} == {record.state for record in records.values()}
    assert {(BILLED_NANOUSD, UsageSource.PROVIDER)} == {
        (record.cost.nanousd, record.attempts[-1].usage.source) for record in records.values()
    }


async def test_a_client_that_leaves_while_it_asks(tmp_path: Path) -> None:
    """A request that breaks off, wherever it does, reaches no provider, costs nothing and leaves nothing open."""
    async with world(tmp_path) as here:
        data, _ = request("plain", here.ask("text"))

        async def ask(size: int) -> None:
            async with here.connection() as (reader, writer):
                writer.write(data[:size])
                writer.write_eof()
                await reader.read(-1)

        async with asyncio.TaskGroup() as group:
            for size in range(len(data)):
                group.create_task(ask(size))
        _, reply = await here.call("plain", here.ask("text"))
        records = await here.records()

    assert 200 == read(reply).status
    assert 1 == len(records)
