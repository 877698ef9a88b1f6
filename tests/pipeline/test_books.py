"""Owns the proof of proxy/pipeline/books.py: quotes, holds, costs and settlements beyond the walks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.accounting import ENDLESS, asked_tokens
from proxy.pipeline.books import UNSEEN_TOKENS
from proxy.stores.memory import MemoryStore
from proxy.terms import Head, RawRequest, Reservation, Settlement, State, Totals, UpstreamCall, UsageSource
from proxy.wire.chat import decode
from tests.fakes import ByteEstimator, FakeClock, Script, ScriptedReply, ScriptedUpstream
from tests.pipeline.calls import HEAD, HELLO, STOP, STREAM, USAGE, event
from tests.walking import CONFIG, Walked, compiled

ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 100}
REPLY = (
    b'{"id":"c","model":"large","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5}}'
)
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  spend: [SPEND]
"""


async def walked(tmp_path: Path, spend: str, *scripts: Script, text: str = CONFIG) -> Walked:
    """Make a house with one spend limit."""
    snapshot = await asyncio.to_thread(compiled, text, POLICY.replace("SPEND", spend), tmp_path)
    return Walked(*scripts, snapshot=snapshot)


def status(head: Head | None) -> int:
    """Return a reply's status."""
    return head.status if head else 0


@pytest.mark.parametrize(
    ("limit", "expected"), [pytest.param("0.0005", 429, id="too dear"), pytest.param("0.01", 200, id="within")]
)
async def test_a_limit_on_one_call_is_held_against_its_ceiling(limit: str, expected: int, tmp_path: Path) -> None:
    """Scope `request` compares the most that the call can cost with the limit, and keeps no counter."""
    house = await walked(tmp_path, f"{{id: one, scope: request, limitUSD: {limit}}}", Script(chunks=(REPLY,)))

    outcome = await house.call(ASK)

    (exchange,) = house.seen
    assert expected == status(outcome.head)
    assert all(not scope.startswith("request") for attempt in exchange.attempts for scope, _ in attempt.counters)


async def test_a_call_is_sent_as_short_as_it_was_held_for(tmp_path: Path) -> None:
    """Where a limit has room for a part of the reply, the provider is told to stop there, and no more is held."""
    spend = "{id: day, scope: agent, window: day, limitUSD: 0.0005, fit: {leastTokens: 1}}"
    house = await walked(tmp_path, spend, Script(chunks=(REPLY,)))

    outcome = await house.call(ASK)

    [attempt] = house.seen[0].attempts
    [sent] = house.upstream.sent
    assert 200 == status(outcome.head)
    assert 0 < attempt.shortened < 100
    assert attempt.shortened == json.loads(sent.body)["max_completion_tokens"]
    assert 490_000 < attempt.held_nanousd <= 500_000


async def test_what_was_held_is_given_back(tmp_path: Path) -> None:
    """After the call the counters hold what it cost, and nothing stays reserved."""
    house = await walked(tmp_path, "{id: c, scope: conversation, limitUSD: 1}", Script(chunks=(REPLY,)))
    await house.call(ASK, headers={"x-handrail-session": "s"})
    (exchange,) = house.seen

    (total,) = await house.store.totals([(f"conversation:{exchange.session.id}", ENDLESS)])

    assert (70_000, 0, 15, 1) == (total.nanousd, total.reserved_nanousd, total.tokens, total.calls)
    assert exchange.attempts[0].held_nanousd > 70_000


async def test_spend_is_a_fact_for_policy(tmp_path: Path) -> None:
    """A rule reads the ceiling of this call and what the conversation has spent before."""
    rules = """
  rules:
    - id: est
      phase: request
      when: spend.request.max_usd > 0.001 && spend.request.est_usd > 0.0
      action: annotate
      annotations: {dear: "yes"}
    - {id: spent, phase: request, when: 'spend.conversation.calls > 0', action: deny, message: again}
"""
    policy = POLICY.replace("  spend: [SPEND]\n", "") + rules.removeprefix("\n")
    snapshot = await asyncio.to_thread(compiled, CONFIG, policy, tmp_path)
    house = Walked(Script(chunks=(REPLY,)), snapshot=snapshot)
    for _ in range(2):
        await house.call(ASK, headers={"x-handrail-session": "s"})

    first, second = house.seen
    assert ({"dear": "yes"}, State.COMPLETE, State.DENIED) == (
        dict(first.decisions[0].annotations), first.state, second.state,
    )  # fmt: skip


