"""Owns conversations that replicas share, and what waits for a human in them: all of it in one Redis.

The replica's own file keeps a copy of all that it writes, for its records; it is never asked for what others may have
changed. While Redis is away no call is let through: whether a human owns its conversation, and what rules have said of
it, would not be known.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from proxy.conversation import together
from proxy.errors import Overloaded
from proxy.sealing import PLAIN, Seal
from proxy.stores import Copies
from proxy.stores.redis import states
from proxy.stores.redis.places import Places
from proxy.stores.redis.room import Room, asking, connected
from proxy.stores.redis.tier import HotTier
from proxy.stores.redis.waiting import Pipeline, Waiting
from proxy.terms import Delivery, Handoff, Held, HeldState, Place, Secret, Session, Stand

_FIRST_DELAY_S = 0.02
_LONGEST_DELAY_S = 1.0
T = TypeVar("T")


class ConversationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure what replicas share of conversations."""

    url: str
    password: Secret = Secret("")
    name: str = "default"
    """Replicas with the same name share their conversations."""
    replica: str
    """What this one is called: unique among them."""
    timeout_ms: int = 250
    keep_ms: int = 32 * 24 * 3600 * 1000
    """How long a conversation is known after its last call."""
    max_pending: int = 10_000
    """Queued writes at which new calls are refused."""
    closing_s: float = 5.0


