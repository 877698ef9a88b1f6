"""Owns the money side of one walk: quotes, holds, what each attempt cost, and its settlement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from msgspec.structs import replace

from proxy import accounting, recording
from proxy.errors import BudgetExceeded, Denied, NoRoute
from proxy.pipeline.fitting import ONE_CALL, Fitting
from proxy.pipeline.house import House
from proxy.policy import PolicySet
from proxy.snapshot import Price, Snapshot
from proxy.terms import (
    Attempt,
    Cost,
    Decision,
    End,
    Facts,
    Fault,
    Limit,
    Mode,
    OnDeny,
    Phase,
    Quote,
    Reply,
    Request,
    Reservation,
    RuleHit,
    Spend,
    State,
    Target,
    UpstreamCall,
    Usage,
    UsageSource,
    Verdict,
)

LIKELY_OUTPUT = 256
"""Output tokens that a reply is expected to have, where targets are compared by price."""
NOT_BILLED = frozenset({"connect_failed", "connect_timeout", "tls_failed", "dns_failed"})
"""Codes of faults that happened before the provider had the request."""
MILLION = 1_000_000
DEAR_TIERS = ("priority", "fast")
"""What a client can ask for that costs more. Of what costs less nobody knows beforehand whether it will be granted."""
FREE = Cost(nanousd=0)
UNBILLED = Usage(source=UsageSource.NONE)
CUT = End()
"""Policy has ended the reply: the provider has not failed."""
UNSEEN_TOKENS = 8
"""What a provider goes on to write of a choice after a reply is cut, before it notices: some tenths of a second."""


class Books:
    """The quotes, holds and costs of one walk, written into its draft."""

    def __init__(self, house: House, snapshot: Snapshot, draft: recording.Draft, body_bytes: int) -> None:
        self._house = house
        self._snapshot = snapshot
        self._draft = draft
        self._body_bytes = body_bytes
        self._prices: dict[str, Price | None] = {}
        self._quotes: dict[str, Quote] = {}
        self._mode = ""
        self._input_bound: int | None = None
        self.request: Request
        self.limits: tuple[Limit, ...] = ()
        """The spend limits that apply to this call."""
        self._also: dict[str, tuple[str, str]] = {}
        """What else it is counted under, since rules read that: its user's day, its tenant's."""

    # --- before -----------------------------------------------------------------------------------------------------

    def price(self, target: Target) -> Price | None:
        """Return the price of a target today."""
        if target.alias not in self._prices:
            self._prices[target.alias] = self._snapshot.price(target, self._draft.at_ms, self._mode)
        return self._prices[target.alias]

    def take(self, request: Request) -> None:
        """Take the request that is quoted from now on."""
        self.request = request
        tier = request.body.get("service_tier")
        self._mode = tier if tier in DEAR_TIERS else ""
        self._prices, self._quotes = {}, {}
        self._input_bound = accounting.input_bound(request)

    def rates(self, target: Target) -> tuple[int | None, int | None]:
        """Return what a million tokens cost at a target, into it and out of it; None where no price is known."""
        price = self.price(target)
        if price is None:
            return None, None
        into, out = Usage(input_tokens=MILLION), Usage(output_tokens=MILLION)
        return price.cost(into).nanousd, price.cost(out).nanousd

    def quote(self, target: Target) -> Quote:
        """Estimate what the call costs at a target, and the most it can cost (None: not known, or without a bound)."""
        quote = self._quotes.get(target.alias)
        if quote is None:
            quote = self._quotes[target.alias] = self._quoted(target)
        return quote

    def _quoted(self, target: Target) -> Quote:
        price = self.price(target)
        if price is None:
            return Quote(target=target, est_nanousd=None, max_nanousd=None)
        most = self.most_output(target)
        likely = Usage(input_tokens=self._body_bytes // 4, output_tokens=min(most, LIKELY_OUTPUT))
        bound = self._input_bound or target.context
        ceiling = price.ceiling(bound, most, self.request.choices) if bound else None
        return Quote(target=target, est_nanousd=price.cost(likely).nanousd, max_nanousd=ceiling)

    def most_output(self, target: Target) -> int:
        """Return the most tokens one choice of the reply can have."""
        return self.request.max_output_tokens or target.max_output or self._snapshot.limits.max_output_tokens

    def counters(self) -> list[tuple[str, str]]:
        """Return the (scope, window) pairs that the call is counted under: its conversation, its agent's day, and what
        rules read besides."""
        draft = self._draft
        of_conversation = f"conversation:{draft.session.id}", accounting.ENDLESS
        return [of_conversation, (f"agent:{draft.caller.agent}", self._day()), *self._also.values()]

    def _day(self) -> str:
        return accounting.window_key(accounting.Window.DAY, self._draft.at_ms)

    async def spend(self, asked: Target, policies: PolicySet, facts: Facts, read: Collection[str]) -> Spend:
        """Return the money facts for policy, as far as these fields of them are read."""
        scopes = {"user": f"user:{facts.user}" if facts.user else "", "tenant": f"tenant:{facts.caller.tenant}"}
        self._also = {name: (scope, self._day()) for name, scope in scopes.items() if scope and name in read}
        of_conversation, of_agent, *others = await self._house.budgets.totals(self.counters())
        quote = self.quote(asked)
        return Spend(
            est_nanousd=quote.est_nanousd,
            max_nanousd=quote.max_nanousd,
            conversation=of_conversation,
            agent=of_agent,
            **dict(zip(self._also, others, strict=True)),
            remaining_nanousd=await self._remaining(policies, facts) if "remaining_nanousd" in read else None,
        )

    async def _remaining(self, policies: PolicySet, facts: Facts) -> int | None:
        """Return what is left under the limit that has least room."""
        counted = [limit for limit in policies.limits(facts) if limit.scope != ONE_CALL]
        used = await self._house.budgets.totals([(limit.scope, limit.window) for limit in counted]) if counted else []
        room = [
            limit.cap_nanousd - totals.nanousd - totals.reserved_nanousd
            for limit, totals in zip(counted, used, strict=True)
        ]
        return min((max(0, left) for left in room), default=None)

    # --- one attempt ------------------------------------------------------------------------------------------------

    async def reserve(self, target: Target) -> None:
        """Hold money under every limit; `shortened` says for how many output tokens, where a limit made them fewer."""
        draft, number = self._draft, len(self._draft.attempts) + 1
        attempt = Attempt(
            number=number,
            reservation_id=f"{draft.id}:{number}",
            target=target,
            started_ms=self._house.clock.wall_ms(),
            held_nanousd=self._to_hold(target),
            # Until DISPATCHED is written this attempt has cost nothing and counts nowhere.
            state=State.FAULT,
            cost=FREE,
            error="not_sent",
        )
        draft.attempts.append(attempt)
        self._house.open_holds.add(attempt.reservation_id)
        if self.limits:
            draft.attempts[-1] = await self._held(attempt)

    @property
    def shortened(self) -> int:
        """Return the output tokens that the newest attempt may have, where limits left it fewer than it asked for."""
        return self._draft.attempts[-1].shortened

    async def dispatch(self, call: UpstreamCall) -> None:
        """Write the newest attempt as DISPATCHED; return only when a crash can lose neither it nor its hold."""
        draft, limits = self._draft, self.limits
        pairs = [*self.counters(), *((limit.scope, limit.window) for limit in limits if limit.scope != ONE_CALL)]
        counters = tuple(dict.fromkeys(pairs))
        attempt = replace(
            draft.attempts[-1], state=State.DISPATCHED, counters=counters, cost=Cost(nanousd=None), error=""
        )
        draft.sent_digest = draft.input_digest if call.body is self.request.raw else recording.digest(call.body)
        record = draft.exchange(self._house.clock.monotonic_ms())
        sent = (*draft.attempts[:-1], attempt)
        await self._house.records.dispatch(replace(record, state=State.DISPATCHED, attempts=sent))
        draft.attempts[-1] = attempt

    def _to_hold(self, target: Target) -> int:
        """Return what must be held; raise NoRoute where a call may cost more than anybody can tell."""
        if self.price(target) is None and (self.limits or self._snapshot.unknown_price == "deny"):
            name = f"{target.provider}/{target.model}"
            raise NoRoute(f"No price is known for {name}: set `prices` or `unknown_price`.", code="price_unknown")
        if not self.limits:
            return 0
        return self._ceiling(target, self.most_output(target))

    def _ceiling(self, target: Target, tokens: int) -> int:
        """Return the most that the call can cost with so many output tokens; raise NoRoute where that has no bound."""
        price, bound = self.price(target), self._input_bound or target.context
        ceiling = price.ceiling(bound, tokens, self.request.choices) if price and bound else None
        if ceiling is None:
            name = f"{target.provider}/{target.model}"
            raise NoRoute(f"What this call may cost at {name} has no bound: set its `context`.", code="cost_unbounded")
        return ceiling

    async def _held(self, attempt: Attempt) -> Attempt:
        most = self.most_output(attempt.target)
        reservation = Reservation(
            id=attempt.reservation_id,
            amount_nanousd=attempt.held_nanousd,
            limits=self.limits,
            expires_ms=attempt.started_ms + int(self._snapshot.limits.lease_s * 1000),
        )
        ceiling = partial(self._ceiling, attempt.target)
        try:
            tokens = await Fitting(self._house, self.limits, ceiling, most, reservation).hold(attempt.started_ms)
        except BudgetExceeded as error:
            self._draft.attempts.pop()
            self._house.open_holds.discard(attempt.reservation_id)
            self._refused(next(limit for limit in self.limits if limit.rule == error.rule), error)
            raise
        if tokens == most:
            return attempt
        return replace(attempt, held_nanousd=ceiling(tokens), shortened=tokens)

    def _refused(self, limit: Limit, error: BudgetExceeded) -> None:
        decision = Decision(
            id=f"{self._draft.id}-budget",
            phase=Phase.REQUEST,
            verdict=Verdict.DENY,
            reason="budget",
            rules=(RuleHit(id=limit.rule, action=Verdict.DENY, mode=Mode.ENFORCE, message=error.message),),
            message=limit.message or error.message,
            rule=limit.rule,
            on_deny=limit.on_deny,
        )
        self._draft.decisions.append(decision)
        if limit.on_deny is OnDeny.REPLY:
            raise Denied(decision) from error

    def close(self, end: End | Fault, usage: Usage | None, replies: Callable[[], Sequence[Reply]]) -> None:
        """Write into the newest attempt how it ended and what it cost; without usage that is told from the replies."""
        draft, attempt = self._draft, self._draft.attempts[-1]
        usage = self._used(end, usage, replies)
        price = self.price(attempt.target)
        cost = FREE if usage is UNBILLED else price.cost(usage) if price else Cost(nanousd=None)
        status, error = (200, "") if isinstance(end, End) else (end.status, end.code)
        draft.attempts[-1] = replace(
            attempt,
            state=State.FAULT if error else State.COMPLETE,
            usage=usage,
            cost=cost,
            status=status,
            error=error,
            ttft_ms=draft.ttft_ms,
            total_ms=self._house.clock.wall_ms() - attempt.started_ms,
        )
        if error != "abandoned":
            self._tell_health(attempt.target, end)

    def _tell_health(self, target: Target, end: End | Fault) -> None:
        house, before = self._house, self._draft.attempts[:-1]
        well = isinstance(end, End) or not end.retryable
        if isinstance(end, End):
            house.health.timed(target.alias, self._draft.ttft_ms)
        if well:
            house.retries.went_well(target.provider, retry=bool(before and before[-1].error))
        house.health.note(target.alias, well, house.clock.monotonic_ms())

    def _used(self, end: End | Fault, usage: Usage | None, heard: Callable[[], Sequence[Reply]]) -> Usage:
        """Return what an attempt used: what its provider says of a whole reply, zero included, else no less than what
        was seen. A call that may have reached the provider is never taken to be free."""
        if usage is UNBILLED or (isinstance(end, Fault) and end.code in NOT_BILLED):
            return UNBILLED
        whole = isinstance(end, End) and end is not CUT
        if usage and whole and usage.doubt in ("", "zero"):
            return usage
        replies = heard()
        finished = sum(1 for reply in replies if reply.finish_reason)
        going_on = 0 if whole else max(self.request.choices, len(replies)) - finished
        if usage and not going_on and not usage.doubt:
            return usage
        return _at_least(usage, self._estimate(replies, going_on), going_on)

    def _estimate(self, replies: Sequence[Reply], going_on: int) -> Usage:
        sent, exact = accounting.asked_tokens(
            self.request, self._draft.attempts[-1].target.model, self._house.estimator.count
        )
        got, exact_too = accounting.said_tokens(replies, self._house.estimator.count)
        source = UsageSource.TOKENIZER if exact and exact_too else UsageSource.BYTES
        return Usage(input_tokens=sent, output_tokens=got + UNSEEN_TOKENS * going_on, source=source)

    # --- after ------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Queue the settlement of every attempt; an unknown cost settles at what was held for it."""
        at_ms = self._house.clock.wall_ms()
        for settlement in recording.settlements(self._draft.attempts):
            self._house.budgets.settle(settlement, at_ms)
            self._house.open_holds.discard(settlement.reservation_id)


def _at_least(said: Usage | None, counted: Usage, going_on: int) -> Usage:
    """Return what a provider said, its counts of nothing replaced by our own; of a cut reply no less than was seen."""
    if not said:
        return counted
    sent, got = said.input_tokens or counted.input_tokens, said.output_tokens or counted.output_tokens
    return replace(
        said,
        input_tokens=sent,
        output_tokens=max(got, counted.output_tokens) if going_on else got,
        source=UsageSource.PARTIAL,
    )
