"""Owns the proof of which connection a call gets, and of how failing to get one is said."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.errors import UpstreamError
from proxy.ports import Upstream
from proxy.upstream import UpstreamSettings, open_upstream
from proxy.upstream.pool import new_socket
from tests.upstream.scripted import (
    CERTIFICATE,
    STREAMED,
    Outcome,
    Peer,
    call_to,
    chunk,
    outcome_at,
    outcome_of,
    provider,
    saying,
    saying_then,
    whole,
)

OK = whole(b"ok")


# --- failing to connect ---------------------------------------------------------------------------------------------


@contextmanager
def refusing() -> Iterator[str]:
    """Give an address at which nobody listens and nobody can begin to."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"


@contextmanager
def not_accepting() -> Iterator[str]:
    """Give an address whose queue is full, so that the kernel drops every further SYN."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"


async def test_a_refused_connection_is_said() -> None:
    """Nobody listening is a bad gateway that another target may make good, with the system's word for it."""
    with refusing() as url:
        async with open_upstream(UpstreamSettings()) as upstream:
            with pytest.raises(UpstreamError, match=r"could not be reached\. \(ECONNREFUSED\)$") as caught:
                await upstream.send(call_to(url)).__aenter__()

    assert ("connect_failed", 502, True) == (caught.value.code, caught.value.status, caught.value.retryable)


async def test_a_dropped_syn_ends_with_the_deadline() -> None:
    """A host that does not answer at all costs the connect deadline and no more."""
    with not_accepting() as url:
        seen = await outcome_of(url, UpstreamSettings(connect_ms=60))

    assert Outcome(code="connect_timeout", error_status=502, retryable=True) == seen


@pytest.mark.parametrize(
    "host", [pytest.param("nowhere.invalid", id="unknown"), pytest.param("x" * 64 + ".invalid", id="not a name")]
)
async def test_a_name_that_does_not_resolve_is_said(host: str) -> None:
    """A host that no resolver knows is not a host that refuses."""
    seen = await outcome_of(f"http://{host}/v1")

    assert Outcome(code="dns_failed", error_status=502, retryable=True) == seen


async def test_one_lookup_serves_a_burst() -> None:
    """Calls that arrive together share the lookup; its failure reaches each of them, also after one has given up."""
    async with open_upstream(UpstreamSettings()) as upstream, asyncio.TaskGroup() as group:
        given_up = group.create_task(outcome_at(upstream, "http://nowhere.invalid/"))
        others = [group.create_task(outcome_at(upstream, "http://nowhere.invalid/")) for _ in range(4)]
        await asyncio.sleep(0)
        given_up.cancel()

    assert ["dns_failed"] * 4 == [task.result().code for task in others]


# --- TLS ------------------------------------------------------------------------------------------------------------


async def test_a_certificate_of_a_trusted_authority_is_accepted() -> None:
    """With its authority in `ca_file` a provider is reached, and its connection is used again."""
    trusting = UpstreamSettings(ca_file=str(CERTIFICATE))
    async with provider(saying(OK), tls=True) as here, open_upstream(trusting) as upstream:
        seen = [await outcome_at(upstream, here.url) for _ in range(2)]

    assert ([b"ok", b"ok"], 1) == ([one.body for one in seen], len(here.peers))


@pytest.mark.parametrize(
    ("trusted", "host"),
    [pytest.param("", "localhost", id="self-signed"), pytest.param(str(CERTIFICATE), "127.0.0.1", id="another host's")],
)
async def test_a_certificate_that_proves_nothing_ends_the_call(trusted: str, host: str) -> None:
    """No byte of a call goes to a server whose certificate is not trusted for the host that was asked for."""
    async with provider(saying(OK), tls=True) as here:
        seen = await outcome_of(here.url.replace("localhost", host), UpstreamSettings(ca_file=trusted))

    assert (Outcome(code="tls_failed", error_status=502, retryable=True), []) == (seen, here.peers)


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear() -> None:
    """An https URL whose server answers without TLS fails."""

    async def script(peer: Peer) -> None:
        await peer.send(OK)
        await peer.gone()

    async with provider(script) as here:
        seen = await outcome_of(here.url.replace("http:", "https:"))

    assert "tls_failed" == seen.code


