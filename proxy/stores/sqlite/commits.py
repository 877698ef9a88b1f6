"""Owns group commit: the operations of one tick of the event loop become one transaction.

The connection is used inline on the loop, because a writer thread costs more in lock hand-overs than a commit does.
That is possible only because nothing here waits: a busy file is tried again later, and no commit syncs a disk. Where
what is written has to survive a power cut, a thread syncs after the commit, and whoever waits for that waits on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec

from proxy.errors import Overloaded
from proxy.stores.sqlite.ballast import Ballast
from proxy.stores.sqlite.books import Operation
from proxy.stores.sqlite.file import DISK_FULL, Settings, is_busy, is_full, is_trouble, overloaded
from proxy.stores.sqlite.syncer import Syncer

Commit: TypeAlias = Callable[[Sequence[Operation]], list[object]]
"""Runs operations as one transaction and returns their results; on any error nothing was written."""

_BATCH = 128
"""Operations in one transaction: bounds how long the loop is held."""
FIRST_DELAY_S = 0.001
_BUSY_DELAY_S = 0.005
_TROUBLE_DELAY_S = 1.0


class _Job(msgspec.Struct):
    """One queued operation; without a `waiter` it must never be lost."""

    run: Operation
    waiter: asyncio.Future[Any] | None = None
    until_s: float = 0.0
    lasting: bool = False

    @property
    def live(self) -> bool:
        return self.waiter is None or not self.waiter.done()

    def resolve(self, result: object) -> None:
        if self.waiter is None or self.waiter.done():
            return
        if isinstance(result, Exception):
            self.waiter.set_exception(result)
        else:
            self.waiter.set_result(result)


def _resolve(lasting: list[tuple[_Job, object]], failure: Exception | None) -> None:
    for job, result in lasting:
        job.resolve(failure or result)


class Commits:
    """Operations in the order in which they came, and those who wait for them."""

    def __init__(
        self, commit: Commit, settings: Settings, *, syncer: Syncer | None = None, ballast: Ballast | None = None
    ) -> None:
        self._commit = commit
        self._settings = settings
        self._syncer = syncer
        self._ballast = ballast
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._timer: asyncio.Handle | None = None
        self._delay_s = FIRST_DELAY_S
        self._trouble = ""
        self._singly = 0
        """How many of the next jobs are written one by one, to find the one that fails."""

    @property
    def backlog(self) -> int:
        """Return how many operations are waiting to be written."""
        return len(self._jobs)

    @property
    def trouble(self) -> str:
        """Return why writing or syncing fails at the moment, empty when neither does."""
        full = "the disk is full" if self._full else ""
        return self._trouble or full or (self._syncer.error if self._syncer else "")

    @property
    def crowded(self) -> bool:
        """Say whether more is queued than may be."""
        return len(self._jobs) >= self._settings.max_pending

    @property
    def _full(self) -> bool:
        return self._ballast is not None and not self._ballast.held

    async def do(self, run: Operation, *, lasting: bool = False) -> Any:
        """Return the operation's result once it is written, and where it is to last and power cuts count, on disk.

        Nothing that is to last is begun on a full disk: what room is left is for what has begun before.
        """
        if lasting and self._full:
            raise overloaded(DISK_FULL)
        if self.crowded:
            raise Overloaded("The record store cannot keep up.", code="store_busy", headers={"retry-after": "1"})
        waiter = self._loop.create_future()
        self._queue(_Job(run, waiter, self._loop.time() + self._settings.patience_s, lasting))
        return await waiter

    def put(self, run: Operation) -> None:
        """Queue an operation that nobody waits for, and that is never given up."""
        self._queue(_Job(run))

    async def close(self) -> str:
        """Write what is queued; return why some of it could not be written in time, empty when all was."""
        until_s = self._loop.time() + self._settings.closing_s
        try:
            while self._jobs and self._loop.time() < until_s:  # noqa: ASYNC110 - timers empty the queue
                await asyncio.sleep(FIRST_DELAY_S)
        finally:
            if self._timer:
                self._timer.cancel()
        left = len(self._jobs)
        return f"{left} records could not be written: {self._trouble or 'the file is busy'}." if left else ""

    def _queue(self, job: _Job) -> None:
        self._jobs.append(job)
        if self._timer is None:
            self._timer = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not (jobs := self._take()):
            return
        try:
            results = self._commit([job.run for job in jobs])
        except Exception as error:  # noqa: BLE001 - the background writer: nobody above it could keep the queue going
            self._failed(jobs, error)
        else:
            self._delay_s, self._trouble = FIRST_DELAY_S, ""
            self._answer(jobs, results)
        if self._jobs and self._timer is None:
            self._timer = self._loop.call_soon(self._flush)

    def _answer(self, jobs: list[_Job], results: list[object]) -> None:
        """Give everybody their results: to those whose operation must last, after the next sync that begins."""
        lasting: list[tuple[_Job, object]] = []
        for job, result in zip(jobs, results, strict=True):
            if job.lasting and self._syncer and not isinstance(result, Exception):
                lasting.append((job, result))
            else:
                job.resolve(result)
        if lasting and self._syncer:
            self._syncer.sync(partial(_resolve, lasting))

    def _take(self) -> list[_Job]:
        """Return the next batch; a caller that went away or gave up is skipped, so nothing is written for it."""
        jobs: list[_Job] = []
        size = 1 if self._singly else _BATCH
        while self._jobs and len(jobs) < size:
            job = self._jobs.popleft()
            if job.live:
                jobs.append(job)
        self._singly = max(0, self._singly - 1)
        return jobs

    def _failed(self, jobs: list[_Job], error: Exception) -> None:
        """Queue the batch again, in order, since none of it was written; give up a job that fails by its own fault."""
        if not is_trouble(error) and len(jobs) == 1:
            self._give_up(jobs[0], error)
            return
        self._jobs.extendleft(reversed(jobs))
        if is_trouble(error):
            self._retry(error)
        else:
            self._singly = len(jobs)

    def _give_up(self, job: _Job, error: Exception) -> None:
        if job.waiter:
            job.resolve(error)
        else:
            self._loop.call_exception_handler({"message": "a record could not be written", "exception": error})

    def _retry(self, error: Exception) -> None:
        """Wait, and fail the callers that cannot: all of them, unless the file is only busy."""
        busy, now_s = is_busy(error), self._loop.time()
        if self._ballast and self._ballast.held and is_full(error):
            self._ballast.give()
            self._delay_s = FIRST_DELAY_S
        for job in self._jobs:
            if not busy or now_s >= job.until_s:
                job.resolve(overloaded(error))
        self._jobs = deque(job for job in self._jobs if job.live)
        self._trouble = "" if busy else str(error)
        self._timer = self._loop.call_later(self._delay_s, self._flush)
        self._delay_s = min(self._delay_s * 2, _BUSY_DELAY_S if busy else _TROUBLE_DELAY_S)
