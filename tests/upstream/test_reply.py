"""Owns the proof of deadlines and bounds, and of what of a reply is passed on."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import pytest

from proxy.errors import UpstreamError
from proxy.terms import Secret
from proxy.upstream import UpstreamSettings, open_upstream
from tests.upstream.scripted import (
    PATIENCE_S,
    STREAMED,
    Outcome,
    Peer,
    Script,
    call_to,
    chunk,
    outcome_of,
    provider,
    saying,
    saying_then,
    whole,
)

PING = chunk(b": ping\n\n")
EVENT = chunk(b"data: 1\n\n")
SHORT = UpstreamSettings(first_byte_ms=60, idle_ms=60)
SILENT = UpstreamSettings(first_byte_ms=PATIENCE_S * 2_000, idle_ms=60)


def dripping(data: bytes, every_s: float) -> Callable[[Peer], Awaitable[None]]:
    """Send a piece over and over until the client has gone."""

    async def drip(peer: Peer) -> None:
        while True:
            await peer.send(data)
            await asyncio.sleep(every_s)

    return drip


# --- deadlines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(b"", Peer.gone, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx-a: ", dripping(b"x", 0.01), id="a header that never ends"),
        pytest.param(b"", dripping(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), id="promises only"),
    ],
)
async def test_a_head_that_does_not_come_ends_the_wait(first: bytes, then: Callable[[Peer], Awaitable[None]]) -> None:
    """The first-byte deadline runs until the whole head is there, however busily the provider sends less than that."""
    async with provider(saying_then(first, then)) as here:
        seen = await outcome_of(here.url, SHORT)

    assert Outcome(code="first_byte_timeout", error_status=504, retryable=True) == seen


async def test_a_stall_between_chunks_ends_the_wait() -> None:
    """A provider that stops in mid-answer is given up after the idle deadline; what it had said is passed on."""
    async with provider(saying_then(STREAMED + EVENT, Peer.gone)) as here:
        seen = await outcome_of(here.url, SILENT)

    assert (200, b"data: 1\n\n") == (seen.status, seen.body)
    assert ("idle_timeout", 504, False) == (seen.code, seen.error_status, seen.retryable)


async def test_a_stall_is_noticed_although_the_head_had_more_time() -> None:
    """The idle deadline is its own, also where the first byte may take far longer."""
    async with provider(saying_then(STREAMED, Peer.gone)) as here:
        seen = await outcome_of(here.url, SILENT)

    assert "idle_timeout" == seen.code


async def test_comments_count_as_life() -> None:
    """A stream that says nothing but SSE comments for longer than the idle deadline is alive."""

    async def pings(peer: Peer) -> None:
        for _ in range(40):
            await peer.send(PING)
            await asyncio.sleep(0.02)
        await peer.send(EVENT + b"0\r\n\r\n")

    async with provider(saying_then(STREAMED, pings)) as here:
        seen = await outcome_of(here.url, UpstreamSettings(idle_ms=700))

    assert ("", b": ping\n\n" * 40 + b"data: 1\n\n") == (seen.code, seen.body)


async def test_a_slow_client_is_not_a_stall() -> None:
    """The idle deadline runs only while we wait for the provider, not while the client takes its time."""
    resumed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAMED + EVENT)
        await resumed.wait()
        await peer.send(EVENT + b"0\r\n\r\n")

    body = b""
    async with (
        provider(script) as here,
        open_upstream(UpstreamSettings(idle_ms=500)) as upstream,
        upstream.send(call_to(here.url)) as reply,
    ):
        async for data in reply.chunks():
            body += data
            await asyncio.sleep(0 if resumed.is_set() else 0.6)
            resumed.set()

    assert b"data: 1\n\n" * 2 == body


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(saying_then(b"", Peer.gone), id="before the head"),
        pytest.param(saying_then(STREAMED, dripping(PING, 0.01)), id="in mid-stream"),
    ],
)
async def test_the_whole_call_may_have_a_deadline(script: Script) -> None:
    """With `total_ms` no amount of life keeps a call going, and no other target is tried in time that is up."""
    async with provider(script) as here:
        seen = await outcome_of(here.url, UpstreamSettings(total_ms=80))

    assert ("total_timeout", 504, False) == (seen.code, seen.error_status, seen.retryable)


async def test_the_whole_call_has_its_deadline_also_for_a_slow_client() -> None:
    """The total deadline is the call's, whoever is slow."""

    async def slow() -> None:
        async with upstream.send(call_to(here.url)) as reply:
            async for _ in reply.chunks():
                await here.peers[0].left.wait()

    script = saying_then(STREAMED + EVENT, Peer.gone)
    async with provider(script) as here, open_upstream(UpstreamSettings(total_ms=80)) as upstream:
        with pytest.raises(UpstreamError, match="longer than allowed"):
            await slow()


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        pytest.param(whole(b"x" * 101), 0, id="announced"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"x" * 60) * 2, 0, id="grown"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 101, 0, id="until close"),
    ],
)
async def test_a_body_beyond_the_bound_ends_the_call(raw: bytes, read: int) -> None:
    """A reply that would have to be kept whole cannot be larger than allowed, announced or not."""
    async with provider(saying_then(raw, Peer.gone)) as here:
        seen = await outcome_of(here.url, UpstreamSettings(max_reply_bytes=100))

    assert ("too_large", 502, False, read) == (seen.code, seen.error_status, seen.retryable, len(seen.body))