async def test_a_handshake_that_is_broken_off_is_a_fault_of_tls() -> None:
    """A server that is there and closes in the handshake was reached: what failed is TLS."""

    async def script(peer: Peer) -> None:
        peer.reset()

    async with provider(script) as here:
        seen = await outcome_of(here.url.replace("http:", "https:"))

    assert Outcome(code="tls_failed", error_status=502, retryable=True) == seen


async def test_a_handshake_that_hangs_ends_with_the_connect_deadline() -> None:
    """TLS is part of connecting."""

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with provider(silent) as here:
        seen = await outcome_of(here.url.replace("http:", "https:"), UpstreamSettings(connect_ms=60))

    assert "connect_timeout" == seen.code


# --- using a connection again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "connections"),
    [
        pytest.param(OK, 1, id="kept"),
        pytest.param(STREAMED + chunk(b"ok") + b"0\r\n\r\n", 1, id="kept after chunks"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 1, id="kept without a body"),
        pytest.param(whole(b"ok", "connection: close"), 2, id="closed by header"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 2, id="HTTP/1.0"),
        pytest.param(OK + whole(b"another"), 2, id="more than was asked"),
        pytest.param(whole(b"", status="404 Not Found"), 1, id="kept after an error"),
    ],
)
async def test_a_connection_is_used_again_when_it_can_be(reply: bytes, connections: int) -> None:
    """A connection serves the next call exactly when the reply was whole and the provider keeps it."""
    async with provider(saying(reply)) as here, open_upstream(UpstreamSettings()) as upstream:
        seen = [await outcome_at(upstream, here.url) for _ in range(2)]

    assert (["", ""], connections) == ([one.code for one in seen], len(here.peers))
    assert all(b"another" not in one.body for one in seen)


async def test_an_unread_reply_is_not_kept() -> None:
    """A reply that nobody read to its end would stand before the next one: its connection is closed."""
    async with provider(saying(STREAMED + chunk(b"ok"))) as here, open_upstream(UpstreamSettings()) as upstream:
        for _ in range(2):
            async with upstream.send(call_to(here.url)):
                pass

    assert 2 == len(here.peers)


async def test_a_reply_that_arrived_whole_need_not_be_read() -> None:
    """What is left unread of a reply that has arrived is forgotten, and its connection kept."""
    async with provider(saying(OK)) as here, open_upstream(UpstreamSettings()) as upstream:
        for _ in range(2):
            async with upstream.send(call_to(here.url)) as reply:
                status = reply.status

    assert (200, 1) == (status, len(here.peers))


async def test_what_is_said_unasked_is_never_the_next_reply() -> None:
    """A second reply that arrives while the connection is idle closes it; the next call gets its own answer."""
    answers = iter([b"first", b"second"])
    done, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(next(answers)))
        await done.wait()
        await peer.send(whole(b"unasked"))
        await peer.gone()
        closed.set()

    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        first = await outcome_at(upstream, here.url)
        done.set()
        await closed.wait()
        second = await outcome_at(upstream, here.url)

    assert (b"first", b"second", 2) == (first.body, second.body, len(here.peers))


