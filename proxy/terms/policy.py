"""Owns the nouns of guards and policy: what is found, what rules know, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.terms.calls import Caller, Request, Session, ToolCall
from proxy.terms.money import Limit, Target, Usage
from proxy.terms.replies import Reply
from proxy.terms.values import HandoffBy, Headers, How, Level, Mode, Obligation, OnDeny, Phase, Verdict


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a guard found; `score` is 0 to 1, spans are character offsets into the scanned text."""

    guard: str
    label: str
    score: float = 1.0
    start: int = 0
    end: int = 0
    reason: str = ""


class GuardResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one guard said of one text; a non-empty `error` means it failed, `ran` false means it did not run."""

    name: str
    version: str
    findings: tuple[Finding, ...] = ()
    ran: bool = True
    error: str = ""
    ms: float = 0.0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What has been spent in one scope and window, settled and still reserved."""

    nanousd: int = 0
    reserved_nanousd: int = 0
    tokens: int = 0
    calls: int = 0


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Money facts for policy: this request's estimate and ceiling (None: no price is known), and running totals."""

    est_nanousd: int | None = None
    max_nanousd: int | None = None
    conversation: Totals = Totals()
    agent: Totals = Totals()
    user: Totals | None = None
    """None: the request does not say who its user is."""
    tenant: Totals = Totals()
    """Those three of the current UTC day."""
    remaining_nanousd: int | None = None
    """What is left under the hard limit that has least room; None: no limit applies."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One tool result inside a request; `message` is its index there."""

    tool: str
    call_id: str
    text: str
    message: int = 0
    verified: bool = False
    """It answers, once, a call that Handrail let through."""
    age_ms: int = 0
    """How long ago that call was let through; 0 where it is not verified."""
    new: bool = True
    """It stands after the newest assistant message."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a reply's text, as rules of phase chunk see it; which steps there are follows from the text alone."""

    text: str
    """The step with what stands around it."""
    choice: int = 0
    field: str = "text"
    """`text`, `reasoning` or `refusal`."""
    offset: int = 0
    """Where `text` begins in the whole text."""
    start: int = 0
    """Where the step begins in `text`."""
    end: int
    """Where it ends: what is found counts where it begins inside the step."""
    final: bool = True
    """Nothing of this text comes after it."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How many characters before and after a step of a text the rules of phase chunk have to see."""

    behind: int
    ahead: int
    waits: bool
    """No character leaves before its step is judged; without, rules only look on."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that policy may know at one phase; rooms fill what the compiled rules reference, and nothing else."""

    at_ms: int
    caller: Caller
    request: Request
    session: Session
    headers: Headers = {}
    """Only the headers that config allows policy to see."""
    guards: Mapping[str, GuardResult] = {}
    spend: Spend = Spend()
    results: tuple[Result, ...] = ()
    """Every tool result of the request, in its order."""
    labels: tuple[str, ...] = ()
    """The conversation's labels: the session's, and those that rules have given in this call."""
    user: str = ""
    """Digest of whom the caller names as its user; empty where it names nobody."""
    totals: Mapping[str, int] = {}
    """`policy/name` of a total -> what this conversation has added to it, in billionths."""
    tool: ToolCall | None = None
    response: Reply | None = None
    result: Result | None = None
    chunk: Chunk | None = None
    candidates: tuple[Candidate, ...] = ()
    """Where the call can go (phase route)."""
    outcome: Outcome | None = None
    """What came of the call (phase post)."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A target as rules see it: what a million tokens cost there (None: not known), and how it does."""

    target: Target
    input_nanousd: int | None = None
    output_nanousd: int | None = None
    healthy: bool = True
    p50_ms: float | None = None
    """Median time to the first byte of its newest calls; None: none was made."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call, over all of its attempts."""

    usage: Usage
    nanousd: int | None
    status: int
    ttft_ms: float
    total_ms: float
    guard_ms: float


class RuleHit(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that matched or failed: the row of a decision that a person reads."""

    id: str
    """`policy/rule@version`."""
    action: Verdict
    mode: Mode
    severity: str = ""
    message: str = ""
    error: str = ""
    """Why its evaluation failed; empty when it matched."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route verdict sends a call: an alias or pool, or the cheapest capable target that has all `tags`."""

    to: str = ""
    cheapest: bool = False
    tags: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    """Aliases or pools to try next, in order."""
    rule: str = ""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of text to take out. `place` names the text: of a request the index of its message, `index.call` for
    the arguments of a call in it; of a reply `reasoning`, `refusal`, or empty for its text; of arguments the JSON
    pointer of a string; else it is empty."""

    rule: str
    kind: str
    how: How
    start: int
    end: int
    place: str = ""


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the place of a stretch of text."""

    start: int
    end: int
    text: str


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What an approval has to be like."""

    ttl_s: int = 900
    wait_s: int = 0
    """How long the call is held for it; 0 answers at once that it is pending."""
    group: str = ""
    """Who may approve, in the operator's own words."""


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a conversation goes, and how its agent learns of that."""

    queue: str = "default"
    by: HandoffBy = HandoffBy.WEBHOOK
    tool: str = ""
    """The agent's own hand-off tool: a glob over the tools that the request offers."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What policy said at one phase (POLICY.md §7)."""

    id: str
    phase: Phase
    verdict: Verdict
    shadow_verdict: Verdict = Verdict.ALLOW
    reason: str = ""
    """`rule`, `policy_error`, `budget`, `quota`, or empty for allow."""
    rules: tuple[RuleHit, ...] = ()
    message: str = ""
    """The safe text for the customer when the verdict denies, escalates or waits for approval."""
    rule: str = ""
    """Global id of the rule whose verdict won."""
    on_deny: OnDeny = OnDeny.REPLY
    way: Way | None = None
    """Where a route verdict sends the call."""
    strip: tuple[str, ...] = ()
    """Names of the tools to take out of the request."""
    annotations: Mapping[str, str] = {}
    labels: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    """What to take out; sorted, and none overlaps another."""
    approval: Approval | None = None
    held: str = ""
    """Id of the action at the desk that this call waited for."""
    escalation: Escalation | None = None
    rewrites: Mapping[str, Any] = {}
    """What is said in the place of what was: by setting of a request, argument of a tool call, or `text` of a reply.
    A record keeps the names alone."""
    obligations: tuple[Obligation, ...] = ()
    level: Level | None = None
    """What the agent is lowered to in this conversation."""
    subject: str = ""
    """What was judged: the tool call's id in phase tool_call, the result's call id in tool_result, in phase chunk the
    text, such as `0.reasoning`; else empty."""
    charges: tuple[Charge, ...] = ()
    """What the call adds to totals if it is let through."""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool call adds to one total of a policy, in billionths of whatever the total is about."""

    total: str
    """`policy/name`."""
    amount_nano: int
    limit: Limit
    told: tuple[str, str]
    """The counter of what its conversation adds to the total."""
    action: Verdict = Verdict.DENY
    """What becomes of the call where the total has no room."""
    mode: Mode = Mode.ENFORCE
    severity: str = ""
    approval: Approval | None = None
    returns: bool = False
    """A result that says that the call failed gives it back."""
