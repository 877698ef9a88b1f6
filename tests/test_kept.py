"""Owns the proof of proxy/kept.py: what is written is what was kept, once and within bounds."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.kept import MOST_BYTES, packed, unpacked
from proxy.terms import (
    Caller,
    Candidate,
    Checked,
    Chunk,
    Decision,
    Facts,
    Finding,
    GuardResult,
    Json,
    Kept,
    Level,
    Message,
    Outcome,
    Phase,
    Reply,
    Request,
    Result,
    Session,
    Target,
    ToolCall,
    ToolSpec,
    Usage,
    Verdict,
)

SCHEMA: Json = {"type": "object", "properties": {"to": {"enum": ["a", 1, None, [True]]}}}
CALL = ToolCall(id="c", name="mail", arguments='{"to": "a"}')
ASKED = Request(
    dialect="chat",
    model="large",
    messages=(Message(role="user", text="Hi"), Message(role="assistant", tool_calls=(CALL,))),
    tools=(ToolSpec(name="mail", schema=SCHEMA),),
    body={},
    raw=b"",
)
FACTS = Facts(
    at_ms=1,
    caller=Caller(agent="web", level=Level.EXECUTE, principal="local", claims={"tier": "gold"}),
    request=ASKED,
    session=Session(id="se_1", labels=("pii",)),
    headers={"x-tier": "gold"},
    guards={"topics": GuardResult(name="topics", version="1", findings=(Finding(guard="topics", label="x"),))},
    results=(Result(tool="mail", call_id="c", text="sent"),),
    result=Result(tool="mail", call_id="c", text="sent"),
    tool=CALL,
    chunk=Chunk(text="Hi", end=2),
    response=Reply(text="Hi", tool_calls=(CALL,)),
    candidates=(Candidate(target=Target(alias="a", provider="p", model="m"), p50_ms=1.5),),
    outcome=Outcome(usage=Usage(), nanousd=None, status=200, ttft_ms=1.0, total_ms=2.0, guard_ms=0.5),
)
DECISION = Decision(id="ex_1-request", phase=Phase.REQUEST, verdict=Verdict.DENY)
KEPT = Kept(
    exchange_id="ex_1",
    at_ms=1,
    policy_digest="d",
    headers=("x-tier",),
    checks=(Checked(facts=FACTS, decision=DECISION), Checked(facts=replace(FACTS, tool=None), decision=DECISION)),
)


def test_what_is_read_is_what_was_kept() -> None:
    """Every fact comes back as it was, a tool's schema included."""
    assert KEPT == unpacked(packed(KEPT)) == unpacked(packed(KEPT).decode())


def test_what_checks_share_is_written_once() -> None:
    """One more check of the same request, or of the same reply, does not write it again."""
    text = "a long question " * 1000
    facts = replace(
        FACTS, request=replace(ASKED, messages=(Message(role="user", text=text),)), response=Reply(text=text)
    )
    one, many = (replace(KEPT, checks=(Checked(facts=facts, decision=DECISION),) * count) for count in (1, 50))

    assert 50 * len(text) > len(packed(many)) - len(packed(one))


def test_requests_that_differ_are_told_apart() -> None:
    """Each check gets back its own request."""
    other = replace(FACTS, request=replace(ASKED, tools=()), results=())
    kept = replace(KEPT, checks=(*KEPT.checks, Checked(facts=other, decision=DECISION)))

    assert kept == unpacked(packed(kept))


def test_what_is_too_large_is_noted() -> None:
    """Of a call with more than an entry can have it is on record how much there was, and nothing else."""
    facts = replace(FACTS, request=replace(ASKED, messages=(Message(role="user", text="x" * MOST_BYTES),)))
    large = replace(KEPT, checks=(Checked(facts=facts, decision=DECISION),))

    noted = unpacked(packed(large))

    assert replace(KEPT, checks=(), too_large=noted.too_large) == noted
    assert MOST_BYTES < noted.too_large