class BlockingProvider:
    """A provider on a thread of its own: it acts while the loop of the test stands still."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.requests = 0
        self._first: socket.socket | None = None

    def answer(self, body: bytes) -> None:
        """Accept one connection and answer one request on it."""
        connection, _ = self._listener.accept()
        connection.recv(65536)
        self.requests += 1
        connection.sendall(whole(body))
        if self._first:
            connection.close()
        else:
            self._first = connection

    def end(self, last_words: bytes) -> None:
        """Close the first connection, which the client keeps for its next call."""
        assert self._first
        self._first.sendall(last_words)
        self._first.close()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


@pytest.mark.parametrize("last_words", [pytest.param(b"", id="a FIN"), pytest.param(OK, id="a reply unasked")])
async def test_news_that_the_loop_has_not_seen_is_seen_before_writing(last_words: bytes) -> None:
    """An idle connection that its server has just closed is passed over although the loop was too busy to notice, and
    the call, of which nothing was written yet, goes out once, over a new one."""
    server = BlockingProvider()
    async with open_upstream(UpstreamSettings()) as upstream:
        for body in (b"one", b"two"):
            thread = threading.Thread(target=server.answer, args=(body,))
            thread.start()
            seen = await outcome_at(upstream, server.url)
            thread.join()
            if body == b"one":
                server.end(last_words)  # no await between here and the next call's first write

    server.close()
    assert (b"two", 2) == (seen.body, server.requests)


async def test_a_call_that_was_written_is_not_sent_again() -> None:
    """A kept connection that dies after the request was written fails the call: it may have been billed."""
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.request())
        await peer.send(OK)
        requests.append(await peer.request())
        peer.close()

    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        await outcome_at(upstream, here.url)
        seen = await outcome_at(upstream, here.url)

    assert (Outcome(code="connection_lost", error_status=502, retryable=True), 2) == (seen, len(requests))


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    """What was kept for the next call and is not used is given up, and the next call connects anew."""
    delays_s = iter([0.0, 0.0, 0.02, 0.0])

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(next(delays_s))
        await peer.send(OK)
        await peer.gone()

    async with provider(script) as here, open_upstream(UpstreamSettings(keepalive_ms=40)) as upstream:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(outcome_at(upstream, here.url))
        for peer in list(here.peers):
            await peer.left.wait()
        seen = await outcome_at(upstream, here.url)

    assert (b"ok", 4) == (seen.body, len(here.peers))


async def test_the_most_recently_used_connection_is_taken_first() -> None:
    """After a burst of three, calls one by one use one connection, so that the other two can expire."""
    served: list[Peer] = []

    async def script(peer: Peer) -> None:
        while await peer.request():
            served.append(peer)
            await peer.send(OK)

    async with provider(script) as here, open_upstream(UpstreamSettings()) as upstream:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(outcome_at(upstream, here.url))
        burst = len(here.peers)
        for _ in range(4):
            await outcome_at(upstream, here.url)

    assert (burst, 1) == (len(here.peers), len(set(served[3:])))


async def test_hosts_do_not_share_connections() -> None:
    """A connection serves the host and port that it was made to, and no other."""
    async with (
        provider(saying(whole(b"a"))) as one,
        provider(saying(whole(b"b"))) as other,
        open_upstream(UpstreamSettings()) as upstream,
    ):
        bodies = [(await outcome_at(upstream, here.url)).body for here in (one, other, one, other)]

    assert ([b"a", b"b", b"a", b"b"], 1, 1) == (bodies, len(one.peers), len(other.peers))


async def test_closing_the_door_ends_open_calls() -> None:
    """A reply that is still arriving when the door closes is cut; nothing hangs and nothing stays open."""
    begun, codes = asyncio.Event(), []

    async def read(upstream: Upstream, url: str) -> None:
        try:
            async with upstream.send(call_to(url)) as reply:
                async for _ in reply.chunks():
                    begun.set()
        except UpstreamError as error:
            codes.append(error.code)

    async with (
        provider(saying_then(STREAMED + chunk(b"data"), Peer.gone)) as here,
        asyncio.TaskGroup() as group,
    ):
        async with open_upstream(UpstreamSettings()) as upstream:
            group.create_task(read(upstream, here.url))
            await begun.wait()
        await here.peers[0].left.wait()

    assert ["stream_cut"] == codes


@pytest.mark.parametrize(
    ("level", "option", "expected"),
    [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
    ],
)
def test_a_vanished_peer_is_noticed(level: int, option: int, expected: int) -> None:
    """Every socket probes its peer, and gives up after thirty seconds without an answer."""
    with new_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as sock:
        value = sock.getsockopt(level, option)

    assert expected == value
