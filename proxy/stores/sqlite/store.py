"""Owns group commit: the operations of one tick of the event loop become one transaction.

The connection is used inline on the loop, because a writer thread costs more in lock hand-overs than a commit does.
That is possible only because nothing here waits: a busy file is tried again later, and no commit syncs a disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import msgspec

from proxy.errors import ConfigError, Overloaded
from proxy.sealing import PLAIN, Seal
from proxy.stores import Hold, Once, Pair, pairs
from proxy.stores.sqlite.books import BALANCE, Books, Operation, totals
from proxy.stores.sqlite.contents import Contents, check
from proxy.stores.sqlite.desk import Desk, decode_session
from proxy.stores.sqlite.file import Checkpointer, connect, is_busy, is_trouble, overloaded
from proxy.stores.sqlite.places import PASSED, STANDING, Places, read
from proxy.terms import (
    Delivery,
    Exchange,
    Handoff,
    Held,
    HeldState,
    Kept,
    Place,
    Reservation,
    Session,
    Settlement,
    Stand,
    Totals,
)

_BY_ID = """SELECT (SELECT max(turn) FROM exchanges WHERE session_id = ?1),
    (SELECT body FROM sessions WHERE session_id = ?1),
    (SELECT id FROM handoffs WHERE session_id = ?1 AND closed_ms IS NULL)"""
_HELD = "SELECT id, body FROM held ORDER BY seq DESC LIMIT ?"
_HELD_SO = "SELECT id, body FROM held WHERE state = ? ORDER BY seq DESC LIMIT ?"
_HANDOFFS = "SELECT id, body FROM handoffs ORDER BY seq DESC LIMIT ?"
_HANDOFFS_OPEN = "SELECT id, body FROM handoffs WHERE closed_ms IS NULL ORDER BY seq DESC LIMIT ?"
_DUE = "SELECT id, body, tries, due_ms, error FROM handoffs WHERE due_ms <= ? ORDER BY due_ms, seq LIMIT ?"

_BATCH = 128
"""Operations in one transaction: bounds how long the loop is held."""
_FIRST_DELAY_S = 0.001
_BUSY_DELAY_S = 0.005
_TROUBLE_DELAY_S = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure the store."""

    path: str
    seal: Seal = PLAIN
    """What content is sealed with."""
    lease_ms: int = 60_000
    """How long a dispatched attempt without a hold counts as alive between heartbeats."""
    patience_s: float = 2.0
    """How long a call waits while another process holds the file."""
    closing_s: float = 5.0
    """How long closing waits to write what is queued."""
    checkpoint_s: float = 1.0
    """How often the log is moved into the file and synced to disk."""
    max_pending: int = 10_000
    """Queued operations at which new calls are refused."""


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[SqliteStore]:  # noqa: A001 - the name that a store plug-in exports
    """Yield the store on its file; leaving writes all that is queued. Raise ConfigError when the file is unusable."""
    connection = await asyncio.to_thread(_connected, settings)
    checkpointer = Checkpointer(settings.path, settings.checkpoint_s)
    checkpointer.start()
    store = SqliteStore(connection, settings, checkpointer)
    try:
        yield store
    finally:
        try:
            await store.close()
        finally:
            await asyncio.to_thread(checkpointer.stop)


def _connected(settings: Settings) -> sqlite3.Connection:
    connection = connect(settings.path)
    try:
        check(connection, settings.seal)
    except ConfigError:
        connection.close()
        raise
    return connection


class _Job(msgspec.Struct):
    """One queued operation; without a `waiter` it must never be lost."""

    run: Operation
    waiter: asyncio.Future[Any] | None = None
    until_s: float = 0.0

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


