"""Owns the store that serves: budgets, records, sessions and the desk as operations on one file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import msgspec

from proxy.errors import ConfigError, Overloaded
from proxy.stores import Hold, Once, Pair, pairs
from proxy.stores.sqlite.ballast import Ballast
from proxy.stores.sqlite.books import BALANCE, Books, totals
from proxy.stores.sqlite.checkpoints import Checkpointer, lay_out
from proxy.stores.sqlite.commits import FIRST_DELAY_S, Commits
from proxy.stores.sqlite.contents import Contents, check
from proxy.stores.sqlite.desk import Desk, decode_session
from proxy.stores.sqlite.file import Settings, connect, is_busy, overloaded, unusable
from proxy.stores.sqlite.places import PASSED, STANDING, Places, read
from proxy.stores.sqlite.syncer import Syncer
from proxy.terms import (
    Delivery,
    Exchange,
    Handoff,
    Held,
    HeldState,
    Json,
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

_LEAVE_NOTICE = "INSERT INTO notices (at_ms, body) VALUES (?, ?)"
_NOTICES = "SELECT seq, at_ms, body FROM notices ORDER BY seq"
_TOOK_NOTICE = "DELETE FROM notices WHERE seq = ?"


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[SqliteStore]:  # noqa: A001 - the name that a store plug-in exports
    """Yield the store on its file; leaving writes all that is queued. Raise ConfigError when the file is unusable."""
    connection = await asyncio.to_thread(_connected, settings)
    ballast = await asyncio.to_thread(_ballast, settings.path)
    checkpointer = Checkpointer(settings, ballast)
    syncer = await _syncing(connection, settings.path) if settings.lasting else None
    checkpointer.start()
    store = SqliteStore(connection, settings, checkpointer, syncer=syncer, ballast=ballast)
    try:
        yield store
    finally:
        try:
            await store.close()
        finally:
            await asyncio.to_thread(checkpointer.stop)


def _connected(settings: Settings) -> sqlite3.Connection:
    connection = connect(settings.path, lasting=settings.lasting)
    try:
        check(connection, settings.seal)
    except ConfigError:
        connection.close()
        raise
    return connection


def _ballast(path: str) -> Ballast:
    ballast = Ballast(path)
    ballast.hold()
    return ballast


async def _syncing(connection: sqlite3.Connection, path: str) -> Syncer:
    """Get all on disk that was left, and return who keeps it so."""
    try:
        await asyncio.to_thread(lay_out, connection, path)
        return await Syncer.open(path)
    except (OSError, sqlite3.Error) as error:
        connection.close()
        raise unusable(path, error) from error


class SqliteStore:
    """Budgets, records, sessions and the desk on one file; made by `open`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        settings: Settings,
        checkpointer: Checkpointer,
        *,
        syncer: Syncer | None = None,
        ballast: Ballast | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._checkpointer = checkpointer
        self._syncer = syncer
        self._contents = Contents(settings.seal)
        self._books = Books(connection, self._contents)
        self._desk = Desk(connection, self._contents)
        self._places = Places(connection)
        self._commits = Commits(self._books.commit, settings, syncer=syncer, ballast=ballast)
        self._settled = Once()
        self.unrecorded = 0
        """Calls that were never sent and have no record, since too much was waiting to be written."""

    @property
    def backlog(self) -> int:
        """Return how many operations are waiting to be written."""
        return self._commits.backlog

    @property
    def trouble(self) -> str:
        """Return why writing, syncing or checkpointing fails at the moment, empty when none does."""
        return self._commits.trouble or self._checkpointer.error

    @property
    def durability(self) -> str:
        """Return what an answer survives."""
        return self._settings.durability

    # --- budgets ----------------------------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none; raise BudgetExceeded or Overloaded."""
        try:
            await self._commits.do(partial(self._books.reserve, reservation, at_ms), lasting=reservation.booked)
        except asyncio.CancelledError:
            # The caller cannot know whether the hold was written, so nobody else would ever give it back.
            counters = pairs(reservation.limits) if reservation.booked else ()
            self.settle(Settlement(reservation_id=reservation.id, nanousd=0, tokens=0, counters=counters), at_ms)
            raise

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once; zero for an attempt never dispatched only releases."""
        if self._settled.first(settlement.reservation_id):
            self._commits.put(partial(self._books.settle, settlement, at_ms))

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""
        return [totals(next(iter(await self._read(BALANCE, pair)), None)) for pair in counters]

    async def holds(self) -> dict[str, Hold]:
        """Return what is held for attempts that are open, by reservation id."""
        return cast("dict[str, Hold]", await self._commits.do(self._books.holds))

    async def touched(self, since_ms: int) -> list[Pair]:
        """Return the counters that changed at this time or later."""
        return cast("list[Pair]", await self._commits.do(partial(self._books.touched, since_ms)))

    async def balances(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of these counters, with everything that is queued."""
        return cast("list[Totals]", await self._commits.do(partial(self._books.balances, counters)))

    # --- records ----------------------------------------------------------------------------------------------------

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED; raise Overloaded when that cannot be written."""
        await self._commits.do(partial(self._books.dispatch, exchange, self._settings.lease_ms), lasting=True)

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one; queued. Where the queue is full, of calls that were sent
        alone: those are no more than were let in, while refused ones have no end."""
        if self._commits.crowded and all(attempt.error == "not_sent" for attempt in exchange.attempts):
            self.unrecorded += 1
            return
        self._commits.put(partial(self._books.finish, exchange))

    def keep(self, kept: Kept) -> None:
        """Write what policy knew along a call; queued."""
        self._commits.put(partial(self._books.keep, kept))

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def standing(self, end: str) -> Place | None:
        """Return where a conversation stands that has not gone on from this end; of several the newest, once."""
        await self._written()
        places = read(await self._read(STANDING, (end,)))
        if len(places) > 1:
            places = cast("list[Place]", await self._commits.do(partial(self._places.take, end)))
        return places[0] if places else None

    async def passed(self, mark: str, user: str) -> list[Place]:
        """Return where conversations left this mark in calls of this user or of nobody named; of more than two, two."""
        await self._written()
        return read(await self._read(PASSED, (mark, user)))[:2]

    def stand(self, stand: Stand, at_ms: int) -> None:
        """Write where a call leaves its conversation: it stands nowhere else; queued."""
        self._commits.put(partial(self._places.stand, stand, at_ms))

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next."""
        return await self._known(session_id)

    def save(self, session: Session, at_ms: int) -> None:
        """Write what is known of a session beyond its records; queued."""
        self._commits.put(partial(self._desk.save, session, at_ms))

    # --- the desk ---------------------------------------------------------------------------------------------------

    async def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key waits: then return that one."""
        return cast(Held, await self._commits.do(partial(self._desk.hold, held), lasting=True))

    async def use(self, key: str, at_ms: int) -> Held | None:
        """Return the newest action with this key as it stands at this time; an approved one is taken."""
        return cast(Held | None, await self._commits.do(partial(self._desk.use, key, at_ms), lasting=True))

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Approve or deny a pending action; return it as it stands then, None if there is no such action."""
        return cast(
            Held | None,
            await self._commits.do(partial(self._desk.decide, held_id, state, by, note, at_ms), lasting=True),
        )

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions, newest first; None: in whatever state."""
        rows = await (self._read(_HELD_SO, (state, limit)) if state else self._read(_HELD, (limit,)))
        return [self._contents.held(*row) for row in rows]

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Write the packet and queue its delivery; where the conversation has an open one, return that instead."""
        return cast(Handoff, await self._commits.do(partial(self._desk.hand_over, handoff), lasting=True))

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets, newest first."""
        rows = await self._read(_HANDOFFS_OPEN if open_only else _HANDOFFS, (limit,))
        return [self._contents.handoff(*row) for row in rows]

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Give a conversation back to its agent; return the packet, None if there is no such packet."""
        return cast(
            Handoff | None,
            await self._commits.do(partial(self._desk.close_handoff, handoff_id, by, at_ms), lasting=True),
        )

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, oldest first."""
        return [
            Delivery(handoff=self._contents.handoff(name, body), tries=tries, due_ms=due_ms, error=error)
            for name, body, tries, due_ms, error in await self._read(_DUE, (at_ms, limit))
        ]

    async def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off the queue."""
        await self._commits.do(partial(self._desk.delivered, handoff_id, at_ms))

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Note that a delivery failed, and when to try again."""
        await self._commits.do(partial(self._desk.postpone, handoff_id, due_ms, error))

    # --- notices ----------------------------------------------------------------------------------------------------

    async def leave_notice(self, about: Mapping[str, Json], at_ms: int) -> None:
        """Leave word of what a command beside has done, for the audit log of a process that serves."""
        values = (at_ms, msgspec.json.encode(about).decode())
        await self._commits.do(lambda: self._connection.execute(_LEAVE_NOTICE, values).rowcount)

    async def notices(self) -> list[tuple[int, int, dict[str, Json]]]:
        """Return what was left, as (number, time, what), oldest first."""
        return [(seq, at_ms, msgspec.json.decode(body)) for seq, at_ms, body in await self._read(_NOTICES, ())]

    async def took_notice(self, number: int) -> None:
        """Take away what the audit log has."""
        await self._commits.do(lambda: self._connection.execute(_TOOK_NOTICE, (number,)).rowcount)

    # --- copies of what is elsewhere --------------------------------------------------------------------------------

    def copy_held(self, held: Held) -> None:
        """Write an action as it stands, over what was known of it; queued."""
        self._commits.put(partial(self._desk.copy_held, held))

    def copy_handoff(self, handoff: Handoff) -> None:
        """Write a packet as it stands, over what was known of it; queued."""
        self._commits.put(partial(self._desk.copy_handoff, handoff))

    # --- leases -----------------------------------------------------------------------------------------------------

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on; queued."""
        self._commits.put(partial(self._books.heartbeat, tuple(reservation_ids), until_ms))

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what dead processes left open and return those exchanges, RECOVERED."""
        for expire in (self._books.expire, self._desk.expire):
            while await self._commits.do(partial(expire, at_ms)):
                pass
        closed: list[Exchange] = []
        while some := await self._commits.do(partial(self._books.recover, at_ms)):
            closed += some
        return closed

    async def purge(self, before_ms: int) -> int:
        """Delete finished exchanges that started earlier, and counters long unused; return how many exchanges."""
        total = 0
        while deleted := await self._commits.do(partial(self._books.purge, before_ms)):
            total += deleted
        for purge in (self._desk.purge, self._places.purge):
            while await self._commits.do(partial(purge, before_ms)):
                pass
        return total

    async def forget(self, before_ms: int) -> int:
        """Delete what was kept of calls that started earlier; return of how many."""
        total = 0
        while deleted := await self._commits.do(partial(self._books.forget, before_ms)):
            total += deleted
        return total

    async def close(self) -> None:
        """Write what is queued, then close; raise Overloaded when some of it could not be written in time."""
        try:
            left = await self._commits.close()
        finally:
            if self._syncer:
                await self._syncer.close()
            await asyncio.to_thread(self._connection.close)
        if left:
            raise Overloaded(left)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self, query: str, values: Sequence[str | int]) -> list[Any]:
        until_s = time.monotonic() + self._settings.patience_s
        while True:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() >= until_s:
                    raise overloaded(error) from error
            await asyncio.sleep(FIRST_DELAY_S)

    async def _written(self) -> None:
        """Wait for what is queued: no call may miss what the one before it left."""
        if self._commits.backlog:
            await self._commits.do(lambda: None)

    async def _known(self, session_id: str) -> Session | None:
        """Return a session with its next turn."""
        await self._written()
        [(turn, body, handoff_id)] = await self._read(_BY_ID, (session_id,))
        if turn is body is handoff_id is None:
            return None
        saved = decode_session(body) if body else Session(id=session_id, turn=0)
        last = max(turn or 0, saved.turn)
        return msgspec.structs.replace(saved, turn=last + 1, link="header", escalation=handoff_id or "")
