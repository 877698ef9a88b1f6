"""Owns the nouns of what stays: the record of a call, what was kept of it, and the rows of the tiers."""

from __future__ import annotations

import enum

import msgspec

from proxy.terms.calls import Caller, Session
from proxy.terms.money import Cost, Route, Target, Usage
from proxy.terms.policy import Decision, Facts, GuardResult
from proxy.terms.values import State, UsageSource


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One dispatched try at one target, with its own hold, usage and cost."""

    number: int
    reservation_id: str
    target: Target
    started_ms: int
    state: State = State.DISPATCHED
    held_nanousd: int = 0
    shortened: int = 0
    """The output tokens that spend limits had room for, where that was less than was asked for."""
    usage: Usage = Usage(source=UsageSource.NONE)
    cost: Cost = Cost(nanousd=None)
    status: int = 0
    error: str = ""
    ttft_ms: float = 0.0
    total_ms: float = 0.0
    counters: tuple[tuple[str, str], ...] = ()


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its reply: the one record that everything else reads."""

    id: str
    started_ms: int
    endpoint: str
    caller: Caller
    session: Session
    stream: bool
    model_asked: str
    state: State
    status: int = 0
    route: Route | None = None
    attempts: tuple[Attempt, ...] = ()
    decisions: tuple[Decision, ...] = ()
    guards: tuple[GuardResult, ...] = ()
    tool_calls: tuple[str, ...] = ()
    """Names of the tools whose calls were released to the agent."""
    finish_reason: str = ""
    model_served: str = ""
    cost: Cost = Cost(nanousd=None)
    error: str = ""
    ttft_ms: float = 0.0
    total_ms: float = 0.0
    policy_ms: float = 0.0
    guard_ms: float = 0.0
    hold_ms: float = 0.0
    """How long finished bytes waited for a decision."""
    policy_digest: str = ""
    prices_digest: str = ""
    input_digest: str = ""
    sent_digest: str = ""
    simulated: bool = False
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    candidate: tuple[Decision, ...] = ()
    """What a candidate would have decided otherwise, by the ids of the decisions that were made."""
    candidate_digest: str = ""
    """Empty: no candidate was asked."""
    replay_of: str = ""
    """Id of the call whose answer was said again: nothing was sent and nothing is charged."""
    customer: str = ""
    """Keyed digest of whom the call named as its user, the same on every channel; empty where it named nobody."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a walk: what policy knew, and what it said."""

    facts: Facts
    decision: Decision


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that policy knew along one call, kept because a rule asked for it. What rules took out of the texts is not in
    it: marks stand there, as in what the provider got."""

    exchange_id: str
    at_ms: int
    policy_digest: str
    headers: tuple[str, ...] = ()
    """Names of the request headers that rules could read; what they read of others is not known."""
    checks: tuple[Checked, ...] = ()
    too_large: int = 0
    """How many bytes it had, where that was too much to keep: then there are no checks."""


class Table(enum.StrEnum):
    """The kinds of rows that every tier has."""

    EXCHANGES = "exchanges"
    FACTS = "facts"
    SESSIONS = "sessions"
    HELD = "held"
    HANDOFFS = "handoffs"
    LINKS = "links"
    """Which customer a conversation is with, whatever channel it came in on."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """That a conversation is with a customer."""

    customer: str
    session_id: str
    channel: str
    """The agent that holds it."""
    first_ms: int
    last_ms: int
    """When the customer was last named in it, to the hour."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One record as every tier keeps it."""

    table: Table
    id: str
    """Unique in its table."""
    version: int
    """Of rows with one id the one with the highest counts."""
    at_ms: int
    """When it happened: what retention goes by."""
    session_id: str = ""
    customer: str = ""
    """Digest of whom the call named as its user; empty where it named nobody."""
    body: bytes
    """The noun as JSON, sealed where content is."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of these conversations, and those of these customers; both empty: none."""

    sessions: frozenset[str] = frozenset()
    customers: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """What callers call these customers, plain and digested: counters may be kept under it. No row is."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that a shelf has not got, oldest first."""

    rows: tuple[Row, ...] = ()
    upto: int = 0
    """What to say when the shelf has them; 0: nothing waits."""
    more: bool = False
    """Whether others may wait after these."""
