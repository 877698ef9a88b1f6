"""Owns the frozen configuration that one walk keeps from its first to its last step.

In: compiled policies, targets, prices, limits. Out: a value. Never: anything that changes; reload makes a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

import msgspec

from proxy.policy import PolicySet, Searched, Sought
from proxy.ports import Dialect, Guard, Provider
from proxy.routing import Table
from proxy.terms import Caller, Cost, RawRequest, Target, Usage

UnknownPrice = Literal["deny", "ceiling", "mark"]


class Price(Protocol):
    """What a target charges."""

    def cost(self, usage: Usage) -> Cost:
        """Return what this usage costs, rounded up to the nano-dollar."""

    def ceiling(self, input_tokens: int, output_tokens: int, choices: int = 1) -> int | None:
        """Return the most nano-dollars that a call of this size can cost; None when a rate is missing."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one call; seconds unless the name says otherwise."""

    max_body_bytes: int = 10 * 1024 * 1024
    max_body_parts: int = 20_000
    """Names, objects and lists in a body: some 20 ms of reading; a thousand tool calls with results have 16,000."""
    max_reply_bytes: int = 64 * 1024 * 1024
    max_connections: int = 1024
    max_attempts: int = 3
    max_output_tokens: int = 4096
    """Output limit set on a call that has none, where a spend limit must be held for it."""
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    header_s: float = 10.0
    body_s: float = 30.0
    write_stall_s: float = 30.0
    drain_s: float = 30.0
    """How long a reply is read on for the books after its client has left."""
    max_drains: int = 128
    """How many replies at a time."""
    replay_bytes: int = 32 * 1024 * 1024
    """Memory for the answers of calls that bring an Idempotency-Key."""
    grace_s: float = 25.0
    """How long open replies may go on after SIGTERM."""
    lease_s: float = 60.0


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Policies with the guards that they read."""

    policies: PolicySet
    guards: Mapping[str, Guard]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled configuration."""

    revision: str
    identify: Callable[[RawRequest, int], Caller]
    dialects: Mapping[str, Dialect]
    """By endpoint path."""
    policies: PolicySet
    guards: Mapping[str, Guard]
    search: Callable[[Sought], Iterator[Searched | None]]
    """Searches a text: yields None after each piece of it, at last what was found."""
    providers: Mapping[str, Provider]
    table: Table
    price: Callable[[Target, int, str], Price | None]
    """The price of a target at a time, in a service mode such as `priority` if it has rates of its own for that."""
    prices_digest: str
    unknown_price: UnknownPrice
    limits: Limits
    candidate: Bundle | None = None
    """What is asked beside the policies once a reply is complete, and never acts."""
    candidate_problems: tuple[str, ...] = ()
    """Why a candidate is not asked."""
