"""Owns the store that forgets: budgets, records, sessions and desk of one process, gone when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from proxy.conversation import together
from proxy.errors import Overloaded
from proxy.kept import packed, unpacked
from proxy.stores import (
    LATEST_MS,
    LONGEST_WINDOW_MS,
    OPEN,
    WAITING,
    Entry,
    Once,
    Pair,
    decided,
    exceeded,
    exchange_id,
    expired,
    pairs,
    post,
    recovered,
    standing,
    used,
)
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


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure the store."""

    lease_ms: int = 60_000
    """How long a dispatched attempt without a hold counts as alive between heartbeats."""


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[MemoryStore]:  # noqa: A001 - the name that a store plug-in exports
    """Yield an empty store."""
    yield MemoryStore(settings)


@dataclass(slots=True)
class _Attempt:
    entry: Entry
    expires_ms: int
    held_nanousd: int | None = None
    held_under: tuple[Pair, ...] = ()
    cost_nanousd: int | None = None


class _Places:
    """Where conversations are, and where they were."""

    def __init__(self) -> None:
        self._stands: dict[str, tuple[int, Stand]] = {}
        self._at: dict[str, dict[str, None]] = {}
        """End -> the ids of the sessions that stand there, newest last."""
        self._passed: dict[str, dict[str, dict[str, tuple[int, int]]]] = {}
        """Mark -> user -> session id -> (when, turn)."""

    def standing(self, end: str) -> Place | None:
        if not (here := self._at.get(end)):
            return None
        _, stand = self._stands[next(reversed(here))]
        if len(here) > 1:
            self._leave(stand.session_id)
        return Place(session_id=stand.session_id, turn=stand.turn)

    def passed(self, mark: str, user: str) -> list[Place]:
        users = self._passed.get(mark, {})
        found: dict[str, Place] = {}
        for name in ("", user):
            for session_id, (_, turn) in users.get(name, {}).items():
                found[session_id] = Place(session_id=session_id, turn=turn)
                if len(found) > 1:
                    return [*found.values()]
        return [*found.values()]

    def stand(self, stand: Stand, at_ms: int) -> None:
        self._leave(stand.session_id)
        if stand.end:
            self._stands[stand.session_id] = at_ms, stand
            self._at.setdefault(stand.end, {})[stand.session_id] = None
        for mark in stand.marks:
            left = self._passed.setdefault(mark, {}).setdefault(stand.user, {})
            left[stand.session_id] = at_ms, stand.turn

    def purge(self, before_ms: int) -> None:
        for name in [name for name, (at_ms, _) in self._stands.items() if at_ms < before_ms]:
            self._leave(name)
        for mark, users in [*self._passed.items()]:
            kept = {user: {n: p for n, p in left.items() if p[0] >= before_ms} for user, left in users.items()}
            self._passed[mark] = {user: left for user, left in kept.items() if left}
            if not self._passed[mark]:
                del self._passed[mark]

    def _leave(self, session_id: str) -> None:
        if left := self._stands.pop(session_id, None):
            here = self._at[left[1].end]
            del here[session_id]
            if not here:
                del self._at[left[1].end]


