"""Owns the reply side of a walk: what passes, what waits, and what is decided on tool calls and the message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from msgspec.structs import replace

from proxy.errors import UpstreamError
from proxy.pipeline.books import UNBILLED
from proxy.pipeline.passage import Passage, spoken
from proxy.pipeline.scanning import TURN_MS
from proxy.pipeline.walk import Part, Walk
from proxy.ports import UpstreamReply
from proxy.stretches import ARGUMENTS, ENDLESS, Channel
from proxy.terms import (
    Cover,
    Decision,
    Delta,
    End,
    Fault,
    OnDeny,
    Phase,
    Reply,
    State,
    ToolCall,
    UpstreamCall,
    Verdict,
)

WITHHELD = (Verdict.DENY, Verdict.REQUIRE_APPROVAL, Verdict.REPLACE)
"""What becomes of calls that do not leave."""
PASSED_HEADERS = ("retry-after", "retry-after-ms", "x-request-id", "x-handrail-simulated")
DROPPED_HEADER = "x-handrail-dropped"
"""Names the fields that the provider cannot express and that were left out."""
PASSED_PREFIXES = ("openai-", "x-ratelimit-")
JUDGING = (Phase.CHUNK, Phase.TOOL_CALL, Phase.RESPONSE)
"""The phases that judge replies."""


def holds(walk: Walk) -> bool:
    """Whether a reply waits until it is judged: for its own rules, or since the model may have to speak again."""
    return walk.policies.holds_response or (walk.policies.explains and bool(walk.request.tools))


def starts(walk: Walk) -> Passage:
    """Begin an attempt: what the one before used, said and ended with is not its own."""
    walk.usage, walk.ended, walk.asks_again = None, False, False
    now_ms = walk.house.clock.monotonic_ms
    walk.passage = Passage(
        walk.policies,
        walk.vault,
        walk.draft,
        hold=holds(walk),
        now_ms=now_ms,
        turn_ms=TURN_MS,
        shared=walk.shared,
    )
    return walk.passage


def hears(walk: Walk, call: UpstreamCall, reply: UpstreamReply) -> None:
    """Keep what the provider's head says, and what was left out of the call; only a reply with status 2xx is billed."""
    walk.reply_headers = {
        name: value
        for name, value in reply.headers.items()
        if name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)
    }
    if call.dropped:
        walk.reply_headers[DROPPED_HEADER] = ", ".join(call.dropped)
    walk.draft.simulated = "x-handrail-simulated" in reply.headers
    walk.usage = None if 200 <= reply.status < 300 else UNBILLED


def passes(walk: Walk, passage: Passage, deltas: Sequence[Delta]) -> Iterator[Part]:
    """Take notes of deltas on their way; yield those that may leave."""
    if deltas and not walk.draft.ttft_ms:
        walk.draft.ttft_ms = walk.house.clock.monotonic_ms() - walk.draft.began
    for delta in deltas:
        # Some providers say zero until they know.
        if delta.usage is not None and not (walk.usage and delta.usage.doubt):
            walk.usage = delta.usage
        walk.reply_id = delta.reply_id or walk.reply_id
        if delta.model:
            walk.draft.model_served = delta.model
        walk.ended = walk.ended or delta.final
    yield from walk.release(passage.feed(deltas, walk.facts))
    if passage.gate.held_bytes > walk.snapshot.limits.max_reply_bytes:
        raise UpstreamError("The provider's reply is too large to be judged.", code="too_large", retryable=False)


async def goes_on(walk: Walk, passage: Passage, last: bool = False) -> AsyncIterator[Part]:
    """Judge the rest of a long text, while others have their turn in between."""
    while passage.behind:
        await walk.scanner.rest()
        for part in walk.release(passage.go_on(walk.facts, last)):
            yield part


async def _ends(walk: Walk, passage: Passage) -> AsyncIterator[Part]:
    """Let go what has waited for more, now that nothing more comes."""
    for part in walk.release(passage.close(walk.facts)):
        yield part
    async for part in goes_on(walk, passage, last=True):
        yield part


