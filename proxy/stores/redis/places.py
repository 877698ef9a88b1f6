"""Owns where conversations are and where they were, in the Redis that replicas share."""

from __future__ import annotations

from proxy.stores.redis.room import Room
from proxy.terms import Place, Stand

MOST_PER_MARK = 3
"""Conversations kept of each mark and user: two that left it already tell nothing apart."""

# Of an end: a list of "turn session", the newest first. Of a session: the key of the end at which it stands, the turn.
_TAKE = """
if redis.call('LLEN', KEYS[1]) > 1 then return redis.call('LPOP', KEYS[1]) end
return redis.call('LINDEX', KEYS[1], 0)
"""
_STAND = """
local session, stands, turn, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local old = redis.call('HMGET', KEYS[1], 'end', 'entry')
if old[1] then redis.call('LREM', old[1], 0, old[2]) end
redis.call('HSET', KEYS[1], 'turn', turn)
redis.call('HDEL', KEYS[1], 'end', 'entry')
if stands ~= '' then
  local entry = turn .. ' ' .. session
  redis.call('LPUSH', stands, entry)
  redis.call('PEXPIRE', stands, keep)
  redis.call('HSET', KEYS[1], 'end', stands, 'entry', entry)
end
redis.call('PEXPIRE', KEYS[1], keep)
for i = 2, #KEYS do
  for _, entry in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do
    if string.match(entry, '^%d+ (.*)$') == session then redis.call('LREM', KEYS[i], 0, entry) end
  end
  redis.call('LPUSH', KEYS[i], turn .. ' ' .. session)
  redis.call('LTRIM', KEYS[i], 0, ARGV[5] - 1)
  redis.call('PEXPIRE', KEYS[i], keep)
  redis.call('SADD', KEYS[1] .. ':marks', KEYS[i])
  redis.call('PEXPIRE', KEYS[1] .. ':marks', keep)
end
"""


class Places:
    """Ask and write one step at a time; every method raises what the client raises."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._take = room.client.register_script(_TAKE)
        self._stand = room.client.register_script(_STAND)

    async def standing(self, end: str) -> Place | None:
        """Return where a conversation stands; of several the newest, once."""
        entry = await self._take(keys=[self._end(end)])
        return _place(entry) if entry else None

    async def passed(self, mark: str, user: str) -> list[Place]:
        """Return where conversations left a mark in calls of this user or of nobody named; of more than two, two."""
        found: dict[str, Place] = {}
        async with self._room.client.pipeline(transaction=False) as asked:
            for name in dict.fromkeys((user, "")):
                asked.lrange(self._mark(mark, name), 0, -1)
            for entries in await asked.execute():
                found |= {place.session_id: place for place in map(_place, reversed(entries))}
        return list(found.values())[:2]

    async def stand(self, stand: Stand) -> None:
        """Write where a call leaves its conversation: it stands nowhere else."""
        await self._stand(
            keys=[self.of(stand.session_id), *(self._mark(mark, stand.user) for mark in stand.marks)],
            args=[
                stand.session_id,
                self._end(stand.end) if stand.end else "",
                stand.turn,
                self._room.keep_ms,
                MOST_PER_MARK,
            ],
        )

    async def erase(self, session_id: str) -> None:
        """Forget where a conversation is and was."""
        marks = f"{self.of(session_id)}:marks"
        end, entry = await self._room.client.hmget(self.of(session_id), "end", "entry")
        if end:
            await self._room.client.lrem(end, 0, entry)
        for mark in await self._room.client.smembers(marks):
            for left in await self._room.client.lrange(mark, 0, -1):
                if _place(left).session_id == session_id:
                    await self._room.client.lrem(mark, 0, left)
        await self._room.client.delete(self.of(session_id), marks)

    def of(self, session_id: str) -> str:
        """Return the key of where a session stands."""
        return self._room.key("stands", session_id)

    async def turn(self, session_id: str) -> int:
        """Return the turn in which a session was last left, 0 if it is not known."""
        return int(await self._room.client.hget(self.of(session_id), "turn") or 0)

    def _end(self, end: str) -> str:
        return self._room.key("end", end)

    def _mark(self, mark: str, user: str) -> str:
        return self._room.key("mark", mark, user)


def _place(entry: bytes) -> Place:
    turn, _, session_id = entry.decode().partition(" ")
    return Place(session_id=session_id, turn=int(turn))
