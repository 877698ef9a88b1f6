"""Owns the list of what a walk needs from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from proxy.pipeline.once import Answers
from proxy.ports import BudgetStore, Clock, Desk, Estimator, Ids, RecordSink, SessionStore, Upstream
from proxy.routing import Health, Retries
from proxy.snapshot import Snapshot
from proxy.terms import Exchange


class House(msgspec.Struct, kw_only=True):
    """The ports, and the snapshot that new walks start with; built by `app`, which swaps `snapshot` on reload."""

    snapshot: Snapshot
    clock: Clock
    ids: Ids
    upstream: Upstream
    budgets: BudgetStore
    records: RecordSink
    sessions: SessionStore
    desk: Desk
    estimator: Estimator
    health: Health
    observe: Callable[[Exchange], None]
    pause: Callable[[float], Awaitable[None]]
    """Wait for so many seconds; for none, until others have had their turn."""
    vault_key: bytes
    """With which placeholders and digests of personal data are made."""
    customer_key: bytes
    """With which customers are told from each other, by every Handrail that is to know them as the same."""
    answers: Answers = msgspec.field(default_factory=Answers)
    """Of calls that may come again."""
    retries: Retries = msgspec.field(default_factory=Retries)
    open_holds: set[str] = msgspec.field(default_factory=set)
    """Reservation ids in flight, whose leases `app` extends."""
