"""Owns the proof that a reply is read exactly, wherever and however its connection ends."""

import asyncio
import contextlib
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.ports import Upstream
from proxy.upstream import UpstreamSettings, open_upstream
from proxy.upstream.connection import Connection
from tests.upstream.scripted import (
    STREAMED,
    Outcome,
    Peer,
    call_to,
    chunk,
    outcome_at,
    outcome_of,
    provider,
    saying,
    saying_in_turn,
    saying_then,
    whole,
)

EVENTS = (b'data: {"a":1}\n\n', b": ping\n\n", b"data: [DONE]\n\n")
BODY = b"".join(EVENTS)
SSE = "content-type: text/event-stream"


def chunked() -> bytes:
    """Frame the events in chunks."""
    return STREAMED + b"".join(chunk(event) for event in EVENTS) + b"0\r\n\r\n"


def arrived(raw: bytes, offset: int) -> bytes:
    """Return how much of the body is in the first `offset` bytes of a reply."""
    head, _, rest = raw[:offset].partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    body = b""
    while found := re.match(rb"([0-9a-f]+)\r\n", rest):
        size = int(found[1], 16)
        body += rest[found.end() : found.end() + size]
        rest = rest[found.end() + size + 2 :]
    return body


REPLIES = [
    pytest.param(chunked(), id="chunked"),
    pytest.param(whole(BODY, SSE), id="content-length"),
]


@pytest.mark.parametrize("raw", REPLIES)
async def test_a_reply_cut_anywhere_fails_and_loses_nothing(raw: bytes) -> None:
    """At every byte offset: before the head is whole another target may be tried; after it, all bytes that arrived are
    passed on and the cut is said."""
    body_at = raw.index(b"\r\n\r\n") + 4
    offset = 0

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw[:offset])

    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        for offset in range(len(raw)):
            seen = await outcome_at(upstream, here.url)

            if offset < body_at:
                assert Outcome(code="connection_lost", error_status=502, retryable=True) == seen, offset
            else:
                expected = (arrived(raw, offset), "stream_cut", 502, False)
                assert expected == (seen.body, seen.code, seen.error_status, seen.retryable), offset


@pytest.mark.parametrize("raw", REPLIES)
async def test_a_whole_reply_is_no_cut(raw: bytes) -> None:
    """The same reply with its last byte is complete, although the connection closes right after it."""
    async with provider(saying_then(raw, Peer.close)) as here:
        seen = await outcome_of(here.url)

    assert (200, BODY, "") == (seen.status, seen.body, seen.code)


@pytest.mark.parametrize(
    "raw",
    [*REPLIES, pytest.param(f"HTTP/1.1 200 OK\r\n{SSE}\r\n\r\n".encode() + BODY + b"end", id="until close")],
)
async def test_a_reset_in_mid_body_is_a_cut(raw: bytes) -> None:
    """A RST never passes for the end of a reply, not even of one that ends with its connection."""
    async with provider(saying_then(raw[:-3], Peer.reset)) as here:
        seen = await outcome_of(here.url)

    assert ("stream_cut", True) == (seen.code, BODY.startswith(seen.body))


async def test_a_reset_before_the_head_may_be_tried_elsewhere() -> None:
    """A connection that is reset before it answered is lost, and says so in the system's word."""
    async with provider(saying_then(b"", Peer.reset)) as here:
        seen = await outcome_of(here.url)

    assert ("connection_lost", True) == (seen.code, seen.retryable)


async def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    """HTTP/1.0 and close-delimited bodies are whole when the peer closes in order; the decoder judges the content."""
    async with provider(saying_then(f"HTTP/1.0 200 OK\r\n{SSE}\r\n\r\n".encode() + BODY, Peer.close)) as here:
        seen = await outcome_of(here.url)

    assert (200, BODY, "") == (seen.status, seen.body, seen.code)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", id="HTTP/2 frames"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(whole(b"", f"x-huge: {'x' * 9_000}"), id="a huge header"),
        pytest.param(whole(b"", *(f"x-{number}: 1" for number in range(200))), id="too many headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc", id="two lengths"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", id="101"),
    ],
)
async def test_what_is_not_http_is_said_at_once(raw: bytes) -> None:
    """An answer that cannot be read ends the call when it is seen, although the provider stays there, silent."""
    async with provider(saying_then(raw, Peer.gone)) as here:
        seen = await outcome_of(here.url)

    assert Outcome(code="protocol_error", error_status=502, retryable=True) == seen


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"zz\r\n", id="a chunk size that is no number"),
        pytest.param(b"1\r\nabc\r\n", id="a chunk longer than its size"),
        pytest.param(b"f" * 20 + b"\r\n", id="a chunk size beyond 64 bits"),
    ],
)
async def test_framing_that_breaks_in_mid_body_is_said_at_once(broken: bytes) -> None:
    """What was read before the break is passed on; the call then fails at once, and not after the idle time."""
    async with provider(saying_in_turn(STREAMED + chunk(b"event"), broken)) as here:
        seen = await outcome_of(here.url)

    assert ("protocol_error", 502, False) == (seen.code, seen.error_status, seen.retryable)
    assert seen.body.startswith(b"event")


