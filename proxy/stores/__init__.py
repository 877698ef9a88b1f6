"""Owns the shelf of stores: what each of them can do, and the book-keeping rules that all of them keep.

In: nouns. Out: the `Store` Protocol, and decisions about one entry in the books. Never: I/O.

An attempt walks `RESERVED -> DISPATCHED -> settled`, and leaves the books when it is settled. If its process goes
silent it becomes RELEASED (never dispatched, costs nothing) or EXPIRED (booked at what was held, until its owner comes
back with the truth, if ever). Who settles an attempt remembers that, so that a second settlement changes nothing.
A reservation that is booked is EXPIRED from the beginning: it counts until somebody says that it was not used.
"""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from proxy.errors import BudgetExceeded
from proxy.ports import BudgetStore, Desk, RecordSink, SessionStore
from proxy.terms import Attempt, Cost, Exchange, Handoff, Held, HeldState, Limit, Session, Settlement, State, Totals

Pair: TypeAlias = tuple[str, str]
"""The name of a counter: (scope, window)."""

LATEST_MS = 24 * 3600 * 1000
"""How long after its lease an attempt's owner may still come back and settle it."""
LONGEST_WINDOW_MS = 32 * 24 * 3600 * 1000
"""Counters are kept this much longer than records, because a month's budget counts on them."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Money held for one attempt, under these counters, until its lease ends."""

    amount_nanousd: int
    counters: tuple[Pair, ...]
    expires_ms: int


class Budgets(BudgetStore, Protocol):
    """Budgets, and leases by which others clean up after a crash."""

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on; queued, never awaited."""

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what dead processes left open and return those exchanges, RECOVERED; safe in several processes at once.

        Holds past their lease that were never dispatched are released; dispatched ones are booked at what was held.
        Actions that nobody decided or used in time become EXPIRED.
        """


class OwnBooks(Budgets, Protocol):
    """Budgets of one replica that can say how they stand, everything included that was queued before."""

    async def holds(self) -> dict[str, Hold]:
        """Return what is held for attempts that are open, by reservation id."""

    async def touched(self, since_ms: int) -> list[Pair]:
        """Return the counters that changed at this time or later."""

    async def balances(self, counters: Sequence[Pair]) -> list[Totals]:
        """Return the totals of these counters."""


class Store(Budgets, RecordSink, SessionStore, Desk, Protocol):
    """Budgets, records, sessions and the desk in one place."""

    async def purge(self, before_ms: int) -> int:
        """Delete finished exchanges that started earlier, and counters long unused; return how many exchanges.

        States of sessions saved earlier, actions that expired earlier and hand-offs closed earlier go with them.
        """

    async def forget(self, before_ms: int) -> int:
        """Delete what was kept of calls that started earlier; return of how many. Their records stay."""


class Copies(Protocol):
    """What a replica keeps for its records of conversations that it shares with others."""

    async def load(self, session_id: str) -> Session | None:
        """Return a session as this replica knows it."""

    def save(self, session: Session, at_ms: int) -> None:
        """Add what one call knows of a session beyond its records; queued, never awaited."""

    def copy_held(self, held: Held) -> None:
        """Write an action as it stands, over what was known of it; queued, never awaited."""

    def copy_handoff(self, handoff: Handoff) -> None:
        """Write a packet as it stands, over what was known of it; it is delivered elsewhere. Queued, never awaited."""


class Entry(enum.StrEnum):
    """Where an attempt stands in the books until it is settled."""

    RESERVED = "reserved"
    DISPATCHED = "dispatched"
    RELEASED = "released"
    EXPIRED = "expired"


OPEN = (Entry.RESERVED, Entry.DISPATCHED)
"""Entries whose hold counts against the limits."""


def post(entry: str | None, booked_nanousd: int, settlement: Settlement) -> tuple[int, int, int]:
    """Return what a settlement adds to its counters, as (nanousd, tokens, calls).

    `entry` is the `Entry` at which the attempt stands, None if it was neither reserved nor dispatched here.
    `booked_nanousd` is what an EXPIRED one was booked at: the settlement replaces that estimate.
    """
    unsent = entry in (None, Entry.RESERVED, Entry.RELEASED) and settlement.nanousd == settlement.tokens == 0
    calls = 0 if unsent or entry == Entry.EXPIRED else 1
    return settlement.nanousd - booked_nanousd, settlement.tokens, calls


