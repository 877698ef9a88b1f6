"""Owns how a walk ends: refusals, faults, the record and every settlement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from msgspec.structs import replace

from proxy import conversation, recording
from proxy.errors import BudgetExceeded, Denied, HandrailError, UpstreamError
from proxy.pipeline import entry
from proxy.pipeline.books import UNBILLED
from proxy.pipeline.keeping import kept, of_texts, wanted
from proxy.pipeline.once import Answer
from proxy.pipeline.passage import ended
from proxy.pipeline.walk import Part, Walk
from proxy.terms import (
    Checked,
    Decision,
    Delta,
    End,
    Fault,
    OnDeny,
    Phase,
    Reply,
    State,
    Verdict,
)


def pass_fault(walk: Walk, fault: Fault) -> Iterator[Part]:
    """Answer with the provider's failure: its own error body where it has one."""
    walk.draft.ends(State.FAULT, fault.status, fault.code)
    error = UpstreamError(fault.message, status=fault.status, code=fault.code)
    yield walk.head(fault.status, fault.headers)
    yield Delta(frame=fault.body or walk.dialect.error_body(error))


def repeat(walk: Walk, answer: Answer) -> Iterator[Part]:
    """Answer with what was answered before; nobody is asked, and nothing is charged."""
    walk.draft.ends(State.COMPLETE, answer.head.status)
    walk.draft.replay_of = answer.exchange_id
    yield from answer.parts()


async def fail(walk: Walk, error: HandrailError) -> AsyncIterator[Part]:
    """Answer with an error object, or with the policy's safe text where it says so; first a human gets the packet,
    where there is to be one: nobody is told of a human who knows nothing."""
    if isinstance(error, Denied) and error.decision.escalation:
        try:
            await walk.hand_over(error.decision, walk.facts)
        except HandrailError as trouble:
            error = trouble
    for part in _failed(walk, error):
        yield part


def _failed(walk: Walk, error: HandrailError) -> Iterator[Part]:
    if isinstance(error, Denied | BudgetExceeded):
        walk.verdict = error.decision.verdict if isinstance(error, Denied) else Verdict.DENY
        walk.draft.ends(State.DENIED, error.status, error.code)
    else:
        walk.draft.ends(State.FAULT, error.status, error.code)
    if isinstance(error, Denied) and error.decision.on_deny is OnDeny.REPLY:
        yield from _refuse(walk, error.decision)
    elif walk.begun:
        fault = Fault(status=error.status, type=error.type, code=error.code, message=error.message)
        yield replace(fault, frame=walk.writer.fault(fault))
    else:
        yield walk.head(error.status, error.headers)
        yield Delta(frame=walk.dialect.error_body(error))


def _refuse(walk: Walk, decision: Decision) -> Iterator[Part]:
    walk.draft.ends(State.DENIED, 200)
    walk.draft.finish_reason = "content_filter"
    reply = Reply(text=decision.message, finish_reason="content_filter", model=walk.request.model)
    left, said = (walk.passage.left, walk.passage.said) if walk.passage else ((), "")
    if not walk.begun and not left and (call := walk.humans.by_tool(decision, walk.request)):
        reply = replace(reply, text="", finish_reason="tool_calls", tool_calls=(call,))
        walk.draft.finish_reason = reply.finish_reason
    owned = decision.verdict is Verdict.ESCALATE
    walk.end = walk.history.extended(replace(reply, text=said + reply.text), owned=owned)
    if left:
        yield from walk.release([*(ended(delta, reply) for delta in left), End()])
        return
    say = walk.writer.cut if walk.begun else walk.writer.compose
    usage = walk.usage or (walk.draft.attempts[-1].usage if walk.begun else UNBILLED)
    yield from walk.release(say(reply, usage), written=True)


async def rehearse(walk: Walk) -> None:
    """Ask a candidate what it would have decided; the reply is complete."""
    if walk.trial and walk.entered:
        walk.draft.candidate += await walk.trial.others(_asked(walk))
        walk.draft.candidate_digest = walk.trial.policies.digest


def leave(walk: Walk) -> None:
    """Queue the record and every settlement; never awaits, so that nothing can interrupt it."""
    if walk.client.gone and walk.draft.state is not State.DENIED:
        walk.draft.ends(State.CLIENT_GONE, 499, walk.client.given_up or walk.draft.error)
    elif not walk.draft.status:
        # Nothing has ended it and the client is still there: Handrail itself gave it up, as at shutdown.
        walk.draft.ends(State.FAULT, 503, "abandoned")
    # What is said again was judged before.
    guards = () if walk.draft.replay_of else walk.policies.guards
    exchange = walk.draft.exchange(walk.house.clock.monotonic_ms(), guards)
    if walk.entered and walk.asks(Phase.POST):
        last = walk.decide(Phase.POST, replace(walk.facts, outcome=recording.outcome(exchange)))
        if walk.trial and walk.draft.candidate_digest:
            others = walk.trial.other(walk.checks[-1], walk.checks[-1].facts)
            exchange = replace(exchange, candidate=(*exchange.candidate, *others))
        if walk.policies.has(Phase.POST):
            exchange = replace(exchange, decisions=(*exchange.decisions, last))
    if walk.draft.caller.principal:
        # What nobody authenticated for is counted, not recorded: strangers must not fill the disk.
        walk.house.records.finish(exchange)
        walk.notes.remember()
    if walk.entered:
        stand = walk.history.stand(walk.draft.session, walk.end)
        if walk.end and walk.reply_id:
            stand = replace(stand, marks=(*stand.marks, conversation.reply_mark(walk.draft.caller, walk.reply_id)))
        walk.house.sessions.stand(stand, walk.draft.at_ms)
    walk.quotas.close()
    walk.books.settle()
    if walk.once:
        walk.once.close(walk.draft.id, walk.snapshot.policies.digest)
    walk.house.observe(exchange)
    if walk.entered and walk.policies.records and wanted(checks := _asked(walk)):
        walk.house.records.keep(kept(walk.draft, checks, walk.vault, entry.headers(walk)))


def _asked(walk: Walk) -> list[Checked]:
    """Return all that was asked of policy; the texts of a reply as they were judged step by step, each whole."""
    replies = walk.passage.gate.heard() if walk.passage else ()
    return [*walk.checks, *of_texts(walk.draft, walk.facts, replies)]
