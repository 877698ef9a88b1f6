"""Owns the nouns: the frozen values that every room passes to the next.

In: nothing of ours. Out: values. Never: behaviour beyond reading one's own fields.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    # A decoder of nouns takes no alias that names itself.
    Json = Any
"""One JSON value, as decoded: an opaque tree outside `wire`, `providers` and `config`."""

Headers: TypeAlias = Mapping[str, str]
"""HTTP headers with lower-cased names, one value each."""


class Level(enum.StrEnum):
    """How much an agent may do on its own (POLICY.md, Maturity)."""

    ASSIST = "assist"
    EXECUTE = "execute"
    OPERATE = "operate"

    @property
    def rank(self) -> int:
        """Order the levels: 1 is assist, 3 is operate."""
        return _RANKS[self]


class Phase(enum.StrEnum):
    """A point of the walk at which policy is asked."""

    REQUEST = "request"
    TOOL_RESULT = "tool_result"
    ROUTE = "route"
    CHUNK = "chunk"
    TOOL_CALL = "tool_call"
    RESPONSE = "response"
    POST = "post"


class Verdict(enum.StrEnum):
    """What a rule wants done, least restrictive first."""

    ALLOW = "allow"
    RECORD = "record"
    LABEL = "label"
    ANNOTATE = "annotate"
    ALERT = "alert"
    LEVEL = "level"
    ROUTE = "route"
    STRIP_TOOLS = "strip_tools"
    REDACT = "redact"
    REWRITE = "rewrite"
    REPLACE = "replace"
    REQUIRE_APPROVAL = "require_approval"
    ESCALATE = "escalate"
    DENY = "deny"

    @property
    def weight(self) -> int:
        """Order the verdicts: the heaviest of all matched rules wins."""
        return _WEIGHTS[self]


_RANKS = {level: rank for rank, level in enumerate(Level, 1)}
_WEIGHTS = {verdict: weight for weight, verdict in enumerate(Verdict)}


class Mode(enum.StrEnum):
    """Whether a rule acts, only records what it would have done, or is skipped."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class OnDeny(enum.StrEnum):
    """How a denial looks to the agent: a well-formed reply, an OpenAI error object, or, of a tool call, not at all: the
    model is told why, and what it says then is the reply."""

    REPLY = "reply"
    ERROR = "error"
    EXPLAIN = "explain"


class OnDisconnect(enum.StrEnum):
    """What becomes of a streamed reply whose client has left: it is read on, so that its cost is known, or ended."""

    DRAIN = "drain"
    ABORT = "abort"


class Obligation(enum.StrEnum):
    """What else has to happen where a rule matched: its facts are kept, or somebody is told."""

    RECORD = "record"
    ALERT = "alert"


class How(enum.StrEnum):
    """What a redaction puts in the place of what it takes out: a label, a keyed digest, a placeholder that is put back
    in the reply, or nothing."""

    MASK = "mask"
    HASH = "hash"
    TOKENIZE = "tokenize"
    OMIT = "omit"


class HandoffBy(enum.StrEnum):
    """How the agent learns that a human takes over: by its own hand-off tool, by a response header, or not at all."""

    TOOL = "tool"
    HEADER = "header"
    WEBHOOK = "webhook"


class UsageSource(enum.StrEnum):
    """Where token counts come from, most trusted first."""

    PROVIDER = "provider"
    PARTIAL = "partial"
    """In part what the provider said, in part what was counted here: the reply was cut, or a count cannot be right."""
    TOKENIZER = "tokenizer"
    BYTES = "bytes"
    BOUND = "bound"
    NONE = "none"


class State(enum.StrEnum):
    """How far an exchange or an attempt has come."""

    DISPATCHED = "dispatched"
    COMPLETE = "complete"
    DENIED = "denied"
    FAULT = "fault"
    CLIENT_GONE = "client_gone"
    RECOVERED = "recovered"