WAITING = (HeldState.PENDING, HeldState.APPROVED)
"""Actions in these states expire."""


def standing(held: Held, at_ms: int) -> Held:
    """Return an action as it stands at this time: EXPIRED if it waits longer than it may."""
    if held.state in WAITING and held.expires_ms <= at_ms:
        return msgspec.structs.replace(held, state=HeldState.EXPIRED)
    return held


def used(held: Held) -> Held:
    """Return an action as it stands once somebody was told of it: an approval is good for one call."""
    return msgspec.structs.replace(held, state=HeldState.USED) if held.state is HeldState.APPROVED else held


def decided(held: Held, state: HeldState, by: str, note: str, at_ms: int) -> Held:
    """Return an action with a human's decision, or as it stands if it is not pending any more."""
    held = standing(held, at_ms)
    if held.state is not HeldState.PENDING:
        return held
    return msgspec.structs.replace(held, state=state, decided_by=by, note=note, decided_ms=at_ms)


class Once:
    """Remember the newest names, so that what must happen once per name does."""

    def __init__(self, limit: int = 16_384) -> None:
        self._limit = limit
        self._names: OrderedDict[str, None] = OrderedDict()

    def first(self, name: str) -> bool:
        """Say whether the name is new, and remember it."""
        if name in self._names:
            return False
        self._names[name] = None
        if len(self._names) > self._limit:
            self._names.popitem(last=False)
        return True


def exceeded(limit: Limit) -> BudgetExceeded:
    """Return the error for a limit that has no room."""
    return BudgetExceeded(limit.message or f"The spend limit {limit.rule} has no room for this call.", rule=limit.rule)


def pairs(limits: Sequence[Limit]) -> tuple[Pair, ...]:
    """Return the counters to hold under, each once even when several limits share it."""
    return tuple(dict.fromkeys((limit.scope, limit.window) for limit in limits))


def spellings(text: str) -> frozenset[bytes]:
    """Return how a text can stand in a record: as it is, in JSON, and in JSON that is a text in JSON."""
    forms = {text}
    for _ in range(2):
        forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms for ascii_only in (False, True)}
    return frozenset(form.encode("utf-8", "surrogatepass") for form in forms)


def exchange_id(reservation_id: str) -> str:
    """Return the exchange that an attempt belongs to."""
    return reservation_id.rpartition(":")[0]


def expired(
    exchange: Exchange | None, reservation_id: str, held_nanousd: int | None, held_under: tuple[Pair, ...]
) -> tuple[int | None, int, tuple[Pair, ...]]:
    """Return (nanousd, tokens, counters) to book for a dispatched attempt whose lease ran out.

    That is what its record says it cost, else what was held, else None: the cost was never learned.
    """
    attempts = exchange.attempts if exchange else ()
    attempt = next((attempt for attempt in attempts if attempt.reservation_id == reservation_id), None)
    if attempt is None:
        return held_nanousd, 0, held_under
    if attempt.state is not State.DISPATCHED and attempt.cost.nanousd is not None:
        return attempt.cost.nanousd, attempt.usage.input_tokens + attempt.usage.output_tokens, attempt.counters
    return attempt.held_nanousd or None if held_nanousd is None else held_nanousd, 0, attempt.counters


def recovered(exchange: Exchange, booked: Mapping[str, int | None]) -> Exchange:
    """Return the record of an exchange whose process died; `booked` is what its attempts cost, by reservation id."""
    attempts = tuple(_recovered(attempt, booked.get(attempt.reservation_id)) for attempt in exchange.attempts)
    costs = [attempt.cost.nanousd for attempt in attempts]
    total = None if None in costs else sum(cost or 0 for cost in costs)
    return msgspec.structs.replace(
        exchange,
        state=State.RECOVERED,
        attempts=attempts,
        cost=Cost(nanousd=total, price="held", estimated=True),
        error="the process that served this call died",
    )


def _recovered(attempt: Attempt, booked_nanousd: int | None) -> Attempt:
    if attempt.state is not State.DISPATCHED:
        return attempt
    cost = Cost(nanousd=booked_nanousd, price="" if booked_nanousd is None else "held", estimated=True)
    return msgspec.structs.replace(attempt, state=State.RECOVERED, cost=cost)