async def test_nonsense_after_a_whole_reply_does_not_spoil_it() -> None:
    """What follows the end of a reply costs the connection, not the reply, which a slow client still gets."""
    async with (
        provider(saying_in_turn(whole(b"whole"), b"nonsense")) as here,
        open_upstream(UpstreamSettings()) as upstream,
        upstream.send(call_to(here.url)) as reply,
    ):
        await here.peers[0].left.wait()
        body = [data async for data in reply.chunks()]

    assert [b"whole"] == body


async def test_a_connection_that_never_was_cannot_be_written_to() -> None:
    """A socket that closed between connecting and writing is lost, and nothing was sent."""
    with pytest.raises(UpstreamError, match="closed the connection before it answered"):
        Connection(asyncio.get_running_loop(), set()).start(b"head", b"body")


async def test_interim_replies_are_passed_over() -> None:
    """100 Continue and 103 Early Hints announce the reply and are not it."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with provider(saying_then(interim + whole(b"ok"), Peer.gone)) as here:
        seen = await outcome_of(here.url)

    assert (200, b"ok") == (seen.status, seen.body)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(1, len(chunked()) - 1), max_size=12).map(lambda cuts: sorted(set(cuts))))
def test_slicing_changes_nothing(cuts: list[int]) -> None:
    """However the provider's bytes are cut into packets, the same body arrives."""
    raw = chunked()
    pieces = [raw[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)

    async def run() -> Outcome:
        async with provider(script) as here:
            return await outcome_of(here.url)

    assert BODY == asyncio.run(run()).body


async def test_a_slow_client_slows_the_provider() -> None:
    """While nobody reads, the provider is held back instead of filling memory; then every byte still arrives."""
    size, piece = 64 * 1024 * 1024, bytes(range(256)) * 256

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAMED)
        for _ in range(size // len(piece)):
            await peer.send(chunk(piece))
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with (
        provider(script) as here,
        open_upstream(UpstreamSettings()) as upstream,
        upstream.send(call_to(here.url)) as reply,
    ):
        held = await settled(lambda: here.peers[0].sent)
        total, whole_pieces = 0, bytearray()
        async for data in reply.chunks():
            total += len(data)
            whole_pieces = (whole_pieces + data)[-len(piece) :]

    assert held < size // 2
    assert (size, piece) == (total, bytes(whole_pieces))


async def settled(measure: Callable[[], int]) -> int:
    """Return a growing number once it has stopped growing."""
    last, now = -1, measure()
    while last != now:
        await asyncio.sleep(0.1)
        last, now = now, measure()
    return now


async def test_cancelling_before_the_head_closes_the_connection() -> None:
    """A call that is given up while the provider thinks leaves no work behind at the provider."""
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(outcome_at(upstream, here.url))
            await asked.wait()
            task.cancel()
        await here.peers[0].left.wait()

    assert task.cancelled()


@pytest.mark.parametrize("way", ["cancelled", "left", "raised"])
async def test_giving_up_in_mid_stream_closes_the_connection(way: str) -> None:
    """However a reply is abandoned, the provider learns at once that nobody listens, with the door still open."""
    begun = asyncio.Event()

    async def read(upstream: Upstream, url: str) -> None:
        async with upstream.send(call_to(url)) as reply:
            async for _ in reply.chunks():
                begun.set()
                if way == "left":
                    break
                if way == "raised":
                    raise ValueError

    script = saying_then(STREAMED + chunk(b"data: 1\n\n"), Peer.gone)
    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(read(upstream, here.url))
                await begun.wait()
                task.cancel()
        await here.peers[0].left.wait()

    assert task.done()


async def test_a_reply_may_come_before_the_request_was_sent_whole() -> None:
    """An early refusal is read; the half-written request then keeps its connection out of the pool."""

    async with provider(saying_after_first_bytes) as here, open_upstream(UpstreamSettings()) as upstream:
        for _ in range(2):
            async with upstream.send(call_to(here.url, body=b"x" * 50_000_000)) as reply:
                body = b"".join([data async for data in reply.chunks()])

    assert (413, b"too large", 2) == (reply.status, body, len(here.peers))


async def saying_after_first_bytes(peer: Peer) -> None:
    """Refuse a request as soon as its head is there, and read no more of it."""
    await peer.head()
    await peer.send(whole(b"too large", status="413 Content Too Large"))
    await asyncio.Event().wait()


async def test_many_requests_share_a_connection() -> None:
    """A connection whose reply was read whole serves the next call."""
    async with provider(saying(chunked())) as here, open_upstream(UpstreamSettings()) as upstream:
        bodies = []
        for _ in range(3):
            async with upstream.send(call_to(here.url)) as reply:
                bodies.append(b"".join([data async for data in reply.chunks()]))

    assert ([BODY] * 3, 1) == (bodies, len(here.peers))