class SharedConversations:
    """Sessions and the desk of all replicas; made by `open_conversations`."""

    def __init__(
        self, room: Room, own: Copies, seal: Seal, settings: ConversationSettings, tell: Callable[[str], None]
    ) -> None:
        self.trouble = ""
        """Why Redis cannot be asked at the moment, empty when it can."""
        self._tell = tell
        self._room = room
        self._own = own
        self._settings = settings
        self._places = Places(room)
        self._waiting = Waiting(room, seal, settings.replica)
        self._queue: deque[Callable[[], Awaitable[object]] | asyncio.Future[None]] = deque()
        """Writes, and between them whoever waits for those before."""
        self._some = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Return how many writes are waiting."""
        return len(self._queue)

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def standing(self, end: str) -> Place | None:
        """Return where a conversation stands that has not gone on from this end; of several the newest, once."""
        await self._written()
        return await self._ask(partial(self._places.standing, end))

    async def passed(self, mark: str, user: str) -> list[Place]:
        """Return where conversations left this mark in calls of this user or of nobody named; of more than two, two."""
        await self._written()
        return await self._ask(partial(self._places.passed, mark, user))

    def stand(self, stand: Stand, at_ms: int) -> None:
        """Write where a call leaves its conversation: it stands nowhere else; queued."""
        self._put(partial(self._places.stand, stand))

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next."""
        await self._written()
        return await self._ask(partial(self._load, session_id))

    def save(self, session: Session, at_ms: int) -> None:
        """Write what is known of a session beyond its records; queued."""
        self._own.save(session, at_ms)
        self._put(partial(self._save, session, at_ms))

    async def _load(self, session_id: str) -> Session | None:
        own = await self._own.load(session_id)
        async with self._room.client.pipeline(transaction=False) as asked:
            asked.get(self._room.key("session", session_id))
            asked.hget(self._places.of(session_id), "turn")
            asked.get(self._waiting.opened(session_id))
            body, left, handoff_id = await asked.execute()
        if own is body is left is handoff_id is None:
            return None
        saved = states.read(body)[0] if body else Session(id=session_id, turn=0)
        turn = max(saved.turn, int(left or 0), own.turn - 1 if own else 0)
        return replace(saved, turn=turn + 1, link="header", escalation=(handoff_id or b"").decode())

    async def _save(self, session: Session, at_ms: int) -> None:
        key = self._room.key("session", session.id)

        async def put(pipe: Pipeline) -> None:
            known = await pipe.get(key)
            newest = together(states.read(known)[0], session) if known else session
            pipe.multi()
            pipe.set(key, states.written(newest, at_ms), px=self._room.keep_ms)

        await self._room.client.transaction(put, key)

    # --- the desk ---------------------------------------------------------------------------------------------------

    async def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key waits: then return that one."""
        put = await self._ask(partial(self._waiting.hold, held))
        self._own.copy_held(put)
        return put

    async def use(self, key: str, at_ms: int) -> Held | None:
        """Return the newest action with this key as it stands at this time; an approved one is taken."""
        found = await self._ask(partial(self._waiting.use, key, at_ms))
        if found is None:
            return None
        stands, taken = found
        self._own.copy_held(taken)
        return stands

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Approve or deny a pending action; return it as it stands then, None if there is no such action."""
        held = await self._ask(partial(self._waiting.decide, held_id, state, by, note, at_ms))
        if held:
            self._own.copy_held(held)
        return held

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions, newest first; None: in whatever state."""
        return await self._ask(partial(self._waiting.held, state, limit))

    async def expire(self, at_ms: int) -> None:
        """Expire the actions that nobody decided or used in time."""
        for held in await self._ask(partial(self._waiting.expire, at_ms)):
            self._own.copy_held(held)

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Write the packet and queue its delivery; where the conversation has an open one, return that instead."""
        given = await self._ask(partial(self._waiting.hand_over, handoff))
        self._own.copy_handoff(given)
        return given

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets, newest first."""
        return await self._ask(partial(self._waiting.handoffs, open_only, limit))

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Give a conversation back to its agent; return the packet, None if there is no such packet."""
        closed = await self._ask(partial(self._waiting.close_handoff, handoff_id, by, at_ms))
        if closed:
            self._own.copy_handoff(closed)
        return closed

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, oldest first, but for those that another replica has begun with."""
        return await self._ask(partial(self._waiting.due, at_ms, limit))

    async def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off the queue."""
        await self._ask(partial(self._waiting.delivered, handoff_id))

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Note that a delivery failed, and when to try again."""
        await self._ask(partial(self._waiting.postpone, handoff_id, due_ms, error))

    # --- the queue --------------------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Write what is queued, in its order, again and again where Redis is away."""
        delay_s = _FIRST_DELAY_S
        while not _ending():
            await self._some.wait()
            first = self._queue[0]
            try:
                if not isinstance(first, asyncio.Future):
                    await self._ask(first)
                elif not first.done():
                    first.set_result(None)
            except Overloaded as error:
                self._refuse(error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
                continue
            delay_s = _FIRST_DELAY_S
            self._queue.popleft()
            if not self._queue:
                self._some.clear()

    async def look(self) -> None:
        """Notice that Redis is away from the start, and that it is back where nobody asks because it was away."""
        delay_s = 0.0
        while not _ending():
            await asyncio.sleep(delay_s)
            if self.trouble or not delay_s:
                with suppress(Overloaded):
                    await self._ask(self._room.client.ping)
            delay_s = _LONGEST_DELAY_S

    async def close(self) -> None:
        """Write what is queued; raise Overloaded when some of it could not be written in time."""
        try:
            async with asyncio.timeout(self._settings.closing_s):
                await self._written()
        except TimeoutError:
            raise Overloaded(f"{len(self._queue)} states of conversations could not be written.") from None

    def _put(self, write: Callable[[], Awaitable[object]]) -> None:
        self._queue.append(write)
        self._some.set()

    async def _written(self) -> None:
        """Wait for what is queued: no call may miss what the one before it left. Raise Overloaded where it is stuck."""
        if not self._queue:
            return
        if self.trouble or len(self._queue) >= self._settings.max_pending:
            raise Overloaded(
                f"Conversations cannot be written: {self.trouble or 'too many are waiting'}.",
                code="conversations_away",
                headers={"retry-after": "1"},
            )
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        await waiter

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            with asking():
                answer = await question()
        except Overloaded as error:
            self._note(error.message)
            raise
        self._note("")
        return answer

    def _note(self, trouble: str) -> None:
        """Note how it stands; a change is told."""
        changed = bool(trouble) != bool(self.trouble)
        self.trouble = trouble
        if changed:
            self._tell(trouble)

    def _refuse(self, error: Overloaded) -> None:
        """Tell those who wait that it takes too long; what is to be written stays."""
        for waiter in self._queue:
            if isinstance(waiter, asyncio.Future) and not waiter.done():
                waiter.set_exception(error)
        self._queue = deque(one for one in self._queue if not isinstance(one, asyncio.Future))


def _ending() -> bool:
    """Tell whether this task was cancelled, also where nobody says so any more: while it connects redis-py waits by
    `asyncio.wait_for`, which before Python 3.12 keeps a cancellation to itself when what it waits for is just done."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@asynccontextmanager
async def open_tier(settings: ConversationSettings, seal: Seal = PLAIN) -> AsyncIterator[HotTier]:
    """Yield the conversations of all replicas with this name as a tier."""
    async with connected(settings.url, settings.password.reveal(), settings.timeout_ms / 1000) as client:
        room = Room(client, settings.name, settings.keep_ms)
        yield HotTier(room, Waiting(room, seal, settings.replica))


@asynccontextmanager
async def open_conversations(
    settings: ConversationSettings, own: Copies, seal: Seal = PLAIN, tell: Callable[[str], None] = lambda _: None
) -> AsyncIterator[SharedConversations]:
    """Yield the conversations of all replicas with this name; `own` gets a copy of what this one writes, and `tell`
    hears why Redis is away, the empty text when it is back. Leaving writes all that is queued."""
    async with connected(settings.url, settings.password.reveal(), settings.timeout_ms / 1000) as client:
        shared = SharedConversations(Room(client, settings.name, settings.keep_ms), own, seal, settings, tell)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(shared.write()), group.create_task(shared.look())]
            try:
                yield shared
                await shared.close()
            finally:
                for task in tasks:
                    task.cancel()
