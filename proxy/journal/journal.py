"""Owns the keeping of the audit log: what is written when, and the thread that syncs, signs and anchors.

Entries are made and written on the event loop, all of one tick together, as the record store's commits are: a thread
that did it would lose more to lock hand-overs than it takes. Only for the disk nobody waits on the loop: the thread
syncs, once for all who came by then, and tells a call that must not go on unlogged.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from queue import Empty, SimpleQueue
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
BATCH = 128
"""Entries written in one tick: bounds how long the loop is held."""
CLOSING_S = 0.001


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


class _Round(msgspec.Struct, frozen=True, kw_only=True):
    """What the thread is asked for."""

    waiters: list[_Waiter] = []
    """Who waits until what is written is on disk."""
    mends: bool = False
    """There was trouble, and now something could be written."""
    rolls: bool = False
    """The file is full. Until the next one is there nothing is written."""
    last: bool = False


class Journal:
    """The audit log of this process. With `required`, `ensure` raises Overloaded while it cannot be written."""

    def __init__(
        self,
        log: Log,
        *,
        required: bool = False,
        pace: Pace | None = None,
        tell: Callable[[str], None] | None = None,
        tell_anchor: Callable[[str, str], None] | None = None,
    ) -> None:
        """Start the thread; `tell` learns why the log cannot be written, and with an empty text that it can,
        `tell_anchor` the same of each place (`path`, `url`) that checkpoints go to."""
        self.required = required
        self.trouble = ""
        """Why it cannot be written, empty while it can."""
        self.anchors: dict[str, Json] = {}
        """Of each second place, `path` or `url`, why it has not the newest checkpoint; empty where it has."""
        self._log = log
        self._pace = pace or Pace()
        self._tell = tell or (lambda _: None)
        self._tell_anchor = tell_anchor or (lambda _, __: None)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Writer, _Waiter | None]] = deque()
        self._soon = False
        """The queue is written in the next tick."""
        self._waiting: deque[tuple[float, _Waiter]] = deque()
        """Who waits, and until when at most."""
        self._refused = self._told = 0
        """Entries that found no room, and those of them that the log tells of."""
        self._written_s = self._signed_s = time.monotonic()
        self._tried_s = 0.0
        self._rolling = False
        """The thread goes on to another file."""
        self._asked: SimpleQueue[_Round] = SimpleQueue()
        self._timer = self._loop.call_later(self._pace.poll_s, self._tick)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

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
        elif self.trouble or not self._put(write, waiter):
            raise refusal()
        else:
            self._waiting.append((time.monotonic() + self._pace.patience_s, waiter))
        return waiter

    def anchored(self, place: str, failure: str) -> None:
        """Note why a second place has not the newest checkpoint, empty: it has; a change is told."""
        changed = failure != self.anchors.get(place, "")
        self.anchors[place] = failure
        if changed:
            self._tell_anchor(place, failure)

    def status(self) -> dict[str, Json]:
        """Say how the log is."""
        return {
            "log": self._log.origin,
            "required": self.required,
            "entries": self._log.size,
            "signed": self._log.signed,
            "pending": len(self._queue),
            "lost": self.lost,
            "trouble": self.trouble,
            "anchors": dict(self.anchors),
        }

    async def close(self) -> None:
        """Write what is there, sign and anchor it, and end."""
        self._timer.cancel()
        self._queue.append((event("stopped", _wall_ms(), {}), None))
        until_s, self._tried_s = time.monotonic() + self._pace.patience_s, -math.inf
        while self._queue and self._flush() and time.monotonic() < until_s:  # noqa: ASYNC110 - the thread ends it
            await asyncio.sleep(CLOSING_S)
        self._asked.put(_Round(last=True))
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._log.close)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _put(self, write: Writer, waiter: _Waiter | None) -> bool:
        if len(self._queue) >= self._pace.room:
            self._refused += 1
            return False
        self._queue.append((write, waiter))
        if not (self._soon or self.trouble):
            self._hurry()
        return True

    def _hurry(self) -> None:
        self._soon = True
        self._loop.call_soon(self._flush)

    def _tick(self) -> None:
        """Do what nothing else brings about: say that Handrail is alive, try again, and give up who waits too long."""
        self._timer = self._loop.call_later(self._pace.poll_s, self._tick)
        now_s = time.monotonic()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now_s):
            _resolve([self._waiting.popleft()[1]], stored=False)
        self._flush()

    def _flush(self) -> bool:
        """Write what there is; say whether that could be done. Who waits for an entry that was not written is refused
        and has none; what nobody waits for is kept."""
        self._soon = False
        if self._rolling:
            return True
        if self._rests():
            self._refuse()
            return False
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        if not self._append([write for write, _ in taken]):
            self._queue.extendleft(reversed(taken))
            self._refuse()
            return False
        self._rolling = self._log.file_full
        waiters = [waiter for _, waiter in taken if waiter]
        if waiters or self.trouble or self._rolling:
            asked = _Round(waiters=waiters, mends=bool(self.trouble), rolls=self._rolling)
            # In this tick the record store commits, and a thread that wakes now would only be in its way.
            self._loop.call_soon(self._asked.put, asked)
        if self._queue and not self._rolling:
            self._hurry()
        return True

    def _refuse(self) -> None:
        _resolve([waiter for _, waiter in self._queue if waiter], stored=False)
        self._queue = deque(entry for entry in self._queue if entry[1] is None)

    def _rests(self) -> bool:
        return bool(self.trouble) and time.monotonic() - self._tried_s < self._pace.retry_s

    def _append(self, writers: list[Writer]) -> bool:
        lost, now_s = self.lost, time.monotonic()
        if lost:
            writers.insert(0, event("lost", _wall_ms(), {"count": lost}))
        # After trouble it is well only when something could be written.
        if not writers and (self.trouble or now_s - self._written_s >= self._pace.heartbeat_s):
            writers.append(event("alive", _wall_ms(), {}))
        if writers:
            self._tried_s = now_s
            if trouble := _tried(partial(self._log.append, writers)):
                self._is(trouble)
                return False
            self._told += lost
            self._written_s = now_s
        return True

    def _is(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._tell(trouble)

    def _synced(self, waiters: list[_Waiter], trouble: str) -> None:
        if trouble:
            self._is(trouble)
        _resolve(waiters, stored=not trouble)

    def _ended(self, asked: _Round, trouble: str) -> None:
        if trouble or asked.mends:
            self._is(trouble)
        if asked.rolls:
            self._rolling = False
            self._flush()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        try:
            while not last:
                asked = self._next()
                last = asked.last
                self._round(asked)
        except BaseException:
            self._loop.call_soon_threadsafe(self._is, "its thread has ended")
            raise

    def _next(self) -> _Round:
        """Return all that is asked for by now; after a while that is nothing but to look whether it is time to sign."""
        try:
            rounds = [self._asked.get(timeout=self._pace.poll_s)]
            while not self._asked.empty():
                rounds.append(self._asked.get())
        except Empty:
            return _Round()
        return _Round(
            waiters=[waiter for one in rounds for waiter in one.waiters],
            mends=any(one.mends for one in rounds),
            rolls=any(one.rolls for one in rounds),
            last=rounds[-1].last,
        )

    def _round(self, asked: _Round) -> None:
        trouble = _tried(self._log.sync) if asked.waiters or asked.mends else ""
        if asked.waiters:
            self._loop.call_soon_threadsafe(self._synced, asked.waiters, trouble)
        if asked.rolls:
            trouble = trouble or _tried(partial(self._log.roll, _wall_ms()))
        trouble = trouble or _tried(partial(self._sign, now=asked.last))
        if trouble or asked.mends or asked.rolls:
            self._loop.call_soon_threadsafe(self._ended, asked, trouble)

    def _sign(self, *, now: bool) -> None:
        """Sign and anchor what there is, where it is time for that."""
        log, now_s = self._log, time.monotonic()
        behind = log.size - log.signed
        late = now or now_s - self._signed_s >= self._pace.checkpoint_s
        if behind >= self._pace.checkpoint_entries or (behind and late):
            log.checkpoint()
            self._signed_s = now_s
        self._anchors()

    def _anchors(self) -> None:
        failure = ""
        try:
            if not self._log.anchor():
                return
        except OSError as error:
            failure = error.strerror or type(error).__name__
        self._loop.call_soon_threadsafe(self.anchored, "path", failure)


def _tried(work: Callable[[], object]) -> str:
    """Do what may fail as disks do; return why it has, nothing where it has not."""
    try:
        work()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def refusal() -> Overloaded:
    """Return what a call is told that must not go on unlogged."""
    return Overloaded(
        "The audit log cannot be written, and nothing may be sent without it.",
        code="audit_unavailable",
        headers={"retry-after": "1"},
    )


def _resolve(waiters: list[_Waiter], *, stored: bool) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if stored:
            waiter.set_result(None)
        else:
            waiter.set_exception(refusal())
            waiter.exception()  # It has been looked at: who left meanwhile need not hear of it.
