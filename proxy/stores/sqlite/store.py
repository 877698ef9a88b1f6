"""Owns group commit: operations of one tick of the event loop become one transaction, and nothing waits for a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from proxy.terms import Exchange, Reservation, Session, Settlement, Totals


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configure the store."""

    path: str
    lease_ms: int = 60_000
    """How long a dispatched attempt without a hold counts as alive between heartbeats."""
    patience_s: float = 2.0
    """How long a call waits while another process holds the file."""
    closing_s: float = 5.0
    """How long closing waits to write what is queued."""
    checkpoint_s: float = 2.0
    max_pending: int = 10_000
    """Queued operations beyond which new calls are refused."""


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[SqliteStore]:  # noqa: A001 - the name that a store plug-in exports
    """Yield the store on its file; leaving writes all that is queued."""
    raise NotImplementedError
    yield


class SqliteStore:
    """Budgets, records and sessions on one file."""

    @property
    def backlog(self) -> int:
        """Return how many operations are waiting to be written."""
        raise NotImplementedError

    @property
    def trouble(self) -> str:
        """Return why writing fails at the moment, empty when it does not."""
        raise NotImplementedError

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none; raise BudgetExceeded or Overloaded."""

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once; zero for an attempt never dispatched releases it."""

    async def totals(self, counters: Sequence[tuple[str, str]]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""
        raise NotImplementedError

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED; raise Overloaded when that cannot be written."""

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one; queued."""

    async def find(self, prefixes: Sequence[str]) -> Session | None:
        """Return the session that last ended in one of these digests, longest history first; `turn` is the next."""
        raise NotImplementedError

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; `turn` is the next."""
        raise NotImplementedError

    def heartbeat(self, reservation_ids: Sequence[str], until_ms: int) -> None:
        """Extend the leases of attempts that are still being worked on; queued."""

    async def recover(self, at_ms: int) -> list[Exchange]:
        """Close what dead processes left open and return those exchanges, RECOVERED."""
        raise NotImplementedError