async def test_a_call_without_a_bound_is_not_held_for(tmp_path: Path) -> None:
    """Where input has no bound and no context is known, a spend limit cannot be kept, so the call is refused."""
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    body = {**ASK, "messages": [{"role": "user", "content": [audio]}]}
    house = await walked(tmp_path, "{id: c, scope: conversation, limitUSD: 1}")

    outcome = await house.call(body)

    assert (503, "cost_unbounded") == (status(outcome.head), house.seen[0].error)


async def test_an_unknown_price_cannot_be_held_for(tmp_path: Path) -> None:
    """Even under `unknown_price: mark` a call without a price is refused where a spend limit applies."""
    text = CONFIG + "unknown_price: mark\n"
    house = await walked(tmp_path, "{id: c, scope: conversation, limitUSD: 1}", text=text)

    outcome = await house.call({**ASK, "model": "nobody-knows"})

    assert (503, "price_unknown") == (status(outcome.head), house.seen[0].error)


async def test_spend_facts_without_a_price_are_missing(tmp_path: Path) -> None:
    """What nobody knows the price of has no estimate: reading it fails, and the rule's onError says what follows."""
    rules = "  rules: [{id: r, phase: request, when: spend.request.est_usd > 1.0, action: deny}]\n"
    policy = POLICY.replace("  spend: [SPEND]\n", rules)
    snapshot = await asyncio.to_thread(compiled, CONFIG, policy, tmp_path)
    house = Walked(snapshot=snapshot)

    await house.call({**ASK, "model": "nobody-knows"})

    assert ("policy_error", State.DENIED) == (house.seen[0].decisions[0].reason, house.seen[0].state)


async def test_a_limit_can_speak_to_the_customer(tmp_path: Path) -> None:
    """With `onDeny: reply` a limit without room is answered by its message instead of a 429."""
    spend = "{id: c, scope: conversation, limitUSD: 0.0001, onDeny: reply, message: Enough for today.}"
    house = await walked(tmp_path, spend)

    outcome = await house.call(ASK)

    assert (200, True) == (status(outcome.head), b"Enough for today." in outcome.body)
    assert ("budget", 0) == (house.seen[0].decisions[0].reason, len(house.seen[0].attempts))


async def test_a_timeout_before_the_head_is_not_taken_to_be_free() -> None:
    """The provider may have worked on what it did not answer in time: it is booked by an estimate."""
    house = Walked(Script(refuse="first_byte_timeout"))

    await house.call(ASK)

    (attempt,) = house.seen[0].attempts
    assert (UsageSource.BYTES, True) == (attempt.usage.source, attempt.cost.estimated)
    assert (attempt.cost.nanousd or 0) > 0


async def test_a_faulty_target_rests_and_the_next_takes_over() -> None:
    """After five faults in a row a target is passed by, and the record says why."""
    busy = [Script(refuse="connect_failed") for _ in range(5)]
    house = Walked(*(script for one in busy for script in (one, Script(chunks=(REPLY,)))), Script(chunks=(REPLY,)))
    for _ in range(6):
        await house.call({**ASK, "model": "both"})

    route = house.seen[-1].route
    assert route
    assert ("asked; large is unhealthy", "small") == (route.reason, route.targets[0].alias)


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        pytest.param("priority", 2, id="dearer"),
        pytest.param("flex", 1, id="cheaper, if it is granted"),
        pytest.param(["priority"], 1, id="no tier at all"),
    ],
)
async def test_a_dear_service_tier_is_booked_at_its_price(tier: object, expected: int) -> None:
    """What a client asks for as dearer is quoted and booked as such; what may be cheaper is not."""
    scripts = [Script(chunks=(REPLY,))] * 2
    text = """
agent: {id: support, level: execute}
providers: {openai: {dialect: openai, base_url: "https://api.openai.com/v1"}}
models: {large: {provider: openai, model: gpt-5}}
"""
    house = Walked(*scripts, snapshot=await asyncio.to_thread(compiled, text))
    house.clock.at_ms = 1_798_761_600_000
    await house.call(ASK)
    await house.call({**ASK, "service_tier": tier})

    plain, tiered = (exchange.cost.nanousd or 0 for exchange in house.seen)
    assert plain > 0
    assert expected * plain == tiered


async def test_an_estimate_counts_all_that_was_sent() -> None:
    """A call without a provider's usage is booked with its tools and the calls of its history."""
    called = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "y" * 4000}}]}
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 4000}}]
    house = Walked(Script(chunks=(REPLY.partition(b',"usage"')[0] + b"}",)))

    await house.call({**ASK, "messages": [*ASK["messages"], called], "tools": tools})

    assert 2000 < house.seen[0].attempts[0].usage.input_tokens < 2100


def using(**usage: object) -> Script:
    """Script a whole reply of one word with this usage."""
    return Script(chunks=(REPLY.partition(b'"usage"')[0] + b'"usage":' + json.dumps(usage).encode() + b"}",))


