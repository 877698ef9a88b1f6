"""Owns the proof of proxy/policy/recorded.py: a kept check, written as a case, is decided as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from proxy.policy import PolicySet, Source, Streamed, recorded, run_tests
from proxy.terms import (
    Candidate,
    Checked,
    Chunk,
    Facts,
    Finding,
    GuardResult,
    Kept,
    Level,
    Message,
    Outcome,
    Phase,
    Reply,
    Result,
    Session,
    Spend,
    Target,
    ToolCall,
    ToolSpec,
    Totals,
    Usage,
    Verdict,
)
from tests.policy.written import at_level, compiled, decided, facts, found, policy, request

CALL = ToolCall(id="c1", name="look", arguments='{"a": 1}', index=0)
HISTORY = (
    Message(role="user", text="Where is it?"),
    Message(role="assistant", tool_calls=(CALL,)),
    Message(role="tool", text='{"at": "home"}', tool_call_id="c1"),
)
RESULT = Result(tool="look", call_id="c1", text='{"at": "home"}', message=2, verified=True, age_ms=1500)
ASKED = request(messages=HISTORY)
TOLD = Outcome(
    usage=Usage(input_tokens=9, output_tokens=3, cache_read_tokens=2, reasoning_tokens=1),
    nanousd=1_500_000_001,
    status=200,
    ttft_ms=10.5,
    total_ms=20.25,
    guard_ms=0.5,
)
PLACES = (
    Candidate(
        target=Target(alias="large", provider="p", model="m", tags=("a",), context=9), input_nanousd=5, p50_ms=2.5
    ),
    Candidate(target=Target(alias="small", provider="p", model="m"), healthy=False, output_nanousd=7),
)
SPENT = Spend(
    est_nanousd=1,
    max_nanousd=2_000_000_003,
    conversation=Totals(nanousd=5, reserved_nanousd=6, tokens=7, calls=8),
    user=Totals(),
    remaining_nanousd=9,
)
TWO = (
    Finding(guard="topics", label="orders", score=0.5, start=1, end=2),
    Finding(guard="topics", label="x", score=0.9),
)
GUARD = {"topics": GuardResult(name="topics", version="1", findings=TWO)}

CASES = [
    pytest.param(Phase.REQUEST, "request.model == 'large' && request.user_text == 'hello'", facts(), id="model"),
    pytest.param(
        Phase.REQUEST,
        "request.stream && request.structured && request.max_tokens == 5 && request.temperature == 0.5"
        " && request.metadata.a == 'b' && request.headers.tier == 'gold'",
        facts(
            request=request(stream=True, structured=True, max_output_tokens=5, temperature=0.5, metadata={"a": "b"}),
            headers={"tier": "gold"},
        ),
        id="request",
    ),
    pytest.param(
        Phase.REQUEST,
        "request.tools[0].name == 'look' && request.tools[0].schema.type == 'object' && size(request.tools) == 2",
        facts(
            request=request(tools=(ToolSpec(name="look", schema={"type": "object"}), ToolSpec(name="b", schema=True)))
        ),
        id="tools",
    ),
    pytest.param(
        Phase.REQUEST,
        "agent.level == 'assist' && agent.id == 'support-web' && caller.tenant == 'acme'"
        " && now.getMilliseconds() == 123",
        facts(caller=at_level(Level.ASSIST), at_ms=1_767_606_000_123),
        id="who and when",
    ),
    pytest.param(
        Phase.REQUEST,
        "conversation.id == 'se_9' && conversation.turn == 3 && conversation.labels == ['a'] && conversation.escalated",
        facts(session=Session(id="se_9", turn=3, escalation="ho_1"), labels=("a",)),
        id="conversation",
    ),
    pytest.param(
        Phase.REQUEST,
        "guards.topics.label == 'x' && size(guards.topics.spans) == 2 && guards.topics.spans[0].end == 2",
        facts(guards=GUARD),
        id="findings",
    ),
    pytest.param(
        Phase.REQUEST,
        "spend.conversation.usd > 0.00000001 && spend.conversation.calls == 8 && spend.user.usd == 0.0"
        " && spend.request.max_usd > 2.0 && spend.remaining.usd < 0.1",
        facts(spend=SPENT),
        id="money",
    ),
    pytest.param(
        Phase.TOOL_RESULT,
        "result.verified && result.json.at == 'home' && result.new && size(conversation.tool_results) == 1"
        " && conversation.tool_results[0].verified && conversation.tool_results[0].tool == 'look'",
        facts(request=ASKED, results=(RESULT,), result=RESULT),
        id="result",
    ),
    pytest.param(
        Phase.REQUEST,
        "conversation.tool_results[0].verified && conversation.tool_results[0].age_s == 1.5",
        facts(request=ASKED, results=(RESULT,)),
        id="earlier results",
    ),
    pytest.param(Phase.CHUNK, "chunk.text == 'so' && chunk.final", facts(chunk=Chunk(text="so", end=2)), id="chunk"),
    pytest.param(Phase.TOOL_CALL, "tool.args_raw == '{\"a\": 1}' && tool.id == 'c1'", facts(tool=CALL), id="call"),
    pytest.param(
        Phase.RESPONSE,
        "response.text == 'Hi' && response.refusal == 'no' && response.reasoning == 'so' && response.model == 'm'"
        " && response.finish_reason == 'length' && response.tool_calls[0].args.a == 1",
        facts(
            response=Reply(
                text="Hi", refusal="no", reasoning="so", model="m", finish_reason="length", tool_calls=(CALL,)
            )
        ),
        id="reply",
    ),
    pytest.param(
        Phase.POST,
        "usage.input == 9 && usage.cache_read == 2 && usage.reasoning == 1 && cost.usd > 1.5"
        " && latency.total_ms == 20.25",
        facts(outcome=TOLD),
        id="outcome",
    ),
    pytest.param(Phase.POST, "!has(cost.usd)", facts(outcome=replace(TOLD, nanousd=None)), id="no price"),
    pytest.param(
        Phase.ROUTE,
        "candidates[0].context == 9 && candidates[0].tags == ['a'] && candidates[0].p50_ms == 2.5"
        " && !candidates[1].healthy && !has(candidates[1].in_usd_m) && candidates[1].out_usd_m > 0.0",
        facts(candidates=PLACES),
        id="candidates",
    ),
]
ACTS: dict[Phase, dict[str, Any]] = {
    Phase.ROUTE: {"action": "route", "to": "small"},
    Phase.POST: {"action": "alert"},
    Phase.REQUEST: {"action": "annotate", "annotations": {"a": "b"}, "obligations": ["record"]},
}


def come_true(phase: Phase, when: str, known: Facts) -> tuple[Verdict, list[tuple[str, ...]]]:
    """Decide, record, and run the case that this makes: the verdict, and what did not come true."""
    act = ACTS.get(phase, {"action": "deny", "message": "no"})
    policies = compiled(policy({"phase": phase, "when": when, **act}))
    decision = decided(policies, known, phase)
    kept = Kept(exchange_id="ex_1", at_ms=1, policy_digest="", checks=(Checked(facts=known, decision=decision),))
    text = yaml.safe_dump(recorded([kept], ["policy.yaml"]), sort_keys=False)

    report = run_tests([Source(path="tests.yaml", text=text)], lambda *_: policies, _no_stream)
    return decision.verdict, [result.wrong for result in report.results]


def _no_stream(policies: PolicySet, known: Facts, chunks: Sequence[str]) -> Streamed:
    raise AssertionError("a recorded case has no pieces")


@pytest.mark.parametrize(("phase", "when", "known"), CASES)
def test_a_case_is_decided_as_it_was(phase: Phase, when: str, known: Facts) -> None:
    """Whatever a rule reads is in the case, exactly, so the rule matches there as it did."""
    verdict, wrong = come_true(phase, when, known)

    assert (True, [()]) == (verdict is not Verdict.ALLOW, wrong)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(facts(), id="it did not run"),
        pytest.param(facts(guards={"topics": GuardResult(name="topics", version="1", error="timeout")}), id="failed"),
        pytest.param(facts(guards={"topics": GuardResult(name="topics", version="", ran=False)}), id="not run"),
        pytest.param(facts(guards={"topics": GuardResult(name="topics", version="1")}), id="nothing"),
        pytest.param(facts(guards=found("orders")), id="something"),
    ],
)
def test_guards_say_what_they_said(known: Facts) -> None:
    """A guard that failed or did not run is an error in the case as well, one that found nothing found nothing."""
    _, wrong = come_true(Phase.REQUEST, "guards.topics.label == 'orders'", known)

    assert [()] == wrong


def test_what_is_expected_is_all_that_was_decided() -> None:
    """The case names the rule without its version, and everything that it did."""
    policies = compiled(policy({"when": "true", "action": "escalate", "to": "tier2", "message": "wait"}))
    check = Checked(facts=facts(), decision=decided(policies, facts()))

    tests = recorded([Kept(exchange_id="ex_1", at_ms=1, policy_digest="", checks=(check,))], ["policy.yaml"])

    (case,) = tests["spec"]["cases"]
    expect = case["expect"]
    told = (case["name"], expect["verdict"], expect["rule"], expect["reason"], expect["queue"])
    assert ("ex_1-request", "escalate", "p/r0", "rule", "tier2") == told
    assert json.loads(json.dumps(tests)) == tests
