"""Owns the exchanges that the tests of this folder count and trace."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Decision,
    Exchange,
    GuardResult,
    Level,
    Mode,
    Phase,
    Route,
    RuleHit,
    Session,
    State,
    Target,
    Usage,
    Verdict,
)

AT_MS = 1_767_225_600_000
FAST = Target(alias="fast", provider="local", model="qwen-3")
SMART = Target(alias="smart", provider="azure", model="gpt-5-mini")


def attempt(**changes: Any) -> Attempt:
    """Make an attempt at `smart` that went well."""
    usage = Usage(input_tokens=812, output_tokens=164, cache_read_tokens=512, reasoning_tokens=64)
    well = Attempt(
        number=1,
        reservation_id="ex_1:1",
        target=SMART,
        started_ms=AT_MS + 20,
        state=State.COMPLETE,
        usage=usage,
        cost=Cost(nanousd=531_000_000, price="p"),
        status=200,
        total_ms=900.0,
    )
    return replace(well, **changes)


def hit(rule: str, action: Verdict = Verdict.DENY, mode: Mode = Mode.ENFORCE, error: str = "") -> RuleHit:
    """Make a rule that matched, or failed."""
    return RuleHit(id=rule, action=action, mode=mode, error=error, message="content that must not be told")


def decision(phase: Phase = Phase.REQUEST, verdict: Verdict = Verdict.ALLOW, **changes: Any) -> Decision:
    """Make a decision."""
    return replace(Decision(id=f"ex_1-{phase}", phase=phase, verdict=verdict), **changes)


def exchange(**changes: Any) -> Exchange:
    """Make a streamed call that went well: one decision, one attempt, a second of time."""
    well = Exchange(
        id="ex_1",
        started_ms=AT_MS,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="refunds", level=Level.EXECUTE, principal="key_1"),
        session=Session(id="se_1", turn=3),
        stream=True,
        model_asked="smart",
        state=State.COMPLETE,
        status=200,
        route=Route(targets=(SMART,), reason="asked"),
        attempts=(attempt(),),
        decisions=(decision(),),
        guards=(GuardResult(name="pii", version="1"),),
        tool_calls=("lookup_order",),
        finish_reason="tool_calls",
        model_served="gpt-5-mini-2025-08-07",
        cost=Cost(nanousd=531_000_000),
        ttft_ms=240.0,
        total_ms=1000.0,
        policy_ms=2.0,
        guard_ms=11.0,
        hold_ms=0.3,
        policy_digest="abc123",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        span_id="00f067aa0ba902b7",
    )
    return replace(well, **changes)