RAW = RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=json.dumps(ASK).encode(), peer="")
COUNTED = asked_tokens(decode(RAW), "large", ByteEstimator().count)[0]
"""What the request comes to without a provider's word."""


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        pytest.param(10, 5, (10, 5, UsageSource.PROVIDER, ""), id="as it should be"),
        pytest.param(0, 0, (0, 0, UsageSource.PROVIDER, "zero"), id="explicit zeros"),
        pytest.param(0, 5, (0, 5, UsageSource.PROVIDER, ""), id="an explicit zero"),
        pytest.param(-9, 5, (COUNTED, 5, UsageSource.PARTIAL, "negative"), id="negative input"),
        pytest.param(10, -9, (10, 1, UsageSource.PARTIAL, "negative"), id="negative output"),
        pytest.param(10**12, 5, (COUNTED, 5, UsageSource.PARTIAL, "huge"), id="huge input"),
        pytest.param(10, 10**12, (10, 1, UsageSource.PARTIAL, "huge"), id="huge output"),
        pytest.param("ten", 5, (COUNTED, 5, UsageSource.PARTIAL, "no_number"), id="a word"),
        pytest.param("10", "5", (10, 5, UsageSource.PROVIDER, ""), id="digits"),
        pytest.param(None, 5, (COUNTED, 5, UsageSource.PARTIAL, "missing"), id="null"),
    ],
)
async def test_what_a_provider_says_of_its_usage(
    prompt: object, completion: object, expected: tuple[int, int, UsageSource, str]
) -> None:
    """A whole reply's usage is believed, zero included; a count that cannot be one is replaced, on record."""
    house = Walked(using(prompt_tokens=prompt, completion_tokens=completion))

    await house.call(ASK)

    (attempt,) = house.seen[0].attempts
    used = attempt.usage
    assert expected == (used.input_tokens, used.output_tokens, used.source, used.doubt)
    assert (attempt.cost.nanousd, attempt.cost.estimated) == (
        2000 * used.input_tokens + 10_000 * used.output_tokens,
        used.source is not UsageSource.PROVIDER,
    )


def so_far(sent: int, got: int) -> bytes:
    """Make an event in which a provider says what was used so far."""
    tree = {"choices": [], "usage": {"prompt_tokens": sent, "completion_tokens": got}}
    return b"data: " + json.dumps(tree).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param((), (COUNTED, UNSEEN_TOKENS, UsageSource.BYTES), id="nothing seen"),
        pytest.param((HELLO,), (COUNTED, 2 + UNSEEN_TOKENS, UsageSource.BYTES), id="a word"),
        pytest.param((HELLO, STOP), (COUNTED, 2, UsageSource.BYTES), id="no usage yet, but finished"),
        pytest.param((HELLO, so_far(9, 20)), (9, 20, UsageSource.PARTIAL), id="the provider has seen more"),
        pytest.param((so_far(9, 1), HELLO), (9, 2 + UNSEEN_TOKENS, UsageSource.PARTIAL), id="we have seen more"),
        pytest.param(
            (so_far(0, 0), HELLO), (COUNTED, 2 + UNSEEN_TOKENS, UsageSource.PARTIAL), id="zero until it knows"
        ),
        pytest.param((HELLO, STOP, USAGE), (10, 5, UsageSource.PROVIDER), id="cut after its usage"),
        pytest.param(
            (so_far(0, 0), HELLO, STOP, USAGE, so_far(0, 0)), (10, 5, UsageSource.PROVIDER), id="zero after it"
        ),
    ],
)
async def test_a_cut_reply_is_billed_by_what_was_seen(
    chunks: tuple[bytes, ...], expected: tuple[int, int, UsageSource]
) -> None:
    """Of a reply that breaks off the provider's word counts as far as it goes, and never less than what was seen."""
    house = Walked(Script(headers=HEAD, chunks=chunks, fail="stream_cut", retryable=False))

    await house.call(STREAM)

    used = house.seen[0].attempts[0].usage
    assert expected == (used.input_tokens, used.output_tokens, used.source)


async def test_what_policy_cuts_is_billed_by_what_was_seen(tmp_path: Path) -> None:
    """A reply that a rule ends is not whole: the provider goes on for a moment after the connection is closed."""
    rules = "  rules: [{id: r, phase: chunk, when: 'chunk.text.contains(\"Hello\")', action: deny, message: No.}]\n"
    policy = POLICY.replace("  spend: [SPEND]\n", rules)
    snapshot = await asyncio.to_thread(compiled, CONFIG, policy, tmp_path)
    house = Walked(Script(headers=HEAD, chunks=(event("Hello " * 50), event("x"), STOP, USAGE)), snapshot=snapshot)

    await house.call(STREAM)

    used = house.seen[0].attempts[0].usage
    assert (State.DENIED, UsageSource.BYTES) == (house.seen[0].state, used.source)
    assert 75 + UNSEEN_TOKENS <= used.output_tokens


