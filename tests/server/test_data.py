"""Owns the proof that every part of a walk reaches the client, and every walk its end, however the call ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import aiohttp
import pytest

from proxy.errors import Overloaded, Unauthenticated
from proxy.ports import Client
from proxy.server.data import Part
from proxy.terms import Delta, End, Fault, Head, OnDisconnect, RawRequest
from tests.server.rig import (
    DONE,
    STREAM,
    WAIT_S,
    WHOLE,
    Hall,
    Rig,
    chat,
    code_of,
    connect,
    event,
    exchange,
    replies_in,
    serving,
    status_of,
    until,
)

CLOSE = b"Connection: close"
FAULT = Fault(status=502, type="upstream_error", code="stream_cut", message="cut", frame=b'data: {"error":{}}\n\n')
BIG = Delta(frame=b"data: " + b"x" * 65536 + b"\n\n")


def dechunked(reply: bytes) -> tuple[bytes, bool]:
    """Return the body of a chunked reply, and whether it came to its proper end."""
    rest, body = reply.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body, False


class Pause:
    """A point of a script at which the walk waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> None:
        """Wait here."""
        self.reached.set()
        await self.go.wait()


# --- the six endings ------------------------------------------------------------------------------------------------


MUTE_FAULT = Fault(status=502, type="t", code="c", message="m")
FULL = b'data: {"error":{"message":"full","type":"server_error","param":null,"code":"overloaded"}}\n\n'


@pytest.mark.parametrize(
    ("script", "body", "ended", "ending"),
    [
        pytest.param((event("a"), DONE), b"data: a\n\ndata: [DONE]\n\n", True, "complete", id="complete"),
        pytest.param((event("No."), DONE), b"data: No.\n\ndata: [DONE]\n\n", True, "complete", id="denied"),
        pytest.param((event("a"), FAULT), b"data: a\n\n" + FAULT.frame, True, "complete", id="fault mid-stream"),
        pytest.param((event("a"), MUTE_FAULT), b"data: a\n\n", False, "complete", id="fault without a word"),
        pytest.param(
            (event("a"), Overloaded("full")), b"data: a\n\n" + FULL, True, "Overloaded", id="error mid-stream"
        ),
        pytest.param(
            (event("a"), ZeroDivisionError()), b"data: a\n\n", False, "ZeroDivisionError", id="bug mid-stream"
        ),
    ],
)
async def test_a_stream_ends_as_the_walk_does(script: tuple[Part, ...], body: bytes, ended: bool, ending: str) -> None:
    """Each part is written as it comes; a stream that failed has an error event or is cut, never a made-up end."""
    hall = Hall(STREAM, *script)

    async with serving(hall) as rig:
        reply = await exchange(rig.address, chat(b"{}", CLOSE))

    assert (200, (body, ended), [ending]) == (status_of(reply), dechunked(reply), hall.endings)


@pytest.mark.parametrize("left_after", range(4))
async def test_a_client_that_leaves_is_drained(left_after: int) -> None:
    """When the client leaves after any chunk, the walk still runs to its end, once, and knows that nobody listened."""
    pause = Pause()
    parts: list[Part] = [STREAM, event("a"), event("b"), event("c"), event("d"), DONE]
    hall = Hall(*parts[: left_after + 2], pause, *parts[left_after + 2 :])

    async with serving(hall) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat())
        await reader.readuntil(b"data: %c\n\n" % b"abcd"[left_after])
        await pause.reached.wait()
        writer.close()
        await until(lambda: not rig.plane.clients)
        pause.go.set()
        await until(lambda: hall.endings)

    assert (["complete gone"], len(parts)) == (hall.endings, hall.yielded)


async def test_a_client_that_leaves_before_a_whole_reply_is_drained() -> None:
    """A client that does not wait for an unstreamed reply is noticed while the walk goes on."""
    pause = Pause()
    hall = Hall(WHOLE, pause, Delta(frame=b"{}"), End())

    async with serving(hall) as rig:
        _, writer = await connect(rig.address)
        writer.write(chat())
        await pause.reached.wait()
        writer.close()
        await until(lambda: not rig.plane.clients)
        pause.go.set()
        await until(lambda: hall.endings)

    assert (["complete gone"], []) == (hall.endings, rig.bugs)


async def test_a_client_that_leaves_after_the_end_has_not_left_early() -> None:
    """A client that closes on the end marker has had everything: that is no disconnect."""
    pause = Pause()
    hall = Hall(STREAM, event("a"), Delta(frame=b"data: [DONE]\n\n", final=True), pause, End())

    async with serving(hall) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat())
        await reader.readuntil(b"[DONE]\n\n")
        writer.close()
        await until(lambda: not rig.plane.clients)
        pause.go.set()
        await until(lambda: hall.endings)

    assert ["complete"] == hall.endings