class Secret:
    """Hold a credential that cannot be printed, pickled or encoded by accident; `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the credential; only the upstream door calls this."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


# --- who asks, and what ---------------------------------------------------------------------------------------------


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as the street door hands it in: body read whole and within limits, nothing decoded."""

    method: str
    path: str
    headers: Headers
    body: bytes
    peer: str
    endpoint: str = ""
    """Its name in the route table."""
    uid: int | None = None
    """The user at the other end of a Unix socket, as the kernel says; None on any other connection."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling. `agent` and `level` come from config; `principal` is what authentication proved."""

    agent: str
    level: Level
    principal: str
    tenant: str = ""
    claims: Mapping[str, str] = {}
    """What config says of whom was proven, such as `tier` and `roles` (separated by commas)."""
    models: tuple[str, ...] = ()
    """The names that it may ask for; empty: all."""


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the request offers to the model; `schema` is its JSON Schema for arguments, as sent."""

    name: str
    schema: Json = None
    description: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool by the model; `arguments` is the raw JSON text, exactly as received."""

    id: str
    name: str
    arguments: str
    index: int = 0
    choice: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the history; `text` joins all its text parts with newlines."""

    role: str
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    media: tuple[str, ...] = ()
    """Kinds of the parts that are not text, e.g. `image_url`, `input_audio`, `file`."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded model call: a typed lens over `body`, which is the whole JSON tree and exactly what `raw` says."""

    dialect: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    stream: bool = False
    usage_asked: bool = False
    """The client itself asked for usage in the stream."""
    max_output_tokens: int | None = None
    choices: int = 1
    temperature: float | None = None
    structured: bool = False
    """The client asked for JSON by schema or JSON mode."""
    metadata: Mapping[str, str] = {}
    user: str = ""
    previous: str = ""
    """The provider's name of the reply that it goes on from, whose history it does not bring along."""
    body: dict[str, Json]
    raw: bytes
    """The client's own bytes; empty as soon as anything in `body` was changed, so they can never be sent by mistake."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation that a call belongs to."""

    id: str
    turn: int = 1
    """1 for the first call of the conversation."""
    link: str = "new"
    """How it was found: `header`, `metadata`, `previous` (a reply that the call names), `prefix` (all of its history),
    `trace` (less), `key` (less, and the `prompt_cache_key`), or `new`."""
    issued: tuple[Issued, ...] = ()
    """The newest tool calls that Handrail let through, oldest first."""
    tools: Mapping[str, str] = {}
    """Digests of the definitions that tools were first offered with, if some rule asks for changes."""
    labels: tuple[str, ...] = ()
    """What rules have labelled it with, each once."""
    escalation: str = ""
    """Id of the open escalation: a human owns this conversation."""
    level: Level | None = None
    """What rules have lowered the agent to in this conversation."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a conversation was after one of its calls."""

    session_id: str
    turn: int


class Stand(Place, frozen=True, kw_only=True):
    """Where a call leaves its conversation, by digests of what the next call will show of it."""

    user: str = ""
    """Digest of whom the call named as its user."""
    end: str = ""
    """Digest of all there is; empty: it stands nowhere yet."""
    marks: tuple[str, ...] = ()
    """Digests of less, by which it can be told as long as no other conversation has left them."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call that Handrail let through."""

    id: str
    tool: str
    at_ms: int
    booked: tuple[Booked, ...] = ()
    """What it added to totals, as far as its result may take that back."""


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call added to a total, until its result is known."""

    id: str
    """Of the reservation."""
    total: str
    amount_nano: int
    counters: tuple[tuple[str, str], ...]


# --- guards and policy ----------------------------------------------------------------------------------------------


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


# --- money and routing ----------------------------------------------------------------------------------------------


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one attempt. `input_tokens` includes cached, cache-write and audio input;
    `output_tokens` includes reasoning and audio output (the OpenAI convention)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    source: UsageSource = UsageSource.PROVIDER
    doubt: str = ""
    """Why what the provider said cannot be right: `negative`, `huge`, `no_number`, `missing`, or `zero`, which is taken
    at its word all the same."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one attempt in nano-dollars, rounded up; None means that no price is known, which is never zero."""

    nanousd: int | None
    price: str = ""
    """Which price row was used, e.g. `openai/gpt-5-mini@2026-01-01`, `override`, `ceiling`; empty when unknown."""
    estimated: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A place to send a call: one model at one provider."""

    alias: str
    provider: str
    model: str
    tags: tuple[str, ...] = ()
    context: int = 0
    """Context window in tokens; 0 means not known."""
    max_output: int = 0
    """Most output tokens the model can give; 0 means not known."""


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What a call would cost at a target: expected and at most, None when no price is known."""

    target: Target
    est_nanousd: int | None
    max_nanousd: int | None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Targets in the order in which they are tried, and why."""

    targets: tuple[Target, ...]
    reason: str
    asked: str = ""
    """The alias the client asked for."""
    saved_nanousd: int = 0
    """Expected saving of the first target against the one asked for."""


# --- humans -----------------------------------------------------------------------------------------------------------


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


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A spend limit that applies to one call: counters are kept under (`scope`, `window`)."""

    rule: str
    scope: str
    window: str
    cap_nanousd: int
    message: str = ""
    on_deny: OnDeny = OnDeny.ERROR
    fit: Fit | None = None
    """None: a call that has no room is refused."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a call that a limit has no room for as it was asked."""

    least_tokens: int = 0
    """It is sent if there is room for so many tokens of output, and limited to what there is; 0: for all or nothing."""
    wait_s: int = 0
    """How long it waits for others to give back what they hold."""


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


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A hold on every limit that applies to one attempt, all or nothing."""

    id: str
    """`exchange_id:attempt`."""
    amount_nanousd: int
    limits: tuple[Limit, ...]
    expires_ms: int
    booked: bool = False
    """It counts as used at once, whatever becomes of its process; a settlement with nothing used gives it back, and
    one that names no counters lets it be."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt in the books: releases the hold and adds what was used to `counters`."""

    reservation_id: str
    nanousd: int
    tokens: int
    counters: tuple[tuple[str, str], ...]
    """(scope, window) pairs to add to."""