class Ledger:
    """Books that remember what was held and settled, in order."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.held: list[str] = []
        self.settled: list[Settlement] = []

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold."""
        self.held.append(reservation.id)
        await self.store.reserve(reservation, at_ms)

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Settle."""
        self.settled.append(settlement)
        self.store.settle(settlement, at_ms)

    async def totals(self, counters: Sequence[tuple[str, str]]) -> list[Totals]:
        """Add up."""
        return await self.store.totals(counters)


CALLS = [{"id": "c1", "type": "function", "function": {"name": "refund", "arguments": "{}"}}]
CALLING = {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": CALLS}}
ASKS = Script(
    chunks=(
        json.dumps({"id": "c", "choices": [CALLING], "usage": {"prompt_tokens": 20, "completion_tokens": 9}}).encode(),
    )
)
EXPLAINS = """{id: a, scope: agent, window: day, limitUSD: 1}]
  actions: [{id: no, tools: [refund], when: "true", onDeny: explain, message: No.}"""
TOOL = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("scripts", "nanousd"),
    [
        pytest.param((Script(status=500, chunks=(b"{}",)), Script(chunks=(REPLY,))), [0, 20_000], id="a fallback"),
        pytest.param((Script(refuse="first_byte_timeout"), Script(chunks=(REPLY,))), [None, 20_000], id="a late one"),
        pytest.param((ASKS, Script(chunks=(REPLY,))), [130_000, 70_000], id="a continuation"),
    ],
)
async def test_every_attempt_is_held_and_settled_by_itself(
    scripts: tuple[Script, ...], nanousd: list[int | None], tmp_path: Path
) -> None:
    """What is sent again, to the next target or after an explanation, is paid for again: with its own hold and bill."""
    house = await walked(tmp_path, EXPLAINS, *scripts)
    house.house.budgets = ledger = Ledger(house.store)

    await house.call({**ASK, "model": "both", "tools": [TOOL]})

    (exchange,) = house.seen
    names = [f"{exchange.id}:{number}" for number in (1, 2)]
    costs = [attempt.cost.nanousd for attempt in exchange.attempts]
    assert (names, names) == (ledger.held, [settlement.reservation_id for settlement in ledger.settled])
    assert [cost if known is None else known for known, cost in zip(nanousd, costs, strict=True)] == costs
    assert all(cost is not None and cost > 0 for known, cost in zip(nanousd, costs, strict=True) if known is None)
    (total,) = await house.store.totals([("agent:support", "day:2026-01-01")])
    assert (sum(filter(None, costs)), 0, 2) == (total.nanousd, total.reserved_nanousd, total.calls)


class Overnight(ScriptedUpstream):
    """Answers on the next day."""

    def __init__(self, clock: FakeClock, *scripts: Script) -> None:
        super().__init__(*scripts)
        self._clock = clock

    @asynccontextmanager
    async def send(self, call: UpstreamCall) -> AsyncIterator[ScriptedReply]:
        """Take a day."""
        self._clock.at_ms += 24 * 3600 * 1000
        async with super().send(call) as reply:
            yield reply


async def test_a_late_settlement_goes_to_the_window_of_its_hold(tmp_path: Path) -> None:
    """What was held for on one day and answered on the next is spent on the first."""
    house = await walked(tmp_path, "{id: a, scope: agent, window: day, limitUSD: 1}")
    house.house.upstream = Overnight(house.clock, Script(chunks=(REPLY,)))

    await house.call(ASK)

    days = await house.store.totals([("agent:support", "day:2026-01-01"), ("agent:support", "day:2026-01-02")])
    assert [70_000, 0] == [day.nanousd for day in days]
    assert [0, 0] == [day.reserved_nanousd for day in days]


UNKNOWN = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - id: r
      phase: route
      action: route
      to: large
      when: "candidates.exists(c, c.model == 'new' && !has(c.in_usd_m))"
"""


async def test_what_nobody_knows_the_price_of_has_none_among_candidates(tmp_path: Path) -> None:
    """A rule can tell a target without a price from one that costs nothing."""
    text = CONFIG.replace("pools:", "  new: {provider: openai, model: new}\npools:")
    house = Walked(Script(chunks=(REPLY,)), snapshot=await asyncio.to_thread(compiled, text, UNKNOWN, tmp_path))

    await house.call({**ASK, "model": "small"})

    assert "large" == house.seen[0].attempts[0].target.alias
