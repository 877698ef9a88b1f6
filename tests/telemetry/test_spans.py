"""Owns the proof of what a trace says, and of what it never says."""

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from proxy.telemetry.spans import Trace, trace_id
from proxy.terms import Cost, Exchange, GuardResult, Mode, Phase, State, Usage, Verdict
from proxy.tracing import trace_id_for
from tests.telemetry.samples import AT_MS, FAST, attempt, decision, exchange, hit


def spans(one: Exchange) -> list[ReadableSpan]:
    """Make the spans of an exchange."""
    return Trace(Resource({"service.name": "handrail"}), "1.2.3").of(one)


def root(one: Exchange) -> dict[str, Any]:
    """Return the attributes of the root span."""
    return dict(spans(one)[0].attributes or {})


def ms(time_ns: int | None) -> float:
    """Return milliseconds after the beginning of the exchange."""
    assert time_ns is not None
    return (time_ns - AT_MS * 1_000_000) / 1e6


def test_a_call_is_a_chat() -> None:
    """The root span is named and described as the conventions for generative AI say."""
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.conversation.id": "se_1",
        "gen_ai.request.model": "smart",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "gpt-5-mini-2025-08-07",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.response.time_to_first_chunk": 0.24,
        "gen_ai.usage.input_tokens": 812,
        "gen_ai.usage.output_tokens": 164,
        "gen_ai.usage.cache_read.input_tokens": 512,
        "gen_ai.usage.reasoning.output_tokens": 64,
        "http.response.status_code": 200,
    }
    seen = root(exchange())

    assert "chat smart" == spans(exchange())[0].name
    assert expected == {name: value for name, value in seen.items() if not name.startswith("handrail.")}


def test_a_call_says_who_and_why() -> None:
    """What the conventions have no name for stands under our own."""
    expected = {
        "handrail.exchange.id": "ex_1",
        "handrail.turn": 3,
        "handrail.agent": "refunds",
        "handrail.level": "execute",
        "handrail.state": "complete",
        "handrail.policy.digest": "abc123",
        "handrail.policy_ms": 2.0,
        "handrail.guard_ms": 11.0,
        "handrail.hold_ms": 0.3,
        "handrail.route.reason": "asked",
        "handrail.tools": ("lookup_order",),
        "handrail.guards": ("pii@1",),
        "handrail.guards.not_run": ("topics",),
        "handrail.cost_nanousd": 531_000_000,
    }
    guards = (GuardResult(name="pii", version="1"), GuardResult(name="topics", version="1", ran=False))
    seen = root(exchange(guards=guards))

    assert expected == {name: value for name, value in seen.items() if name.startswith("handrail.")}


def test_what_is_not_known_is_left_out() -> None:
    """A denied call has no provider, no model, no tokens, no route and no price, and its span claims none."""
    denied = exchange(
        state=State.DENIED,
        attempts=(),
        route=None,
        guards=(),
        tool_calls=(),
        finish_reason="",
        model_served="",
        cost=Cost(nanousd=None),
        stream=False,
        status=0,
    )
    seen = root(denied)

    absent = ("usage", "provider", "response", "route", "cost", "guards", "tools", "status_code", "error")
    assert [] == [name for name in seen if any(part in name for part in absent)]


def test_spans_have_the_times_of_the_exchange() -> None:
    """Each span begins and ends when the thing happened, not when the span was made."""
    made = (decision(), decision(Phase.TOOL_CALL, id="ex_1-tool0"))
    times = {span.name: (ms(span.start_time), ms(span.end_time)) for span in spans(exchange(decisions=made))}

    expected = {
        "chat smart": (0.0, 1000.0),
        "policy request": (0.0, 0.0),
        "policy tool_call": (920.0, 920.0),
        "attempt azure": (20.0, 920.0),
    }
    assert expected == times


def test_a_decision_without_an_attempt_is_as_old_as_the_call() -> None:
    """A reply of our own is judged with no provider asked."""
    (_, judged) = spans(exchange(attempts=(), decisions=(decision(Phase.RESPONSE),)))

    assert 0.0 == ms(judged.start_time)