class MemoryStore:
    """Keep everything in dictionaries; `exchanges` may be read by tests, last written last."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self._attempts: dict[str, _Attempt] = {}
        self._settled = Once()
        self._totals: dict[Pair, Totals] = {}
        self._touched: dict[Pair, int] = {}
        self._leases: dict[str, int] = {}
        self._sessions: dict[str, int] = {}
        self._places = _Places()
        self._saved: dict[str, tuple[int, Session]] = {}
        self._held: dict[str, Held] = {}
        self._handoffs: dict[str, Handoff] = {}
        self._open_handoffs: dict[str, str] = {}
        """Session id -> the id of its open one: asked for by every call."""
        self._deliveries: dict[str, Delivery] = {}
        self._kept: dict[str, tuple[int, bytes]] = {}
        self.exchanges: dict[str, Exchange] = {}

    # --- budgets ----------------------------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none."""
        amount = reservation.amount_nanousd
        for limit in reservation.limits:
            total = self._totals.get((limit.scope, limit.window), Totals())
            if total.nanousd + total.reserved_nanousd + amount > limit.cap_nanousd:
                raise exceeded(limit)
        held_under = pairs(reservation.limits)
        attempt = self._attempts[reservation.id] = _Attempt(Entry.RESERVED, reservation.expires_ms, amount, held_under)
        if reservation.booked:
            attempt.entry, attempt.cost_nanousd = Entry.EXPIRED, amount
        for pair in held_under:
            if reservation.booked:
                self._add(pair, at_ms, amount, calls=1)
            else:
                self._add(pair, at_ms, reserved=amount)

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once per reservation id."""
        if not self._settled.first(settlement.reservation_id):
            return
        attempt = self._attempts.pop(settlement.reservation_id, None)
        entry, booked = (attempt.entry, attempt.cost_nanousd) if attempt else (None, None)
        if attempt and entry in OPEN:
            self._release(attempt, at_ms)
        nanousd, tokens, calls = post(entry, booked or 0, settlement)
        for pair in dict.fromkeys(settlement.counters):
            self._add(pair, at_ms, nanousd, 0, tokens, calls)

    async def totals(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""
        return [self._totals.get(pair, Totals()) for pair in counters]

    # --- records ----------------------------------------------------------------------------------------------------

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED."""
        newest = exchange.attempts[-1]
        expires_ms = newest.started_ms + self._settings.lease_ms
        attempt = self._attempts.setdefault(newest.reservation_id, _Attempt(Entry.RESERVED, expires_ms))
        if attempt.entry is not Entry.RESERVED:
            raise Overloaded("The hold for this call has lapsed.", code="hold_lapsed")
        attempt.entry = Entry.DISPATCHED
        self._leases[exchange.id] = max(expires_ms, attempt.expires_ms)
        self._write(exchange)

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one."""
        self._leases.pop(exchange.id, None)
        self._write(exchange)
        session = exchange.session
        self._sessions[session.id] = max(session.turn, self._sessions.get(session.id, 0))

    def keep(self, kept: Kept) -> None:
        """Write what policy knew along a call."""
        self._kept[kept.exchange_id] = kept.at_ms, packed(kept)

    def kept(self) -> dict[str, Kept]:
        """Return what was kept, by exchange id."""
        return {name: unpacked(entry) for name, (_, entry) in self._kept.items()}

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def standing(self, end: str) -> Place | None:
        """Return where a conversation stands that has not gone on from this end; of several the newest, once."""
        return self._places.standing(end)

    async def passed(self, mark: str, user: str) -> list[Place]:
        """Return where conversations left this mark in calls of this user or of nobody named; of more than two, two."""
        return self._places.passed(mark, user)

    def stand(self, stand: Stand, at_ms: int) -> None:
        """Write where a call leaves its conversation: it stands nowhere else."""
        self._places.stand(stand, at_ms)

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next."""
        known = self._known(session_id)
        if not (known.turn or known.escalation):
            return None
        return msgspec.structs.replace(known, turn=known.turn + 1, link="header")

    def save(self, session: Session, at_ms: int) -> None:
        """Add what is known of a session beyond its records to what was known of it."""
        _, known = self._saved.get(session.id, (0, session))
        self._saved[session.id] = at_ms, together(known, session)

    # --- the desk ---------------------------------------------------------------------------------------------------

    async def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key waits: then return that one."""
        newest = self._newest(held.key)
        if newest and standing(newest, held.created_ms).state in WAITING:
            return newest
        self._held[held.id] = held
        return held

    async def use(self, key: str, at_ms: int) -> Held | None:
        """Return the newest action with this key as it stands at this time; an approved one is taken."""
        held = self._newest(key)
        if held is None:
            return None
        stands = standing(held, at_ms)
        self._held[held.id] = used(stands)
        return stands

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Approve or deny a pending action; return it as it stands then, None if there is no such action."""
        if held := self._held.get(held_id):
            self._held[held_id] = decided(held, state, by, note, at_ms)
        return self._held.get(held_id)

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions, newest first; None: in whatever state."""
        return [held for held in reversed(self._held.values()) if state in (None, held.state)][:limit]

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Write the packet and queue its delivery; where the conversation has an open one, return that instead."""
        if already := self._open_handoffs.get(handoff.session_id):
            return self._handoffs[already]
        self._handoffs[handoff.id] = handoff
        self._open_handoffs[handoff.session_id] = handoff.id
        self._deliveries[handoff.id] = Delivery(handoff=handoff, due_ms=handoff.at_ms)
        return handoff

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets, newest first."""
        return [handoff for handoff in reversed(self._handoffs.values()) if not (open_only and handoff.closed_ms)][
            :limit
        ]

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Give a conversation back to its agent; return the packet, None if there is no such packet."""
        handoff = self._handoffs.get(handoff_id)
        if handoff and not handoff.closed_ms:
            self._handoffs[handoff_id] = msgspec.structs.replace(handoff, closed_ms=at_ms, closed_by=by)
            del self._open_handoffs[handoff.session_id]
        return self._handoffs.get(handoff_id)

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, oldest first."""
        due = [delivery for delivery in self._deliveries.values() if delivery.due_ms <= at_ms]
        return [
            msgspec.structs.replace(delivery, handoff=self._handoffs[delivery.handoff.id])
            for delivery in sorted(due, key=lambda delivery: delivery.due_ms)[:limit]
        ]

    async def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off the queue."""
        self._deliveries.pop(handoff_id, None)

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Note that a delivery failed, and when to try again."""
        if delivery := self._deliveries.get(handoff_id):
            self._deliveries[handoff_id] = msgspec.structs.replace(
                delivery, tries=delivery.tries + 1, due_ms=due_ms, error=error
            )

    # --- leases -----------------------------------------------------------------------------------------------------

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on."""
        for reservation_id in reservation_ids:
            if attempt := self._attempts.get(reservation_id):
                attempt.expires_ms = max(attempt.expires_ms, until_ms)
            name = exchange_id(reservation_id)
            if name in self._leases:
                self._leases[name] = max(self._leases[name], until_ms)

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what was left open past its lease and return those exchanges, RECOVERED."""
        for reservation_id, attempt in self._attempts.items():
            if attempt.expires_ms < at_ms and attempt.entry in OPEN:
                self._expire(reservation_id, attempt, at_ms)
        self._attempts = {name: a for name, a in self._attempts.items() if a.expires_ms >= at_ms - LATEST_MS}
        self._held = {name: standing(held, at_ms) for name, held in self._held.items()}
        dead = [name for name, expires_ms in self._leases.items() if expires_ms < at_ms]
        return [self._close(self.exchanges[name]) for name in dead]

    async def purge(self, before_ms: int) -> int:
        """Delete finished exchanges that started earlier, and counters long unused; return how many exchanges."""
        finished = [name for name in self.exchanges if name not in self._leases]
        old = [name for name in finished if self.exchanges[name].started_ms < before_ms]
        for name in old:
            del self.exchanges[name]
        for pair in [pair for pair, at_ms in self._touched.items() if at_ms < before_ms - LONGEST_WINDOW_MS]:
            if not self._totals[pair].reserved_nanousd:
                del self._totals[pair], self._touched[pair]
        self._saved = {name: saved for name, saved in self._saved.items() if saved[0] >= before_ms}
        self._places.purge(before_ms)
        self._held = {name: held for name, held in self._held.items() if held.expires_ms >= before_ms}
        for name in [name for name, handoff in self._handoffs.items() if 0 < handoff.closed_ms < before_ms]:
            del self._handoffs[name]
            self._deliveries.pop(name, None)
        return len(old)

    async def forget(self, before_ms: int) -> int:
        """Delete what was kept of calls that started earlier; return of how many."""
        old = [name for name, (at_ms, _) in self._kept.items() if at_ms < before_ms]
        for name in old:
            del self._kept[name]
        return len(old)

    # --- below: how -------------------------------------------------------------------------------------------------

    def _known(self, session_id: str) -> Session:
        """Return all that is known of a session; without a `turn` and an `escalation` that is nothing."""
        _, saved = self._saved.get(session_id, (0, Session(id=session_id, turn=0)))
        last = max(saved.turn, self._sessions.get(session_id, 0))
        return msgspec.structs.replace(saved, turn=last, escalation=self._open_handoffs.get(session_id, ""))

    def _newest(self, key: str) -> Held | None:
        return next((held for held in reversed(self._held.values()) if held.key == key), None)

    def _expire(self, reservation_id: str, attempt: _Attempt, at_ms: int) -> None:
        self._release(attempt, at_ms)
        if attempt.entry is Entry.RESERVED:
            attempt.entry = Entry.RELEASED
            return
        exchange = self.exchanges.get(exchange_id(reservation_id))
        cost, tokens, counters = expired(exchange, reservation_id, attempt.held_nanousd, attempt.held_under)
        attempt.entry, attempt.cost_nanousd = Entry.EXPIRED, cost
        for pair in counters:
            self._add(pair, at_ms, cost or 0, 0, tokens, 1)

    def _close(self, exchange: Exchange) -> Exchange:
        ids = [attempt.reservation_id for attempt in exchange.attempts]
        closed = recovered(
            exchange, {name: self._attempts[name].cost_nanousd for name in ids if name in self._attempts}
        )
        self.finish(closed)
        return closed

    def _write(self, exchange: Exchange) -> None:
        self.exchanges.pop(exchange.id, None)
        self.exchanges[exchange.id] = exchange

    def _release(self, attempt: _Attempt, at_ms: int) -> None:
        for pair in attempt.held_under:
            self._add(pair, at_ms, reserved=-(attempt.held_nanousd or 0))

    def _add(
        self, pair: Pair, at_ms: int, nanousd: int = 0, reserved: int = 0, tokens: int = 0, calls: int = 0
    ) -> None:
        total = self._totals.get(pair, Totals())
        self._totals[pair] = Totals(
            nanousd=total.nanousd + nanousd,
            reserved_nanousd=total.reserved_nanousd + reserved,
            tokens=total.tokens + tokens,
            calls=total.calls + calls,
        )
        self._touched[pair] = max(at_ms, self._touched.get(pair, 0))
