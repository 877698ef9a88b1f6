"""Owns the conversations of a Redis as a tier: what is in it of some of them, and how they leave it.

Its entries go by themselves, so nothing is ever too old here. What a serving process has queued may still come: an
erasure while it serves begins a conversation anew at most.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import Any

import msgspec

from proxy.stores import spellings
from proxy.stores.redis import states
from proxy.stores.redis.places import Places
from proxy.stores.redis.room import Room, asking
from proxy.stores.redis.waiting import Waiting
from proxy.terms import Handoff, Held, HeldState, Row, Selection, Session, Table

_STAGES = {HeldState.PENDING: 1, HeldState.APPROVED: 2}
_encode = msgspec.json.Encoder().encode
_AT_ONCE = 500
_ALL = 1 << 31


class HotTier:
    """What hosts share of conversations that go on; made by `open_tier`."""

    name = "hot"

    def __init__(self, room: Room, waiting: Waiting) -> None:
        self._room = room
        self._places = Places(room)
        self._waiting = waiting

    async def rows(self, which: Selection) -> AsyncIterator[Row]:
        """Yield the rows that are selected, table by table, oldest first; whose a conversation is other tiers know."""
        with asking():
            bodies = [await self._room.client.get(self._state(name)) for name in sorted(which.sessions)]
            actions, packets = await self._waits(which)
        read = (states.read(body) for body in bodies if body)
        for session, at_ms in sorted(read, key=lambda found: found[1]):
            yield _state_row(session, at_ms)
        for action in sorted(actions, key=lambda one: one.expires_ms):
            yield _held_row(action)
        for packet in sorted(packets, key=lambda one: one.at_ms):
            yield _packet_row(packet)

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        """Delete nothing: each entry goes by itself."""
        return 0

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        """Delete all that is known of conversations; return how many rows there were of each table."""
        with asking():
            actions, packets = await self._waits(which)
            await self._waiting.erase(actions, packets)
            known = [await self._room.client.delete(self._state(name)) for name in which.sessions]
            for name in which.sessions:
                await self._places.erase(name)
        return {Table.SESSIONS: sum(known), Table.HELD: len(actions), Table.HANDOFFS: len(packets)}

    async def _waits(self, which: Selection) -> tuple[list[Held], list[Handoff]]:
        actions, packets = await self._waiting.held(None, _ALL), await self._waiting.handoffs(False, _ALL)
        return (
            [one for one in actions if one.session_id in which.sessions],
            [one for one in packets if one.session_id in which.sessions],
        )

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        """Return in how many keys and values each needle still occurs."""
        found, forms = dict.fromkeys(needles, 0), {needle: spellings(needle) for needle in needles}
        with asking():
            async for key in self._room.client.scan_iter(self._room.pattern, count=_AT_ONCE):
                texts = (key, *_texts(await self._value(key)))
                for needle in needles:
                    found[needle] += sum(any(form in text for form in forms[needle]) for text in texts)
        return found

    async def _value(self, key: bytes) -> Any:
        client = self._room.client
        ask = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"list": lambda name: client.lrange(name, 0, -1),
            b"zset": lambda name: client.zrange(name, 0, -1),
        }.get(await client.type(key))
        return await ask(key) if ask else None

    def _state(self, session_id: str) -> str:
        return self._room.key("session", session_id)


def _texts(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from (*value.keys(), *value.values())
    else:
        yield from value or ()


def _state_row(session: Session, at_ms: int) -> Row:
    return Row(
        table=Table.SESSIONS, id=session.id, version=at_ms, at_ms=at_ms, session_id=session.id, body=_encode(session)
    )


def _held_row(held: Held) -> Row:
    return Row(
        table=Table.HELD,
        id=held.id,
        version=_STAGES.get(held.state, 3),
        at_ms=held.expires_ms,
        session_id=held.session_id,
        body=_encode(held),
    )


def _packet_row(packet: Handoff) -> Row:
    return Row(
        table=Table.HANDOFFS,
        id=packet.id,
        version=1 + bool(packet.closed_ms),
        at_ms=packet.at_ms,
        session_id=packet.session_id,
        body=_encode(packet),
    )