@pytest.mark.parametrize(
    "raw",
    [pytest.param(whole(b"x" * 100), id="just so large"), pytest.param(STREAMED + EVENT * 50 + b"0\r\n\r\n", id="SSE")],
)
async def test_a_body_within_the_bound_or_streamed_passes(raw: bytes) -> None:
    """The bound is inclusive, and an event stream, which nobody keeps, has none."""
    async with provider(saying(raw)) as here:
        seen = await outcome_of(here.url, UpstreamSettings(max_reply_bytes=100))

    assert ("", True) == (seen.code, len(seen.body) >= 100)


async def test_a_compressed_answer_is_refused() -> None:
    """A body that policy could not read is not passed on."""
    async with provider(saying(whole(b"\x1f\x8b", "content-encoding: gzip"))) as here:
        seen = await outcome_of(here.url)

    assert ("compressed", 502, False, b"") == (seen.code, seen.error_status, seen.retryable, seen.body)


# --- what is passed on ----------------------------------------------------------------------------------------------


async def test_headers_are_lowered_and_cleaned() -> None:
    """Framing, hop-by-hop headers, those the provider lists as such, and cookies stay here; the rest passes once."""
    raw = whole(
        b"ok",
        "Content-Type: application/json",
        "X-Request-ID: req_1",
        "X-Ratelimit-Remaining: 1",
        "x-ratelimit-remaining: 2",
        "Set-Cookie: a=b",
        "Connection: keep-alive, X-Private",
        "Keep-Alive: timeout=5",
        "X-Private: 1",
        "X-Control: a\x01b",
        "Content-Encoding: identity",
    )
    async with provider(saying(raw)) as here:
        seen = await outcome_of(here.url)

    expected = {
        "content-type": "application/json",
        "x-request-id": "req_1",
        "x-ratelimit-remaining": "1, 2",
        "content-encoding": "identity",
    }
    assert (200, expected) == (seen.status, seen.headers)


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    """Where a provider points is never gone to: the key would go along."""
    async with provider(saying(OK)) as elsewhere:
        moved = whole(b"", f"location: {elsewhere.url}", status=status)
        async with provider(saying(moved)) as here:
            seen = await outcome_of(here.url)

    assert (int(status[:3]), []) == (seen.status, elsewhere.peers)


OK = whole(b"ok")


@pytest.mark.parametrize("status", ["400 Bad Request", "429 Too Many Requests", "500 Internal Server Error"])
async def test_an_error_reply_is_a_reply(status: str) -> None:
    """What an error status means is for the provider's plug-in to say: status, headers and body pass."""
    async with provider(saying(whole(b'{"error":{}}', "retry-after: 7", status=status))) as here:
        seen = await outcome_of(here.url)

    assert Outcome(status=int(status[:3]), headers={"retry-after": "7"}, body=b'{"error":{}}') == seen


async def test_a_closed_reply_has_no_more_to_say() -> None:
    """After the call was left, its chunks are at their end."""
    async with provider(saying(OK)) as here, open_upstream(UpstreamSettings()) as upstream:
        async with upstream.send(call_to(here.url)) as reply:
            pass
        late = [data async for data in reply.chunks()]

    assert [] == late


CANARY = "sk-canary-4711"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param(saying_then(f"HTTP/9 {CANARY}\r\n\r\n".encode(), Peer.gone), "protocol_error", id="status line"),
        pytest.param(saying_then(whole(b"", f"x: {CANARY * 700}"), Peer.gone), "protocol_error", id="huge header"),
        pytest.param(saying_then(STREAMED + f"{CANARY}\r\n".encode(), Peer.gone), "protocol_error", id="chunk size"),
        pytest.param(saying_then(whole(b"", f"content-encoding: {CANARY}"), Peer.gone), "compressed", id="encoding"),
        pytest.param(saying_then(STREAMED + chunk(CANARY.encode()), Peer.reset), "stream_cut", id="body"),
        pytest.param(saying_then(b"", Peer.close), "connection_lost", id="request"),
    ],
)
async def test_no_error_repeats_what_was_sent_or_received(script: Script, code: str) -> None:
    """Key, headers and bodies of either side are in no message, no cause and no context of an error."""

    async def read() -> None:
        call = call_to(here.url, auth=Secret(CANARY), headers={"x-tag": CANARY}, body=CANARY.encode())
        async with upstream.send(call) as reply:
            async for _ in reply.chunks():
                pass

    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await read()

    told = "".join(traceback.format_exception(caught.value))
    assert (code, False) == (caught.value.code, CANARY in told)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