async def test_draining_is_bounded() -> None:
    """A walk that nobody listens to is closed when the time for draining is up."""
    hall = Hall(STREAM, event("a"), Pause(), DONE)

    async with serving(hall, drain_s=0.05) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat())
        await reader.readuntil(b"data: a\n\n")
        writer.close()
        await until(lambda: hall.endings)

    assert (["CancelledError gone drain_timeout"], []) == (hall.endings, rig.bugs)


async def test_so_many_are_drained_at_a_time() -> None:
    """What nobody listens to is read on only while there is room for it; room that is left is given to the next."""
    pause = Pause()
    hall = Hall(STREAM, event("a"), pause, DONE)

    async with serving(hall, max_drains=1) as rig:
        await left(rig)
        await left(rig)
        await until(lambda: hall.endings)
        pause.go.set()
        await until(lambda: len(hall.endings) == 2)
        pause.go.clear()
        await left(rig)
        pause.go.set()
        await until(lambda: len(hall.endings) == 3)

    assert ["CancelledError gone drain_limit", "complete gone", "complete gone"] == hall.endings


async def left(rig: Rig) -> None:
    """Open a stream, and leave after its first event."""
    reader, writer = await connect(rig.address)
    writer.write(chat())
    await reader.readuntil(b"data: a\n\n")
    writer.close()
    await until(lambda: not rig.plane.clients)


@pytest.mark.parametrize("script", [(), (STREAM,), (STREAM, event("a"))], ids=["before the head", "head", "an event"])
async def test_a_reply_is_ended_at_once_where_that_is_wanted(script: tuple[Part, ...]) -> None:
    """Where the hallway says `abort`, the walk is closed the moment its client has left."""
    pause = Pause()
    hall = Hall(*script, pause, DONE)
    hall.then = OnDisconnect.ABORT

    async with serving(hall) as rig:
        _, writer = await connect(rig.address)
        writer.write(chat())
        await pause.reached.wait()
        writer.close()
        await until(lambda: hall.endings)

    assert (["CancelledError gone aborted"], []) == (hall.endings, rig.bugs)


async def test_a_client_that_has_left_already_is_not_waited_for() -> None:
    """The hallway may know only later what becomes of the call: then it is ended there and then, and once."""
    pause = Pause()
    hall = Hall()

    async def handle(raw: RawRequest, client: Client) -> AsyncGenerator[Part, None]:
        try:
            await pause()
            client.leaving(OnDisconnect.DRAIN)
            client.leaving(OnDisconnect.ABORT)
            client.leaving(OnDisconnect.ABORT)
            await asyncio.Event().wait()
            yield DONE
        finally:
            hall.endings.append(client.given_up)

    hall.handle = handle  # type: ignore[method-assign]  # a hallway that takes its time to know
    async with serving(hall) as rig:
        _, writer = await connect(rig.address)
        writer.write(chat())
        await pause.reached.wait()
        writer.close()
        await until(lambda: not rig.plane.clients)
        pause.go.set()
        await until(lambda: hall.endings)

    assert (["aborted"], []) == (hall.endings, rig.bugs)


async def test_a_cancelled_handler_closes_the_walk() -> None:
    """When the loop itself goes down, the walk still gets to its end."""
    pause = Pause()
    hall = Hall(STREAM, event("a"), pause, DONE)

    async with serving(hall) as rig:
        _, writer = await connect(rig.address)
        writer.write(chat())
        await pause.reached.wait()
        [task] = rig.plane.tasks
        task.cancel()
        await asyncio.wait([task])
        writer.close()

    assert (["CancelledError"], []) == (hall.endings, rig.bugs)


# --- shutdown -------------------------------------------------------------------------------------------------------


