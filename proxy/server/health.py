"""Owns health: `/healthz`, `/readyz` and `/metrics`, answered on a thread of their own.

A main loop that is stuck cannot answer for itself; this thread can, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from proxy.server.address import bind

BEAT_S = 0.02
MAX_AGE_S = 10.0
"""Age of the last heartbeat beyond which the main loop counts as stuck."""
HEAD_S = 5.0
HEAD_BYTES = 8192

Answer: TypeAlias = tuple[int, str, bytes]


class Heartbeat:
    """A sign of life that the main loop gives fifty times a second; readable from any thread. How late each one comes
    tells how long the loop is held up."""

    def __init__(self, now: Callable[[], float] = time.monotonic, late: Callable[[float], None] | None = None) -> None:
        self._now = now
        self._at = now()
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat on the running loop, until stopped."""
        self._at = self._now()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        if self._late:
            self._late(max(0.0, self._now() - self._at - BEAT_S))
        self.start()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer:
            self._timer.cancel()

    def age_s(self) -> float:
        """Return the seconds since the last beat."""
        return self._now() - self._at


class Health:
    """The health listener. Its callables run on its own thread, so they may only read what can be read from any."""

    def __init__(
        self,
        age_s: Callable[[], float],
        reasons: Callable[[], Sequence[str]],
        metrics: Callable[[], tuple[bytes, str]],
        *,
        max_age_s: float = MAX_AGE_S,
    ) -> None:
        self._age_s = age_s
        self._reasons = reasons
        self._metrics = metrics
        self._max_age_s = max_age_s
        self._stopped = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._pages: dict[str, Callable[[], Answer]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
        }

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Return all that can be asked for: methods and paths."""
        return [("GET", path) for path in self._pages]

    # --- the thread -------------------------------------------------------------------------------------------------

    def start(self, listen: str) -> str:
        """Listen on `host:port`; return the address, with the port that was given for port 0. Raises OSError here,
        not in the thread."""
        listener, address = bind(listen)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="health", daemon=True)
        self._thread.start()
        return address

    def stop(self) -> None:
        """Close the listener and wait for the thread to end: call it off the main loop."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(HEAD_S)

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen(listener))

    async def _listen(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._serve, sock=listener, limit=HEAD_BYTES)
        await self._stopped.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that is slow, gone or makes no sense gets no answer; neither does one whose page fails, which is
        # what a probe understands.
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer(head))
                await writer.drain()

    # --- the pages --------------------------------------------------------------------------------------------------

    def answer(self, head: bytes) -> bytes:
        """Return the whole HTTP reply to a request head."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        page = self._pages.get(rest.partition(" ")[0].partition("?")[0])
        if method not in ("GET", "HEAD"):
            status, content_type, body = 405, "text/plain", b"GET only\n"
        elif not page:
            status, content_type, body = 404, "text/plain", b"not found\n"
        else:
            status, content_type, body = page()
        lines = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            f"content-type: {content_type}",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            "connection: close",
        )
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body if method != "HEAD" else b"")

    def _stuck(self) -> tuple[str, ...]:
        age_s = self._age_s()
        return (f"the main loop has not moved for {age_s:.1f} s",) if age_s > self._max_age_s else ()

    def _healthz(self) -> Answer:
        return _verdict("ok", self._stuck())

    def _readyz(self) -> Answer:
        return _verdict("ready", (*self._stuck(), *self._reasons()))

    def _metrics_page(self) -> Answer:
        body, content_type = self._metrics()
        return 200, content_type, body


def _verdict(good: str, reasons: Sequence[str]) -> Answer:
    body = msgspec.json.encode({"status": f"not {good}" if reasons else good, "reasons": list(reasons)})
    return 503 if reasons else 200, "application/json", body
