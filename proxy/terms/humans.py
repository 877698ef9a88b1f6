"""Owns the nouns of what waits for a human, and of what one gets who takes over."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


class HeldState(enum.StrEnum):
    """Where an action stands that waits for a human."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An action that a human has to approve. It is bound to its `key`: what is approved is this very call."""

    id: str
    key: str
    """Digest of the conversation, the tool and the canonical arguments."""
    session_id: str
    agent: str
    tenant: str
    tool: str
    arguments: str
    """Canonical JSON: what the human has to see."""
    rule: str
    created_ms: int
    expires_ms: int
    state: HeldState = HeldState.PENDING
    reason: str = ""
    group: str = ""
    exchange_id: str = ""
    decided_ms: int = 0
    decided_by: str = ""
    note: str = ""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the agent did, and what came of it."""

    tool: str
    arguments: str
    result: str = ""
    outcome: str = ""
    """`ok`, `failed`, `unanswered`, or `refused` where policy did not let it happen."""


class Handoff(msgspec.Struct, frozen=True, kw_only=True):
    """What a human gets who takes a conversation over."""

    id: str
    session_id: str
    exchange_id: str
    at_ms: int
    agent: str
    tenant: str
    queue: str
    rule: str
    reason: str
    turn: int = 1
    summary: str = ""
    customer: Mapping[str, str] = {}
    tried: tuple[Tried, ...] = ()
    sentiment: str = ""
    """What the sentiment guard said; empty where it did not run."""
    open_question: str = ""
    identifiers: Mapping[str, tuple[str, ...]] = {}
    """Kind -> values: order numbers, e-mail addresses, links …"""
    completeness: float = 0.0
    """0 to 1: the share of the packet's fields that are filled."""
    missing: tuple[str, ...] = ()
    """Names of the fields that are not."""
    closed_ms: int = 0
    closed_by: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A packet on its way to the webhook, and how often that was tried."""

    handoff: Handoff
    tries: int = 0
    due_ms: int = 0
    error: str = ""