async def streaming(rig: Rig, pause: Pause) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a call and wait until its walk stands at the pause."""
    reader, writer = await connect(rig.address)
    writer.write(chat())
    await pause.reached.wait()
    return reader, writer


async def test_shutdown_lets_a_stream_end() -> None:
    """A stream that ends within the grace is whole, and its connection closes after it."""
    pause = Pause()
    hall = Hall(STREAM, event("a"), pause, DONE)

    async with serving(hall) as rig:
        reader, writer = await streaming(rig, pause)
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.plane.shutdown(WAIT_S))
            await until(lambda: not rig.plane.accepting)
            pause.go.set()
            reply = await reader.read()
        writer.close()

    assert ((b"data: a\n\ndata: [DONE]\n\n", True), ["complete"]) == (dechunked(reply), hall.endings)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param((STREAM, event("a")), 200, id="in a stream"),
        pytest.param((STREAM,), 503, id="before a stream"),
        pytest.param((WHOLE,), 503, id="before a whole reply"),
        pytest.param((), 503, id="before anything"),
    ],
)
async def test_shutdown_cuts_what_does_not_end(script: tuple[Part, ...], status: int) -> None:
    """A call that outlives the grace is told so in words, and its walk gets to its end."""
    pause = Pause()
    hall = Hall(*script, pause, DONE)

    async with serving(hall) as rig:
        reader, writer = await streaming(rig, pause)
        await rig.plane.shutdown(0.0)
        reply = await reader.read()
        writer.close()

    assert (status, ["CancelledError"]) == (status_of(reply), hall.endings)
    assert b'"code":"shutting_down"' in reply
    assert b"[DONE]" not in reply


async def test_shutdown_closes_idle_connections_at_once() -> None:
    """A connection that waits for its next call does not hold up the end."""
    async with serving(Hall(STREAM, DONE)) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat())
        await reader.readuntil(b"0\r\n\r\n")
        await rig.plane.shutdown(WAIT_S)
        rest = await reader.read()
        writer.close()

    assert (b"", False) == (rest, rig.plane.accepting)


async def test_shutdown_does_not_wait_for_a_client_that_does_not_read() -> None:
    """A client that has stopped reading is dropped when grace and cut are over."""
    pause = Pause()
    hall = Hall(STREAM, pause, *[BIG] * 400, DONE)

    async with serving(hall) as rig:
        _, writer = await streaming(rig, pause)
        pause.go.set()
        await until(lambda: any(client.writing_paused for client in rig.plane.clients))
        await rig.plane.shutdown(0.0)
        writer.close()

    assert ["GeneratorExit"] == hall.endings


async def test_an_upload_may_end_during_shutdown() -> None:
    """A request whose body is on its way when the end begins is read whole and answered."""
    hall = Hall(STREAM, DONE)

    async with serving(hall) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat(b"{}")[:-1])
        await until(lambda: rig.plane.tasks)
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.plane.shutdown(WAIT_S))
            await until(lambda: not rig.plane.accepting)
            writer.write(b"}")
            reply = await reader.read()
        writer.close()

    assert (200, [b"{}"]) == (status_of(reply), [seen.body for seen in hall.seen])


# --- the shape of replies -------------------------------------------------------------------------------------------


async def test_the_head_waits_for_the_first_event() -> None:
    """Head and first event leave in one write, so that no delayed acknowledgement parts them."""
    pause = Pause()

    async with serving(Hall(STREAM, pause, event("a"), DONE)) as rig:
        reader, writer = await streaming(rig, pause)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        pause.go.set()
        reply = await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
        writer.close()

    assert 200 == status_of(reply)


async def test_a_whole_reply_has_its_length() -> None:
    """A reply that is no stream leaves at once, with its length and the headers it was given."""
    head = Head(status=200, headers={"content-type": "application/json", "x-handrail-verdict": "allow"})

    async with serving(Hall(head, Delta(frame=b'{"a":'), Delta(frame=b"1}"), End())) as rig:
        reply = await exchange(rig.address, chat(b"{}", CLOSE))

    fields, _, body = reply.partition(b"\r\n\r\n")
    assert b'{"a":1}' == body
    assert {b"Content-Length: 7", b"x-handrail-verdict: allow", b"server: handrail"} <= set(fields.split(b"\r\n"))


async def test_a_whole_reply_that_fails_is_an_error() -> None:
    """A Fault after the head of a whole reply sets the status: nothing of the reply has been sent yet."""
    fault = Fault(status=504, type="t", code="c", message="m", frame=b'{"error":1}', headers={"retry-after": "3"})

    async with serving(Hall(WHOLE, Delta(frame=b'{"half'), fault)) as rig:
        reply = await exchange(rig.address, chat(b"{}", CLOSE))

    assert (504, True) == (status_of(reply), reply.endswith(b'\r\n\r\n{"error":1}'))
    assert b"\r\nretry-after: 3\r\n" in reply


@pytest.mark.parametrize(
    ("error", "status"),
    [pytest.param(Unauthenticated("no key"), 401, id="401"), pytest.param(Overloaded("full"), 503, id="503")],
)
async def test_an_error_before_the_head_is_an_error_object(error: Exception, status: int) -> None:
    """An error that the walk raises before anything was sent is told with its status, and the connection lives on."""
    async with serving(Hall(error)) as rig:
        reply = await exchange(rig.address, chat() + chat(b"{}", CLOSE))

    assert (status, 2, []) == (status_of(reply), replies_in(reply), rig.bugs)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param((ZeroDivisionError("secret"),), id="raised"),
        pytest.param((TimeoutError("secret"),), id="timeout"),
        pytest.param((), id="no reply"),
        pytest.param((event("a"),), id="no head"),
    ],
)
async def test_a_bug_is_a_500_that_says_nothing(script: tuple[Part, ...]) -> None:
    """A bug becomes a plain error object, is reported once, and its words stay inside."""
    async with serving(Hall(*script)) as rig:
        reply = await exchange(rig.address, chat(b"{}", CLOSE))

    assert (500, "internal_error", 1, False) == (status_of(reply), code_of(reply), len(rig.bugs), b"secret" in reply)


async def test_a_header_that_cannot_be_sent_is_a_bug() -> None:
    """A header with a line break never leaves: the connection is closed and the bug reported."""
    head = Head(status=200, headers={"content-type": "application/json", "x-evil": "a\r\nset-cookie: b"})

    async with serving(Hall(head, Delta(frame=b"{}"), End())) as rig:
        reply = await exchange(rig.address, chat())

    assert (b"", ["ValueError"]) == (reply, [type(bug).__name__ for bug in rig.bugs])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param(b"/v1/models", 200, id="all models"),
        pytest.param(b"/v1/models/gpt", 200, id="one model"),
        pytest.param(b"/v1/models/vendor/other", 404, id="no such model"),
    ],
)
async def test_models_are_answered_here(target: bytes, status: int) -> None:
    """The model list does not walk the hallway."""
    hall = Hall()

    async with serving(hall) as rig:
        reply = await exchange(rig.address, b"GET " + target + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")

    assert (status, []) == (status_of(reply), hall.seen)


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection() -> None:
    """A client that knows no chunks gets the events as they are."""
    async with serving(Hall(STREAM, event("a"), DONE)) as rig:
        reply = await exchange(rig.address, chat().replace(b"HTTP/1.1", b"HTTP/1.0"))

    assert reply.endswith(b"\r\n\r\ndata: a\n\ndata: [DONE]\n\n")


async def test_pipelined_calls_are_answered_in_order() -> None:
    """Calls on one connection wait for one another."""
    hall = Hall(STREAM, event("a"), DONE)

    async with serving(hall) as rig:
        reply = await exchange(rig.address, chat(b"1") + chat(b"2") + chat(b"3", CLOSE))

    assert (3, [b"1", b"2", b"3"]) == (replies_in(reply), [seen.body for seen in hall.seen])


# --- flow control ---------------------------------------------------------------------------------------------------


async def test_a_slow_reader_slows_the_walk() -> None:
    """What the client does not read is not produced: the walk stands still once the buffers are full."""
    hall = Hall(STREAM, *[BIG] * 400, DONE)

    async with serving(hall) as rig:
        reader, writer = await connect(rig.address)
        writer.write(chat(b"{}", CLOSE))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        produced = hall.yielded
        rest = await reader.read()
        writer.close()

    assert produced < 400
    assert (402, ["complete"]) == (hall.yielded, hall.endings)
    assert rest.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")


async def test_a_reader_that_stands_still_is_dropped() -> None:
    """A client that reads nothing for the stall time is taken for gone, and the walk is drained without it."""
    hall = Hall(STREAM, *[BIG] * 400, DONE)

    async with serving(hall, write_stall_s=0.1) as rig:
        _, writer = await connect(rig.address)
        writer.write(chat())
        await until(lambda: hall.endings)
        writer.close()

    assert (["complete gone"], 402) == (hall.endings, hall.yielded)


# --- a real client --------------------------------------------------------------------------------------------------


async def test_a_real_client_reuses_its_connection() -> None:
    """aiohttp's client reads streams and whole replies, one after another, on one connection."""
    hall = Hall(STREAM, event("a"), DONE)

    async with serving(hall) as rig, aiohttp.ClientSession(f"http://{rig.address}") as session:
        bodies = []
        for _ in range(3):
            async with session.post("/v1/chat/completions", json={"model": "m"}) as reply:
                bodies.append(await reply.read())
        async with session.get("/v1/models") as reply:
            models = await reply.json()
        connections = len(rig.plane.clients)

    assert ([b"data: a\n\ndata: [DONE]\n\n"] * 3, "list", 1) == (bodies, models["object"], connections)
    assert [{"model": "m"}] * 3 == [json.loads(seen.body) for seen in hall.seen]