# --- the reply ------------------------------------------------------------------------------------------------------


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one configured provider is reached."""

    name: str
    base_url: str
    key: Secret | None = None
    headers: Headers = {}
    """Extra headers, sent with every call."""
    options: Any = None
    """What only this dialect has: the `Options` of its file; None where that has none."""
    drop: bool = False
    """Leave out, by name, what the provider cannot express; else it is refused."""


class UpstreamCall(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request to a provider. The credential stays in a Secret until the socket."""

    method: str
    url: str
    headers: Headers
    body: bytes
    auth_header: str = "authorization"
    auth: Secret | None = None
    """Full header value, e.g. `Bearer …`."""
    dropped: tuple[str, ...] = ()
    """Fields of the request that the provider cannot express, and that were left out."""


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call: `id` and `name` come once, `arguments` in any number of pieces."""

    index: int
    """Which call of the choice; -1 is the one legacy `function_call`, which has no number."""
    id: str = ""
    name: str = ""
    arguments: str = ""
    position: int = 0
    """Its place in this event's own list, by which `wire` finds it again in the tree."""


class ChoiceDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What one event adds to one choice."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Start of a reply: HTTP status and headers."""

    status: int
    headers: Headers = {}


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a reply (an unstreamed reply is one event). `frame` is its bytes as they will leave;
    empty `frame` means it was changed and `wire` encodes it anew from `tree` and `choices`."""

    frame: bytes
    tree: dict[str, Json] | None = None
    choices: tuple[ChoiceDelta, ...] = ()
    usage: Usage | None = None
    usage_only: bool = False
    """The event carries usage and nothing else: hidden from a client that did not ask for it."""
    model: str = ""
    reply_id: str = ""
    """The provider's own name of the reply, where a later call may go on from it by that."""
    final: bool = False
    """The provider's own end marker (`[DONE]`)."""
    clear: bool = True
    """Every client reads in it what we do. What is not clear may leave only where no rule judges replies."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The reply ended as its protocol says."""

    frame: bytes = b""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The reply failed. Before any Delta another target may be tried if `retryable`; after one, it is the end."""

    status: int
    type: str
    code: str
    message: str
    retryable: bool = False
    headers: Headers = {}
    """Headers to pass on, such as `retry-after`."""
    body: bytes = b""
    """The provider's own error body, passed on unchanged where it is an OpenAI error object."""
    frame: bytes = b""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of a reply put together from its deltas, as policy sees it."""

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    model: str = ""


# --- the record -----------------------------------------------------------------------------------------------------


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


# --- tiers ----------------------------------------------------------------------------------------------------------


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
