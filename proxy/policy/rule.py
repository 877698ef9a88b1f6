"""Owns the one rule form: everything that a policy says, whichever section it was said in.

In: nothing. Out: values. Never: YAML, CEL, a decision.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from proxy.documents import Path, Text
from proxy.terms import (
    Approval,
    Escalation,
    Fit,
    How,
    Json,
    Level,
    Mode,
    Obligation,
    OnDeny,
    OnDisconnect,
    Phase,
    Verdict,
    Way,
)

NANO = 10**9
PRIORITY = 500


class OnError(enum.StrEnum):
    """What an evaluation that fails leads to."""

    DENY = "deny"
    ESCALATE = "escalate"
    ALLOW = "allow"


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule looks for in the texts of its phase; a denying rule takes nothing out, but denies what has it."""

    how: How = How.MASK
    kinds: tuple[str, ...] = ()
    """Labels of the findings that it is about."""
    pattern: str = ""
    """RE2, in place of kinds."""
    allow: str = ""
    """CEL over `finding`: what it is true of stays."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A bound on what calls come to together."""

    name: str
    """Of the total, once in its policy."""
    key: str
    """CEL: whose calls are added up."""
    limit_nano: int
    window: str
    timezone: str
    failed: str = ""
    """CEL over `result`: true if the call did not happen after all."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The one form of everything a policy says."""

    id: str
    """`policy/rule@version`."""
    section: str
    """Where it was written: `topics`, `actions`, `spend`, `data`, `escalation`, `routing` or `rules`."""
    phase: Phase
    action: Verdict
    when: str
    """The CEL condition; it acts when this is true, or with `require` when it is not. Of a spend limit: the CEL key."""
    require: bool = False
    tools: tuple[str, ...] = ()
    """Globs: the tools to strip (phase request), or the calls it is about (phase tool_call; empty: all)."""
    mode: Mode = Mode.ENFORCE
    on_error: OnError = OnError.DENY
    on_deny: OnDeny = OnDeny.REPLY
    priority: int = PRIORITY
    severity: str = ""
    message: str = ""
    message_expression: str = ""
    hold: bool = False
    """The reply waits for this rule (phase response)."""
    behind: int = 0
    """Characters that it has to see before a step of a text (phase chunk)."""
    ahead: int = 0
    """Those that it has to see after the beginning of what it judges: so much of a streamed text is held back."""
    way: Way | None = None
    annotations: Mapping[str, str] = {}
    labels: tuple[str, ...] = ()
    """What it labels the conversation with."""
    redaction: Redaction | None = None
    schema: Json = None
    """JSON Schema: besides its condition, the arguments of the call must not fit this for it to match."""
    quota: Quota | None = None
    """The rule bounds calls together: `when` is what one call adds."""
    approval: Approval | None = None
    escalation: Escalation | None = None
    rewrites: Mapping[str, str] = {}
    """What is said in the place of what was, as CEL: by setting of a request, argument of a tool call, or `text`."""
    obligations: tuple[Obligation, ...] = ()
    level: Level | None = None
    """What it lowers the agent to (phase post)."""
    cap_nanousd: int | None = None
    """Of a spend limit: what the budget store lets through, counted under `scope` and `window`."""
    fit: Fit | None = None
    scope: str = ""
    window: str = ""
    timezone: str = ""
    digest: str = ""
    position: str = ""
    """`file:line:column`."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one loaded policy besides its rules."""

    name: str
    version: str
    digest: str
    path: str
    position: str
    """`file:line:column` of the version."""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    on_disconnect: OnDisconnect = OnDisconnect.DRAIN
    """`abort` only where the policy is enforced."""


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and where its expressions stand in the document."""

    rule: Rule
    at: Path
    when_at: Path


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One document in the one rule form."""

    document: Document
    text: Text
    priority: int
    agents: tuple[str, ...]
    models: tuple[str, ...]
    tenants: tuple[str, ...]
    selector: str
    """CEL, or empty."""
    params: Mapping[str, Json]
    variables: tuple[tuple[str, str], ...]
    rules: tuple[Lowered, ...]


def digest_of(value: object) -> str:
    """Return the sha256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def nanousd(usd: Any) -> int | None:
    """Return dollars as nano-dollars, or None if they have more than nine decimals."""
    nano = Decimal(repr(usd)) * NANO
    return int(nano) if nano == nano.to_integral_value() else None
