"""Owns what waits for a human, in the Redis that replicas share: held actions, hand-offs and their deliveries.

What becomes of an entry is decided by the rules of the shelf (`proxy.stores`), in a transaction that begins again when
somebody else has changed the entry meanwhile. Of what is listed there are sorted sets, by the order of writing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from proxy.sealing import Seal
from proxy.stores import WAITING, decided, standing, used
from proxy.stores.redis.room import Room
from proxy.terms import Delivery, Handoff, Held, HeldState, Table

CLAIM_MS = 60_000
"""How long the replica that looked for deliveries first is the only one that sees them."""
_PAGE = 100
_encode = msgspec.json.Encoder().encode
_decode_held = msgspec.json.Decoder(Held).decode
_decode_handoff = msgspec.json.Decoder(Handoff).decode
T = TypeVar("T")
Pipeline: TypeAlias = Any
"""The library's transaction."""


class Waiting:
    """Ask and write one step at a time; every method raises what the client raises."""

    def __init__(self, room: Room, seal: Seal, replica: str) -> None:
        self._room = room
        self._client = room.client
        self._seal = seal
        self._replica = replica

    # --- actions ----------------------------------------------------------------------------------------------------

    async def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key waits: then return that one."""
        by_key = self._by_key(held.key)

        async def put(pipe: Pipeline) -> Held:
            newest = await self._held(pipe, await pipe.get(by_key))
            if newest and standing(newest, held.created_ms).state in WAITING:
                return newest
            number = await pipe.incr(self._room.key("number"))
            pipe.multi()
            self._put_held(pipe, held)
            pipe.set(by_key, held.id, px=self._room.keep_ms)
            pipe.zadd(self._room.key("held"), {held.id: number})
            pipe.zadd(self._room.key("late"), {held.id: held.expires_ms})
            return held

        return await self._transaction(put, by_key)

    async def use(self, key: str, at_ms: int) -> tuple[Held, Held] | None:
        """Return the newest action with this key as it stands, and as it is now that it was taken, if approved."""
        name = await self._client.get(self._by_key(key))
        changed = await self._changed(name, lambda held: used(standing(held, at_ms)))
        return changed and (standing(changed[0], at_ms), changed[1])

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Write a human's decision on a pending action; return the action as it stands then."""
        changed = await self._changed(held_id.encode(), lambda held: decided(held, state, by, note, at_ms))
        return changed[1] if changed else None

    async def expire(self, at_ms: int) -> list[Held]:
        """Expire the actions that waited too long; return them."""
        late = self._room.key("late")
        found = []
        for name in await self._client.zrangebyscore(late, "-inf", at_ms):
            changed = await self._changed(name, lambda held: standing(held, at_ms))
            found += [changed[1]] if changed and changed[0] != changed[1] else []
            await self._client.zrem(late, name)
        return found

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions, newest first."""
        listed = self._listed("held", lambda name, body: _decode_held(self._seal.open(Table.HELD, name, body)))
        return await _some((held async for held in listed if state in (None, held.state)), limit)

    async def _changed(self, name: bytes | None, change: Callable[[Held], Held]) -> tuple[Held, Held] | None:
        """Change an action by a rule; return it as it was and as it is, None if there is none."""
        if not name:
            return None

        async def put(pipe: Pipeline) -> tuple[Held, Held] | None:
            held = await self._held(pipe, name)
            if held is None:
                return None
            after = change(held)
            pipe.multi()
            if after != held:
                self._put_held(pipe, after)
            return held, after

        return await self._transaction(put, self._room.key("held", name.decode()))

    def _by_key(self, key: str) -> str:
        return self._room.key("held-by-key", self._seal.keyed(key))

    async def _held(self, pipe: Pipeline, name: bytes | None) -> Held | None:
        body = await pipe.get(self._room.key("held", name.decode())) if name else None
        return _decode_held(self._seal.open(Table.HELD, name.decode(), body)) if name and body else None

    def _put_held(self, pipe: Pipeline, held: Held) -> None:
        body = self._seal.seal(Table.HELD, held.id, _encode(held))
        pipe.set(
            self._room.key("held", held.id), body, px=self._room.keep_ms + max(0, held.expires_ms - held.created_ms)
        )

    # --- hand-offs --------------------------------------------------------------------------------------------------

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Write a packet that is due at once, unless its conversation has an open one: then return that one."""
        opened = self.opened(handoff.session_id)

        async def put(pipe: Pipeline) -> Handoff:
            if found := await self._handoff(pipe, await pipe.get(opened)):
                return found
            number = await pipe.incr(self._room.key("number"))
            pipe.multi()
            self._put_handoff(pipe, handoff)
            pipe.set(opened, handoff.id)
            pipe.zadd(self._room.key("handoff"), {handoff.id: number})
            pipe.zadd(self._room.key("due"), {handoff.id: handoff.at_ms})
            return handoff

        return await self._transaction(put, opened)

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Close a packet that is open; return it."""

        async def put(pipe: Pipeline) -> Handoff | None:
            handoff = await self._handoff(pipe, handoff_id.encode())
            if handoff is None or handoff.closed_ms:
                return handoff
            closed = replace(handoff, closed_ms=at_ms, closed_by=by)
            pipe.multi()
            self._put_handoff(pipe, closed)
            pipe.delete(self.opened(handoff.session_id))
            return closed

        return await self._transaction(put, self._room.key("handoff", handoff_id))

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets, newest first."""
        listed = self._listed(
            "handoff", lambda name, body: _decode_handoff(self._seal.open(Table.HANDOFFS, name, body))
        )
        return await _some((packet async for packet in listed if not (open_only and packet.closed_ms)), limit)

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, oldest first, but for those that another replica has begun with."""
        found: list[Delivery] = []
        queued = await self._client.zrangebyscore(self._room.key("due"), "-inf", at_ms, withscores=True)
        for name, due_ms in queued:
            if len(found) == limit:
                break
            handoff = await self._handoff(self._client, name)
            if handoff and await self._claimed(name.decode()):
                tries, error = await self._client.hmget(self._tries(name.decode()), "tries", "error")
                tried = int(tries or 0)
                found.append(Delivery(handoff=handoff, tries=tried, due_ms=int(due_ms), error=(error or b"").decode()))
        return found

    async def delivered(self, handoff_id: str) -> None:
        """Take a delivery off the queue."""
        await self._client.zrem(self._room.key("due"), handoff_id)
        await self._client.delete(self._tries(handoff_id), self._room.key("claim", handoff_id))

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Count a failed try of a delivery that is still queued, and set its next one."""
        due = self._room.key("due")
        if await self._client.zscore(due, handoff_id) is None:
            return
        async with self._client.pipeline() as pipe:
            pipe.zadd(due, {handoff_id: due_ms}, xx=True)
            pipe.hincrby(self._tries(handoff_id), "tries", 1)
            pipe.hset(self._tries(handoff_id), "error", error)
            pipe.delete(self._room.key("claim", handoff_id))
            await pipe.execute()

    def opened(self, session_id: str) -> str:
        """Return the key of the id of a session's open packet."""
        return self._room.key("opened", session_id)

    async def _claimed(self, handoff_id: str) -> bool:
        claim = self._room.key("claim", handoff_id)
        if await self._client.set(claim, self._replica, nx=True, px=CLAIM_MS):
            return True
        holder: bytes | None = await self._client.get(claim)
        return holder == self._replica.encode()

    def _tries(self, handoff_id: str) -> str:
        return self._room.key("tries", handoff_id)

    async def _handoff(self, client: Any, name: bytes | None) -> Handoff | None:
        body = await client.get(self._room.key("handoff", name.decode())) if name else None
        return _decode_handoff(self._seal.open(Table.HANDOFFS, name.decode(), body)) if name and body else None

    def _put_handoff(self, pipe: Pipeline, handoff: Handoff) -> None:
        """Write a packet; one that is open stays until it is closed, however long that takes."""
        body = self._seal.seal(Table.HANDOFFS, handoff.id, _encode(handoff))
        pipe.set(self._room.key("handoff", handoff.id), body, px=self._room.keep_ms if handoff.closed_ms else None)

    async def erase(self, actions: Sequence[Held], packets: Sequence[Handoff]) -> None:
        """Delete these, whatever state they are in, and whatever leads to them."""
        async with self._client.pipeline() as pipe:
            for action in actions:
                pipe.delete(self._room.key("held", action.id), self._by_key(action.key))
                pipe.zrem(self._room.key("held"), action.id)
                pipe.zrem(self._room.key("late"), action.id)
            for packet in packets:
                pipe.delete(*(self._room.key(kind, packet.id) for kind in ("handoff", "tries", "claim")))
                pipe.delete(self.opened(packet.session_id))
                pipe.zrem(self._room.key("handoff"), packet.id)
                pipe.zrem(self._room.key("due"), packet.id)
            await pipe.execute()

    # --- both -------------------------------------------------------------------------------------------------------

    async def _transaction(self, put: Callable[[Pipeline], Awaitable[T]], *watched: str) -> T:
        value: T = await self._client.transaction(put, *watched, value_from_callable=True)
        return value

    async def _listed(self, kind: str, read: Callable[[str, bytes], T]) -> AsyncIterator[T]:
        """Yield what is listed, newest first, page by page; what is no longer there leaves the list."""
        listed, last = self._room.key(kind), "+inf"
        while names := await self._client.zrevrangebyscore(listed, last, "-inf", 0, _PAGE, withscores=True):
            bodies = await self._client.mget([self._room.key(kind, name.decode()) for name, _ in names])
            for (name, number), body in zip(names, bodies, strict=True):
                last = f"({number:.0f}"
                if body is None:
                    await self._client.zrem(listed, name)
                else:
                    yield read(name.decode(), body)


async def _some(things: AsyncIterator[T], limit: int) -> list[T]:
    found: list[T] = []
    async for thing in things:
        if len(found) == limit:
            break
        found.append(thing)
    return found
