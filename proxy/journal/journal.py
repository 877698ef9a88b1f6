"""Owns the thread that keeps the audit log: it groups what comes, writes, syncs, signs and anchors.

The event loop never waits for a disk: it puts an entry on a queue, and a call that must not go on unlogged awaits word
from the thread. Nobody is woken for what nobody waits for: the thread looks several times a second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from proxy.audit import Writer, event
from proxy.errors import Overloaded
from proxy.journal.log import Log
from proxy.terms import Json

POLL_S = 0.05
CHECKPOINT_ENTRIES = 256
CHECKPOINT_S = 10.0
HEARTBEAT_S = 60.0
"""After so long without an entry there is one that says so: where none is, Handrail did not run."""
RETRY_S = 1.0
BATCH = 4096


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often what happens."""

    poll_s: float = POLL_S
    checkpoint_entries: int = CHECKPOINT_ENTRIES
    checkpoint_s: float = CHECKPOINT_S
    heartbeat_s: float = HEARTBEAT_S
    retry_s: float = RETRY_S
    patience_s: float = 5.0
    """How long a call waits for its entry, at most."""
    room: int = 10_000
    """Entries that may wait; what comes on top is counted and not kept."""


_Waiter: TypeAlias = "asyncio.Future[None]"


class Journal:
    """The audit log of this process. With `required`, `ensure` raises Overloaded while it cannot be written."""

    def __init__(
        self,
        log: Log,
        *,
        required: bool = False,
        pace: Pace | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Start the thread; `tell` learns there why the log cannot be written, and with an empty text that it can."""
        self.required = required
        self.trouble = ""
        """Why it cannot be written, empty while it can."""
        self.anchors: dict[str, Json] = {}
        """Of each second place, `path` or `url`, why it has not the newest checkpoint; empty where it has."""
        self._log = log
        self._pace = pace or Pace()
        self._tell = tell or (lambda _: None)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Writer, _Waiter | None]] = deque()
        self._notes: list[Writer] = []
        """Entries that are still to be written, oldest first."""
        self._wake = threading.Event()
        self._closing = False
        self._refused = self._told = 0
        """Entries that found no room, and those of them that the log tells of."""
        self._written_s = self._signed_s = time.monotonic()
        self._tried_s = 0.0
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    # --- for the event loop -----------------------------------------------------------------------------------------

    @property
    def lost(self) -> int:
        """Return how many entries found no room, and are not yet told of in the log."""
        return self._refused - self._told

    @property
    def newest(self) -> str:
        """Return the newest checkpoint, signed."""
        return self._log.note

    def note(self, write: Writer) -> None:
        """Put down an entry; never waits, never raises."""
        self._put(write, None)

    def ensure(self, write: Writer) -> Awaitable[None]:
        """Put down an entry now, and return what to wait for: where the log is required, that it is on disk. Raise
        Overloaded, now or there, when it cannot be."""
        waiter = self._loop.create_future()
        if not self.required:
            self._put(write, None)
            waiter.set_result(None)
            return waiter
        if self.trouble or not self._put(write, waiter):
            raise refusal()
        self._wake.set()
        return self._patient(waiter)

    async def _patient(self, waiter: _Waiter) -> None:
        try:
            async with asyncio.timeout(self._pace.patience_s):
                await waiter
        except TimeoutError:
            raise refusal() from None

    def status(self) -> dict[str, Json]:
        """Say how the log is."""
        return {
            "log": self._log.origin,
            "required": self.required,
            "entries": self._log.size,
            "signed": self._log.signed,
            "pending": len(self._queue) + len(self._notes),
            "lost": self.lost,
            "trouble": self.trouble,
            "anchors": dict(self.anchors),
        }

    def close(self) -> None:
        """Write what is there, sign and anchor it, and end: call it off the loop."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._log.close()

    def _put(self, write: Writer, waiter: _Waiter | None) -> bool:
        if len(self._queue) + len(self._notes) >= self._pace.room:
            self._refused += 1
            return False
        self._queue.append((write, waiter))
        return True

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._wake.wait(self._pace.poll_s)
                self._wake.clear()
                self._round()
            self.note(event("stopped", _wall_ms(), {}))
            while self._queue and self._round(last=True):
                pass
        finally:
            if not self._closing:
                self._is("its thread has ended")

    def _round(self, *, last: bool = False) -> bool:
        """Write what there is; say whether that could be done. Who waits for an entry that was not written is refused
        and has none; what nobody waits for is kept."""
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        waiters = [waiter for _, waiter in taken if waiter]
        written = stored = False
        if last or not self._rests():
            self._tried_s = time.monotonic()
            written = self._tries(lambda: self._append([*self._notes, *(write for write, _ in taken)]))
            stored = written and (not (waiters or self.trouble) or self._tries(self._log.sync))
        self._notes = [] if written else [*self._notes, *(write for write, waiter in taken if waiter is None)]
        if waiters:
            self._loop.call_soon_threadsafe(_resolve, waiters, stored)
        well = stored and self._tries(lambda: self._sign(now=last))
        if well:
            self._is("")
        return well

    def _rests(self) -> bool:
        return bool(self.trouble) and time.monotonic() - self._tried_s < self._pace.retry_s

    def _tries(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except OSError as error:
            self._is(error.strerror or type(error).__name__)
            return False
        return True

    def _is(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._tell(trouble)

    def _append(self, writers: list[Writer]) -> None:
        lost, now_s = self.lost, time.monotonic()
        if lost:
            writers.insert(0, event("lost", _wall_ms(), {"count": lost}))
        # After trouble it is well only when something could be written.
        if not writers and (self.trouble or now_s - self._written_s >= self._pace.heartbeat_s):
            writers.append(event("alive", _wall_ms(), {}))
        if writers:
            self._log.append(writers)
            self._told += lost
            self._written_s = now_s

    def _sign(self, *, now: bool) -> None:
        """Sign and anchor what there is, where it is time for that."""
        log, now_s = self._log, time.monotonic()
        log.roll(_wall_ms())
        behind = log.size - log.signed
        late = now or now_s - self._signed_s >= self._pace.checkpoint_s
        if behind >= self._pace.checkpoint_entries or (behind and late):
            log.checkpoint()
            self._signed_s = now_s
        self._anchors()

    def _anchors(self) -> None:
        try:
            if self._log.anchor():
                self.anchors["path"] = ""
        except OSError as error:
            self.anchors["path"] = error.strerror or type(error).__name__


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def refusal() -> Overloaded:
    """Return what a call is told that must not go on unlogged."""
    return Overloaded(
        "The audit log cannot be written, and nothing may be sent without it.",
        code="audit_unavailable",
        headers={"retry-after": "1"},
    )


def _resolve(waiters: list[_Waiter], stored: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None) if stored else waiter.set_exception(refusal())