def test_a_trace_hangs_together() -> None:
    """All spans share the trace; the root is a child of the client's span, the others of the root."""
    failed = attempt(number=1, state=State.FAULT, error="connect_timeout", target=FAST)
    made = spans(
        exchange(
            parent_span_id="b7ad6b7169203331",
            attempts=(failed, attempt(number=2)),
            decisions=(decision(), decision(Phase.RESPONSE, id="ex_1-response0")),
        )
    )
    contexts = [span.context for span in made]
    ids = [f"{context.span_id:016x}" for context in contexts if context]
    parents = [f"{span.parent.span_id:016x}" for span in made if span.parent]

    assert {0x4BF92F3577B34DA6A3CE929D0E0E4736} == {context.trace_id for context in contexts if context}
    assert (5, "00f067aa0ba902b7") == (len(set(ids)), ids[0])
    assert ["b7ad6b7169203331", *["00f067aa0ba902b7"] * 4] == parents


def test_a_call_without_a_client_span_is_a_root() -> None:
    """Without a `traceparent` the trace begins here."""
    assert spans(exchange())[0].parent is None


def test_a_call_that_failed_before_its_headers_has_a_trace_too() -> None:
    """Without ids on record they are derived from the exchange."""
    early = exchange(trace_id="", span_id="")

    assert trace_id_for("ex_1") == trace_id(early)
    assert spans(early)[0].context


def test_kinds_say_who_asked_whom() -> None:
    """We serve the call, decide within, and are the client of a provider."""
    assert [SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT] == [span.kind for span in spans(exchange())]


def test_a_decision_says_what_and_by_which_rules() -> None:
    """Verdict, rules with their versions, and the rule that won are on the span of the decision."""
    rules = (hit("refunds/limit@1"), hit("refunds/tone@2", mode=Mode.SHADOW), hit("refunds/broken@1", error="e"))
    made = decision(
        Phase.TOOL_CALL,
        Verdict.DENY,
        rules=rules,
        rule="refunds/limit@1",
        reason="rule",
        subject="call_1",
        message="content",
    )
    expected = {
        "handrail.decision.id": "ex_1-tool_call",
        "handrail.verdict": "deny",
        "handrail.shadow_verdict": "allow",
        "handrail.reason": "rule",
        "handrail.rule": "refunds/limit@1",
        "handrail.rules": ("refunds/limit@1", "refunds/tone@2"),
        "handrail.rules.failed": ("refunds/broken@1",),
        "handrail.subject": "call_1",
    }

    assert expected == dict(spans(exchange(decisions=(made,)))[1].attributes or {})


def test_an_attempt_says_where_and_how_it_ended() -> None:
    """Target, provider, model, status and cost are on the span of the attempt; its tokens are on the root alone."""
    failed = attempt(
        state=State.FAULT, error="upstream_error", status=503, cost=Cost(nanousd=7), usage=Usage(input_tokens=9)
    )
    unpriced = attempt(number=2, target=FAST, status=0, cost=Cost(nanousd=None))
    seen = [dict(span.attributes or {}) for span in spans(exchange(attempts=(failed, unpriced)))[2:]]

    expected = [
        {
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.request.model": "gpt-5-mini",
            "handrail.attempt": 1,
            "handrail.target": "smart",
            "handrail.state": "fault",
            "http.response.status_code": 503,
            "error.type": "upstream_error",
            "handrail.cost_nanousd": 7,
        },
        {
            "gen_ai.provider.name": "local",
            "gen_ai.request.model": "qwen-3",
            "handrail.attempt": 2,
            "handrail.target": "fast",
            "handrail.state": "complete",
        },
    ]
    assert expected == seen


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.COMPLETE, StatusCode.UNSET),
        (State.DENIED, StatusCode.UNSET),
        (State.CLIENT_GONE, StatusCode.UNSET),
        (State.FAULT, StatusCode.ERROR),
        (State.RECOVERED, StatusCode.ERROR),
    ],
)
def test_only_failures_are_errors(state: State, expected: StatusCode) -> None:
    """Doing what policy says is no error, and neither is a client that leaves."""
    made = spans(exchange(state=state, error="code"))[0]

    assert (expected, "code") == (made.status.status_code, root(exchange(state=state, error="code"))["error.type"])


def test_content_is_never_told() -> None:
    """Messages of rules and of denials, which quote what was said, are in no span."""
    made = decision(Phase.REQUEST, Verdict.DENY, rules=(hit("a"),), message="CANARY", annotations={"note": "CANARY"})
    told = "".join(span.to_json() for span in spans(exchange(decisions=(made,))))

    assert ("CANARY" in told, "content that must not be told" in told) == (False, False)