class SqliteStore:
    """Budgets, records, sessions and the desk on one file; made by `open`."""

    def __init__(self, connection: sqlite3.Connection, settings: Settings, checkpointer: Checkpointer) -> None:
        self._connection = connection
        self._settings = settings
        self._checkpointer = checkpointer
        self._contents = Contents(settings.seal)
        self._books = Books(connection, self._contents)
        self._desk = Desk(connection, self._contents)
        self._places = Places(connection)
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._timer: asyncio.Handle | None = None
        self._delay_s = _FIRST_DELAY_S
        self._trouble = ""
        self._singly = 0
        """How many of the next jobs are written one by one, to find the one that fails."""
        self._settled = Once()

    @property
    def backlog(self) -> int:
        """Return how many operations are waiting to be written."""
        return len(self._jobs)

    @property
    def trouble(self) -> str:
        """Return why writing or checkpointing fails at the moment, empty when neither does."""
        return self._trouble or self._checkpointer.error

    # --- budgets ----------------------------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none; raise BudgetExceeded or Overloaded."""
        try:
            await self._do(partial(self._books.reserve, reservation, at_ms))
        except asyncio.CancelledError:
            # The caller cannot know whether the hold was written, so nobody else would ever give it back.
            counters = pairs(reservation.limits) if reservation.booked else ()
            self.settle(Settlement(reservation_id=reservation.id, nanousd=0, tokens=0, counters=counters), at_ms)
            raise

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once; zero for an attempt never dispatched only releases."""
        if self._settled.first(settlement.reservation_id):
            self._put(partial(self._books.settle, settlement, at_ms))

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""
        return [totals(next(iter(await self._read(BALANCE, pair)), None)) for pair in counters]

    async def holds(self) -> dict[str, Hold]:
        """Return what is held for attempts that are open, by reservation id."""
        return cast("dict[str, Hold]", await self._do(self._books.holds))

    async def touched(self, since_ms: int) -> list[Pair]:
        """Return the counters that changed at this time or later."""
        return cast("list[Pair]", await self._do(partial(self._books.touched, since_ms)))

    async def balances(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of these counters, with everything that is queued."""
        return cast("list[Totals]", await self._do(partial(self._books.balances, counters)))

    # --- records ----------------------------------------------------------------------------------------------------

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED; raise Overloaded when that cannot be written."""
        await self._do(partial(self._books.dispatch, exchange, self._settings.lease_ms))

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one; queued."""
        self._put(partial(self._books.finish, exchange))

    def keep(self, kept: Kept) -> None:
        """Write what policy knew along a call; queued."""
        self._put(partial(self._books.keep, kept))

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def standing(self, end: str) -> Place | None:
        """Return where a conversation stands that has not gone on from this end; of several the newest, once."""
        await self._written()
        places = read(await self._read(STANDING, (end,)))
        if len(places) > 1:
            places = cast("list[Place]", await self._do(partial(self._places.take, end)))
        return places[0] if places else None

    async def passed(self, mark: str, user: str) -> list[Place]:
        """Return where conversations left this mark in calls of this user or of nobody named; of more than two, two."""
        await self._written()
        return read(await self._read(PASSED, (mark, user)))[:2]

    def stand(self, stand: Stand, at_ms: int) -> None:
        """Write where a call leaves its conversation: it stands nowhere else; queued."""
        self._put(partial(self._places.stand, stand, at_ms))

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next."""
        return await self._known(session_id)

    def save(self, session: Session, at_ms: int) -> None:
        """Write what is known of a session beyond its records; queued."""
        self._put(partial(self._desk.save, session, at_ms))

    # --- the desk ---------------------------------------------------------------------------------------------------

    async def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key waits: then return that one."""
        return cast(Held, await self._do(partial(self._desk.hold, held)))

    async def use(self, key: str, at_ms: int) -> Held | None:
        """Return the newest action with this key as it stands at this time; an approved one is taken."""
        return cast(Held | None, await self._do(partial(self._desk.use, key, at_ms)))

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Approve or deny a pending action; return it as it stands then, None if there is no such action."""
        return cast(Held | None, await self._do(partial(self._desk.decide, held_id, state, by, note, at_ms)))

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions, newest first; None: in whatever state."""
        rows = await (self._read(_HELD_SO, (state, limit)) if state else self._read(_HELD, (limit,)))
        return [self._contents.held(*row) for row in rows]

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Write the packet and queue its delivery; where the conversation has an open one, return that instead."""
        return cast(Handoff, await self._do(partial(self._desk.hand_over, handoff)))

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets, newest first."""
        rows = await self._read(_HANDOFFS_OPEN if open_only else _HANDOFFS, (limit,))
        return [self._contents.handoff(*row) for row in rows]

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Give a conversation back to its agent; return the packet, None if there is no such packet."""
        return cast(Handoff | None, await self._do(partial(self._desk.close_handoff, handoff_id, by, at_ms)))

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, oldest first."""
        return [
            Delivery(handoff=self._contents.handoff(name, body), tries=tries, due_ms=due_ms, error=error)
            for name, body, tries, due_ms, error in await self._read(_DUE, (at_ms, limit))
        ]

    async def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off the queue."""
        await self._do(partial(self._desk.delivered, handoff_id, at_ms))

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Note that a delivery failed, and when to try again."""
        await self._do(partial(self._desk.postpone, handoff_id, due_ms, error))

    # --- leases -----------------------------------------------------------------------------------------------------

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on; queued."""
        self._put(partial(self._books.heartbeat, tuple(reservation_ids), until_ms))

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what dead processes left open and return those exchanges, RECOVERED."""
        for expire in (self._books.expire, self._desk.expire):
            while await self._do(partial(expire, at_ms)):
                pass
        closed: list[Exchange] = []
        while some := await self._do(partial(self._books.recover, at_ms)):
            closed += some
        return closed

    async def purge(self, before_ms: int) -> int:
        """Delete finished exchanges that started earlier, and counters long unused; return how many exchanges."""
        total = 0
        while deleted := await self._do(partial(self._books.purge, before_ms)):
            total += deleted
        for purge in (self._desk.purge, self._places.purge):
            while await self._do(partial(purge, before_ms)):
                pass
        return total

    async def forget(self, before_ms: int) -> int:
        """Delete what was kept of calls that started earlier; return of how many."""
        total = 0
        while deleted := await self._do(partial(self._books.forget, before_ms)):
            total += deleted
        return total

    async def close(self) -> None:
        """Write what is queued, then close; raise Overloaded when some of it could not be written in time."""
        until_s = self._loop.time() + self._settings.closing_s
        try:
            while self._jobs and self._loop.time() < until_s:  # noqa: ASYNC110 - timers empty the queue
                await asyncio.sleep(_FIRST_DELAY_S)
        finally:
            if self._timer:
                self._timer.cancel()
            self._connection.close()
        if self._jobs:
            raise Overloaded(f"{len(self._jobs)} records could not be written: {self._trouble or 'the file is busy'}.")

    # --- the queue --------------------------------------------------------------------------------------------------

    async def _do(self, run: Operation) -> Any:
        if len(self._jobs) >= self._settings.max_pending:
            raise Overloaded("The record store cannot keep up.", code="store_busy", headers={"retry-after": "1"})
        waiter = self._loop.create_future()
        self._queue(_Job(run, waiter, self._loop.time() + self._settings.patience_s))
        return await waiter

    def _put(self, run: Operation) -> None:
        self._queue(_Job(run))

    def _queue(self, job: _Job) -> None:
        self._jobs.append(job)
        if self._timer is None:
            self._timer = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not (jobs := self._take()):
            return
        try:
            results = self._books.commit([job.run for job in jobs])
        except Exception as error:  # noqa: BLE001 - the background writer: nobody above it could keep the queue going
            self._failed(jobs, error)
        else:
            self._delay_s, self._trouble = _FIRST_DELAY_S, ""
            for job, result in zip(jobs, results, strict=True):
                job.resolve(result)
        if self._jobs and self._timer is None:
            self._timer = self._loop.call_soon(self._flush)

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
        for job in self._jobs:
            if not busy or now_s >= job.until_s:
                job.resolve(overloaded(error))
        self._jobs = deque(job for job in self._jobs if job.live)
        self._trouble = "" if busy else str(error)
        self._timer = self._loop.call_later(self._delay_s, self._flush)
        self._delay_s = min(self._delay_s * 2, _BUSY_DELAY_S if busy else _TROUBLE_DELAY_S)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self, query: str, values: Sequence[str | int]) -> list[Any]:
        until_s = self._loop.time() + self._settings.patience_s
        while True:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if not is_busy(error) or self._loop.time() >= until_s:
                    raise overloaded(error) from error
            await asyncio.sleep(_FIRST_DELAY_S)

    async def _written(self) -> None:
        """Wait for what is queued: no call may miss what the one before it left."""
        if self._jobs:
            await self._do(lambda: None)

    async def _known(self, session_id: str) -> Session | None:
        """Return a session with its next turn."""
        await self._written()
        [(turn, body, handoff_id)] = await self._read(_BY_ID, (session_id,))
        if turn is body is handoff_id is None:
            return None
        saved = decode_session(body) if body else Session(id=session_id, turn=0)
        last = max(turn or 0, saved.turn)
        return msgspec.structs.replace(saved, turn=last + 1, link="header", escalation=handoff_id or "")
