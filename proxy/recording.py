"""Owns the making of the one record of a call: a Draft that grows along the walk and closes into an Exchange.

In: what each stage produced. Out: Exchange and Settlements. Never: message text, headers or keys; only digests, names
and numbers are stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec.structs import replace

from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Decision,
    Exchange,
    GuardResult,
    Level,
    Outcome,
    Route,
    Session,
    Settlement,
    State,
    Usage,
    Verdict,
)

LONGEST_NAME = 256
"""Most characters kept of a name that a provider gave: records must not grow with what it sends."""
NOBODY = Caller(agent="", level=Level.ASSIST, principal="")
"""Who calls, as long as nothing is proved."""


class Draft:
    """The record of a call in the making; mutable, owned by one walk."""

    def __init__(self, exchange_id: str, endpoint: str, at_ms: int, began: float) -> None:
        self.id = exchange_id
        self.endpoint = endpoint
        self.at_ms = at_ms
        self.began = began
        self.caller = NOBODY
        self.session = Session(id="")
        self.customer = ""
        self.stream = False
        self.model_asked = ""
        self.route: Route | None = None
        self.attempts: list[Attempt] = []
        self.decisions: list[Decision] = []
        self.computed: Collection[str] = ()
        """The rules whose words are made of what was said."""
        self.texts: dict[str, Decision] = {}
        """What was said in phase chunk of each text of the newest attempt's reply."""
        self.guards: dict[str, GuardResult] = {}
        self.tool_calls: list[str] = []
        self.state = State.CLIENT_GONE
        self.status = 0
        self.error = ""
        self.finish_reason = ""
        self.model_served = ""
        self.input_digest = ""
        self.sent_digest = ""
        self.simulated = False
        self.trace: tuple[str, str, str] = ("", "", "")
        self.policy_digest = ""
        self.prices_digest = ""
        self.candidate: list[Decision] = []
        self.candidate_digest = ""
        self.replay_of = ""
        self.policy_ms = 0.0
        self.guard_ms = 0.0
        self.hold_ms = 0.0
        self.ttft_ms = 0.0

    def ends(self, state: State, status: int, error: str = "") -> None:
        """Set how the call ended; without this it counts as left by the client."""
        self.state, self.status, self.error = state, status, error

    def exchange(self, now: float, guards: Iterable[str] = ()) -> Exchange:
        """Return the record as it stands; guards that should have run and did not are named as such."""
        missing = [GuardResult(name=name, version="", ran=False) for name in guards if name not in self.guards]
        trace_id, span_id, parent = self.trace
        return Exchange(
            id=self.id,
            started_ms=self.at_ms,
            endpoint=self.endpoint,
            caller=self.caller,
            session=self.session,
            stream=self.stream,
            model_asked=self.model_asked,
            state=self.state,
            status=self.status,
            route=self.route,
            attempts=tuple(self.attempts),
            decisions=tuple(worded(one, self.computed) for one in (*self.decisions, *self.texts.values())),
            guards=(*self.guards.values(), *missing),
            tool_calls=tuple(name[:LONGEST_NAME] for name in self.tool_calls),
            finish_reason=self.finish_reason[:LONGEST_NAME],
            model_served=self.model_served[:LONGEST_NAME],
            cost=total(attempt.cost for attempt in self.attempts),
            error=self.error,
            ttft_ms=self.ttft_ms,
            total_ms=now - self.began,
            policy_ms=self.policy_ms,
            guard_ms=self.guard_ms,
            hold_ms=self.hold_ms,
            policy_digest=self.policy_digest,
            prices_digest=self.prices_digest,
            input_digest=self.input_digest,
            sent_digest=self.sent_digest,
            simulated=self.simulated,
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent,
            candidate=tuple(worded(decision, self.computed) for decision in self.candidate),
            candidate_digest=self.candidate_digest,
            replay_of=self.replay_of,
            customer=self.customer,
        )


def worded(decision: Decision, computed: Collection[str]) -> Decision:
    """Return a decision as records keep it: of what rules say in the place of what was the names, and no words that a
    rule computed, for these are made of what was said."""
    found = [hit for hit in decision.rules if hit.id in computed]
    if not found and not decision.rewrites and not decision.charges and len(decision.subject) <= LONGEST_NAME:
        return decision
    said = {hit.message for hit in found}
    return replace(
        decision,
        message="" if decision.message in said else decision.message,
        rules=tuple(replace(hit, message="") if hit in found else hit for hit in decision.rules),
        charges=tuple(replace(one, limit=replace(one.limit, message="")) for one in decision.charges),
        rewrites=dict.fromkeys(decision.rewrites),
        subject=decision.subject[:LONGEST_NAME],
    )


def total(costs: Iterable[Cost]) -> Cost:
    """Add up costs: one unknown makes the sum unknown, one estimate makes it an estimate; no cost at all is zero."""
    nanousd: int | None = 0
    estimated = False
    for cost in costs:
        estimated |= cost.estimated
        nanousd = None if nanousd is None or cost.nanousd is None else nanousd + cost.nanousd
    return Cost(nanousd=nanousd, estimated=estimated)


def changes(exchange: Exchange) -> Iterator[tuple[Decision, Decision]]:
    """Yield each decision that a candidate would have made otherwise, before and after; before is `allow` where no rule
    was asked."""
    made = {decision.id: decision for decision in exchange.decisions}
    for after in exchange.candidate:
        before = made.get(after.id) or Decision(id=after.id, phase=after.phase, verdict=Verdict.ALLOW)
        # What a human made of it is no rule's doing.
        yield replace(before, verdict=Verdict.REQUIRE_APPROVAL) if before.held else before, after


def outcome(exchange: Exchange) -> Outcome:
    """Return what came of a call, over all of its attempts."""
    used = [attempt.usage for attempt in exchange.attempts]
    return Outcome(
        usage=Usage(
            input_tokens=sum(usage.input_tokens for usage in used),
            output_tokens=sum(usage.output_tokens for usage in used),
            cache_read_tokens=sum(usage.cache_read_tokens for usage in used),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in used),
        ),
        nanousd=exchange.cost.nanousd,
        status=exchange.status,
        ttft_ms=exchange.ttft_ms,
        total_ms=exchange.total_ms,
        guard_ms=exchange.guard_ms,
    )


def settlements(attempts: Sequence[Attempt]) -> list[Settlement]:
    """Return what each attempt adds to the books; an unknown cost settles at what was held for it, never at zero."""
    return [
        Settlement(
            reservation_id=attempt.reservation_id,
            nanousd=attempt.held_nanousd if attempt.cost.nanousd is None else attempt.cost.nanousd,
            tokens=attempt.usage.input_tokens + attempt.usage.output_tokens,
            counters=attempt.counters,
        )
        for attempt in attempts
    ]


def digest(data: bytes) -> str:
    """Return the digest by which a body is named in records."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
