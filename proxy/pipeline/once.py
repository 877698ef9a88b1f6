"""Owns what is remembered of calls with an Idempotency-Key, so that none is made twice: what was asked and answered.

Nothing of it is written anywhere: an answer is content, and what is said stays with who said it. So a key is known to
the process that took it, for a day, and an answer as long as there is room for it. A repeated call that cannot be
answered from here is refused, never made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from proxy.errors import NO_RETRY, BadRequest, Conflict, KeyReused
from proxy.terms import Delta, End, Fault, Head

HEADER = "idempotency-key"
REPLAY_HEADER = "x-handrail-idempotent-replay"
LONGEST_KEY = 255
KEPT_MS = 24 * 3600 * 1000
MOST_KEYS = 100_000
PARTS = 8
"""No answer takes more than one in so many parts of the room that there is."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a call was answered, to be said again."""

    exchange_id: str
    head: Head
    body: bytes
    policies: str
    """Digest of the policies that let it out."""

    def parts(self) -> Iterator[Head | Delta | End]:
        """Yield it as a reply."""
        head = msgspec.structs.replace(self.head, headers={**self.head.headers, REPLAY_HEADER: "true"})
        yield from (head, Delta(frame=self.body, final=True), End())


class _Asked(msgspec.Struct, kw_only=True):
    digest: str
    """Of what was asked."""
    at_ms: int
    running: bool = True


class Answers:
    """The calls with a key that this process has taken, and their answers."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        """Oldest first."""
        self._kept: dict[str, Answer] = {}
        self._bytes = 0

    def claim(self, key: str, digest: str, policies: str, at_ms: int) -> Answer | None:
        """Take a key for a call, or return the answer of the one that has it; raise Conflict where there is none to
        give, and KeyReused where that call asked something else."""
        self._forget(at_ms)
        known = self._asked.get(key)
        if known is None:
            self._asked[key] = _Asked(digest=digest, at_ms=at_ms)
            return None
        if known.digest != digest:
            raise KeyReused("This Idempotency-Key was used for another request.")
        if known.running:
            raise Conflict(
                "A call with this Idempotency-Key is being answered.",
                code="idempotency_in_progress",
                headers={"retry-after": "1"},
            )
        answer = self._kept.get(key)
        if answer is None or answer.policies != policies:
            why = "is not kept" if answer is None else "was given under other policies"
            raise Conflict(
                f"A call with this Idempotency-Key was answered, and its answer {why}.",
                code="idempotency_answer_gone",
                headers=NO_RETRY,
            )
        return answer

    def keep(self, key: str, answer: Answer | None, room: int) -> None:
        """Note that a call was answered; its answer is kept if there is room, older ones go for it."""
        if asked := self._asked.get(key):
            asked.running = False
            if answer:
                self._kept[key] = answer
                self._bytes += len(answer.body)
                while self._bytes > room:
                    self._drop(next(iter(self._kept)))

    def release(self, key: str) -> None:
        """Give a key back: its call came to nothing and may be made again."""
        self._asked.pop(key, None)

    def _forget(self, at_ms: int) -> None:
        while self._asked:
            key, oldest = next(iter(self._asked.items()))
            if oldest.at_ms > at_ms - KEPT_MS and len(self._asked) < MOST_KEYS:
                return
            del self._asked[key]
            self._drop(key)

    def _drop(self, key: str) -> None:
        if answer := self._kept.pop(key, None):
            self._bytes -= len(answer.body)


class Once:
    """One call with a key."""

    def __init__(self, answers: Answers, principal: str, key: str, room: int) -> None:
        if not 0 < len(key) <= LONGEST_KEY:
            raise BadRequest(f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.", param="Idempotency-Key")
        self._answers = answers
        # A key is its principal's: nobody can ask for another's answers.
        self._key = hashlib.blake2b(f"{principal}\0{key}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        self._room = room
        self._head: Head | None = None
        self._frames: list[bytes] = []
        self._bytes = 0
        self._whole = False
        self._claimed = False

    def claim(self, digest: str, policies: str, at_ms: int) -> Answer | None:
        """Take the key, or return the answer that was given before."""
        answer = self._answers.claim(self._key, digest, policies, at_ms)
        self._claimed = answer is None
        return answer

    def note(self, part: Head | Delta | End | Fault) -> None:
        """Take note of what is answered."""
        if isinstance(part, Head):
            self._head = part
        else:
            self._bytes += len(part.frame)
            self._whole = isinstance(part, End)
            # However long a reply is, no more is remembered of it than may be kept.
            if self._bytes * PARTS <= self._room:
                self._frames.append(part.frame)
            else:
                self._frames.clear()

    def close(self, exchange_id: str, policies: str) -> None:
        """Keep what was answered if it is whole, else give the key back."""
        if not self._claimed:
            return
        if self._head is None or self._head.status != 200 or not self._whole:
            self._answers.release(self._key)
            return
        answer = Answer(exchange_id=exchange_id, head=self._head, body=b"".join(self._frames), policies=policies)
        self._answers.keep(self._key, answer if self._bytes * PARTS <= self._room else None, self._room)