async def judge(walk: Walk, passage: Passage, end: End | Fault) -> AsyncIterator[Part]:
    """Decide on the tool calls and the message, then let what was held go, or say something else in its place."""
    gate = passage.gate
    if isinstance(end, Fault):
        if walk.begun:
            async for part in _ends(walk, passage):
                yield part
            walk.draft.ends(State.FAULT, end.status, end.code)
            end = replace(end, frame=(end.frame if walk.native else b"") or walk.writer.fault(end))
        yield end
        return
    if not gate.clear and any(map(walk.policies.has, JUDGING)):
        raise UpstreamError("The provider's reply can be read in more ways than one.", code="reply_ambiguous")
    async for part in _ends(walk, passage):
        yield part
    drop: dict[tuple[int, int], str] = {}
    covers: dict[Channel, list[Cover]] = {}
    replies = []
    for reply in gate.replies():
        kept = await _judge_calls(walk, reply, passage, drop, covers)
        if walk.asks_again:
            return
        facts = replace(walk.facts, response=kept)
        decision = await walk.check(Phase.RESPONSE, subject=str(reply.choice), facts=facts)
        covers |= (found := passage.covers(decision, kept))
        replies.append(spoken(kept, found))
    passage.waited(walk.house.clock.monotonic_ms())
    _completes(walk, replies)
    for part in walk.release(gate.release(drop, covers)):
        yield part
    yield replace(end, frame=end.frame or walk.writer.end())


async def _judge_calls(
    walk: Walk,
    reply: Reply,
    passage: Passage,
    drop: dict[tuple[int, int], str],
    covers: dict[Channel, list[Cover]],
) -> Reply:
    if not reply.tool_calls:
        return reply
    kept, said, told = [], "", dict[str, str]()
    for call in reply.tool_calls:
        facts = replace(walk.facts, tool=call, response=reply, totals=walk.quotas.totals)
        decision = await walk.check(Phase.TOOL_CALL, subject=f"{reply.choice}.{call.index}", facts=facts)
        # Humans approve what leaves: with what rules say in it, and without what they take out.
        leaving = replace(call, arguments=passage.arguments(decision, call))
        if decision.escalation:
            await walk.hand_over(decision, facts)
        else:
            decision = await _let_through(walk, decision, leaving)
        if decision.verdict in WITHHELD:
            drop[reply.choice, call.index] = decision.message
            said = said or decision.message
            if decision.verdict is Verdict.DENY and decision.on_deny is OnDeny.EXPLAIN:
                told[call.id] = decision.message
            continue
        if leaving != call:
            covers[reply.choice, ARGUMENTS, call.index] = [Cover(start=0, end=ENDLESS, text=leaving.arguments)]
        kept.append(leaving)
    walk.facts = replace(walk.facts, totals=walk.quotas.totals)
    if told and len(told) == len(reply.tool_calls):
        _explain(walk, passage, reply, told)
    if kept:
        return replace(reply, tool_calls=tuple(kept))
    return replace(reply, tool_calls=(), finish_reason="stop", text=reply.text + said)


def _explain(walk: Walk, passage: Passage, reply: Reply, told: Mapping[str, str]) -> None:
    """Tell the model why its calls were denied, and let it answer once more: what it says then is the reply. Where
    that cannot be done, or was done before, the denial is said as any other."""
    if walk.explained or walk.begun or len(passage.gate.heard()) > 1:
        return
    # The provider gets back what it said: placeholders, not the values that were put in their place.
    vault = walk.vault
    calls = (replace(call, arguments=vault.hide_arguments(call.arguments)) for call in reply.tool_calls)
    hidden = replace(reply, text=vault.hide(reply.text), tool_calls=tuple(calls))
    results = {call_id: f"This call was not carried out. {vault.hide(message)}" for call_id, message in told.items()}
    if request := walk.dialect.with_turn(walk.request, hidden, results):
        walk.request, walk.explained, walk.asks_again = request, True, True
        walk.books.take(request)


async def _let_through(walk: Walk, decision: Decision, call: ToolCall, approved: bool = False) -> Decision:
    """Return the decision as humans and totals leave it: whoever has to approve is asked once, and only what may
    leave is added to totals."""
    if decision.verdict is Verdict.REQUIRE_APPROVAL:
        decision = await walk.humans.asked(decision, call, walk.facts)
        approved = decision.verdict is Verdict.ALLOW
        walk.weigh(decision)
    if decision.verdict in WITHHELD:
        return decision
    after = await walk.quotas.take(decision, call, approved)
    if after.verdict is Verdict.REQUIRE_APPROVAL:
        return await _let_through(walk, after, call)
    walk.weigh(after)
    return walk.upheld(after)


def _completes(walk: Walk, replies: Sequence[Reply]) -> None:
    walk.draft.ends(State.COMPLETE, 200)
    walk.draft.tool_calls = [call.name for reply in replies for call in reply.tool_calls]
    if replies:
        walk.draft.finish_reason = replies[0].finish_reason
        walk.end = walk.history.extended(replies[0])
    if not walk.client.gone or walk.once:  # What is kept may leave later.
        walk.quotas.leave()
    walk.notes.issue((call, walk.quotas.booked(call)) for reply in replies for call in reply.tool_calls)
