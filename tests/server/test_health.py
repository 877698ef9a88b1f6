"""Owns the proof that health is told from a thread that a stuck main loop cannot stop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from proxy.server.health import BEAT_S, HEAD_BYTES, Health, Heartbeat
from tests.server.rig import WAIT_S, status_of


def get(path: str) -> bytes:
    """Build a probe's request."""
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def ask(address: str, raw: bytes) -> bytes:
    """Send bytes to a health listener, and return all that comes back."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def health(
    age_s: Callable[[], float] = lambda: 0.0,
    reasons: Callable[[], Sequence[str]] = tuple,
    metrics: Callable[[], tuple[bytes, str]] = lambda: (b"up 1\n", "text/plain; version=0.0.4"),
    max_age_s: float = 10.0,
) -> Iterator[str]:
    """Listen for probes while the context is open; gives the address."""
    listener = Health(age_s, reasons, metrics, max_age_s=max_age_s)
    address = listener.start("127.0.0.1:0")
    try:
        yield address
    finally:
        listener.stop()


@pytest.mark.parametrize(
    ("path", "age_s", "reasons", "status", "body"),
    [
        pytest.param("/healthz", 0.1, (), 200, b'{"status":"ok","reasons":[]}', id="alive"),
        pytest.param("/healthz", 0.1, ("no policy",), 200, b'{"status":"ok","reasons":[]}', id="alive, not ready"),
        pytest.param(
            "/healthz", 12.0, (), 503,
            b'{"status":"not ok","reasons":["the main loop has not moved for 12.0 s"]}', id="stuck",
        ),
        pytest.param("/readyz", 0.1, (), 200, b'{"status":"ready","reasons":[]}', id="ready"),
        pytest.param(
            "/readyz", 0.1, ("no policy",), 503, b'{"status":"not ready","reasons":["no policy"]}', id="not ready"
        ),
        pytest.param(
            "/readyz", 12.0, (), 503,
            b'{"status":"not ready","reasons":["the main loop has not moved for 12.0 s"]}', id="stuck is not ready",
        ),
        pytest.param("/metrics", 0.1, (), 200, b"up 1\n", id="metrics"),
        pytest.param("/metrics?x=1", 0.1, (), 200, b"up 1\n", id="a query"),
        pytest.param("/v1/models", 0.1, (), 404, b"not found\n", id="nothing else"),
        pytest.param("http://h/healthz", 0.1, (), 404, b"not found\n", id="absolute form"),
    ],
)  # fmt: skip
def test_pages(path: str, age_s: float, reasons: tuple[str, ...], status: int, body: bytes) -> None:
    """Liveness asks for the main loop's heartbeat only, readiness for reasons as well; there are three pages."""
    with health(lambda: age_s, lambda: reasons) as address:
        reply = ask(address, get(path))

    assert (status, body) == (status_of(reply), reply.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"POST /healthz HTTP/1.1\r\n\r\n", 405, id="POST"),
        pytest.param(b"HEAD /healthz HTTP/1.1\r\n\r\n", 200, id="HEAD"),
        pytest.param(b"\r\n\r\n", 405, id="no method"),
        pytest.param(b"GET\r\n\r\n", 404, id="no path"),
        pytest.param(b"GET /healthz", 0, id="no end"),
        pytest.param(b"GET /" + b"a" * HEAD_BYTES + b"\r\n\r\n", 0, id="too long"),
    ],
)
def test_probes_that_make_no_sense_do_no_harm(raw: bytes, status: int) -> None:
    """Whatever is sent, the listener goes on."""
    with health() as address:
        reply = ask(address, raw)
        after = ask(address, get("/healthz"))

    assert (status, 200) == (status_of(reply), status_of(after))


def test_a_page_that_fails_is_a_probe_that_fails() -> None:
    """When a page cannot be made, the connection closes without an answer; the other pages still work."""

    def broken() -> tuple[bytes, str]:
        raise ZeroDivisionError

    with health(metrics=broken) as address:
        reply = ask(address, get("/metrics"))
        after = ask(address, get("/healthz"))

    assert (b"", 200) == (reply, status_of(after))


async def test_a_stuck_main_loop_is_told_of() -> None:
    """While the main loop is blocked, liveness is answered at once, and says so."""
    heartbeat = Heartbeat()
    heartbeat.start()
    listener = Health(heartbeat.age_s, tuple, lambda: (b"", ""), max_age_s=0.1)
    address = listener.start("127.0.0.1:0")

    with ThreadPoolExecutor(1) as pool:
        time.sleep(0.2)  # noqa: ASYNC251 - blocking the loop is what is tested
        reply = pool.submit(ask, address, get("/healthz")).result()
    heartbeat.stop()
    await asyncio.to_thread(listener.stop)

    assert 503 == status_of(reply)


async def test_the_heart_beats_until_it_is_stopped() -> None:
    """The age of the last beat goes back to nothing with every beat."""
    times = [0.0]
    heartbeat = Heartbeat(now=lambda: times[0])
    heartbeat.start()

    times[0] = 100.0
    before = heartbeat.age_s()
    await asyncio.sleep(BEAT_S * 1.5)
    after = heartbeat.age_s()
    heartbeat.stop()
    times[0] = 200.0
    await asyncio.sleep(BEAT_S * 1.5)

    assert (100.0, 0.0, 100.0) == (before, after, heartbeat.age_s())


async def test_how_late_a_beat_comes_is_told() -> None:
    """Beyond the time between two, and never less than nothing."""
    times = iter([0.0, 10.0, 10.0 + BEAT_S + 0.3, 20.0, 20.0 + BEAT_S / 2, 30.0])
    late, told = list[float](), asyncio.Event()

    def tell(seconds: float) -> None:
        late.append(round(seconds, 6))
        if len(late) == 2:
            told.set()

    heartbeat = Heartbeat(now=lambda: next(times), late=tell)
    heartbeat.start()
    await told.wait()
    heartbeat.stop()

    assert [0.3, 0.0] == late


def test_an_address_that_is_taken_is_an_error_at_the_start() -> None:
    """The caller hears of it, not the thread."""
    with health() as address, pytest.raises(OSError, match="in use"):
        Health(lambda: 0.0, tuple, lambda: (b"", "")).start(address)


def test_what_never_started_can_be_stopped() -> None:
    """Stopping is safe at any time, for a heartbeat as well."""
    Health(lambda: 0.0, tuple, lambda: (b"", "")).stop()
    Heartbeat(now=lambda: 1.0).stop()

    assert Heartbeat(now=lambda: 1.0).age_s() == 0.0


def test_it_tells_its_routes() -> None:
    """What checks every route learns them here."""
    told = Health(lambda: 0.0, tuple, lambda: (b"", "")).routes

    assert [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")] == told
