"""Owns the shape of a trace: one finished exchange as spans, with its own times and ids.

A root span for the call, under it one span per decision and one per attempt. Tokens are on the root alone: a backend
that adds them up over all spans must not count them twice. Never: content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from proxy import tracing
from proxy.telemetry import semconv
from proxy.terms import Attempt, Decision, Exchange, State, Usage

NS_PER_MS: Final = 1_000_000
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_FAILED: Final = (State.FAULT, State.RECOVERED)

Attributes = Mapping[str, AttributeValue]


class Trace:
    """Makes the spans of exchanges for one resource."""

    def __init__(self, resource: Resource, version: str) -> None:
        self._resource = resource
        self._scope = InstrumentationScope("handrail", version, semconv.SCHEMA_URL)

    def of(self, exchange: Exchange) -> list[ReadableSpan]:
        """Return the spans of one exchange, root first."""
        trace = int(trace_id(exchange), 16)
        root = _context(trace, exchange.span_id or tracing.span_id_for(exchange.id))
        parent = _context(trace, exchange.parent_span_id) if exchange.parent_span_id else None
        began = exchange.started_ms * NS_PER_MS
        spans = [
            self._span(
                f"{semconv.OPERATION_CHAT} {exchange.model_asked}".strip(),
                (root, parent),
                SpanKind.SERVER,
                _root(exchange),
                (began, began + int(exchange.total_ms * NS_PER_MS)),
                _status(exchange.state, exchange.error),
            )
        ]
        spans += (self._decision(exchange, decision, root) for decision in exchange.decisions)
        spans += (self._attempt(exchange, attempt, root) for attempt in exchange.attempts)
        return spans

    def _decision(self, exchange: Exchange, decision: Decision, root: SpanContext) -> ReadableSpan:
        at = exchange.started_ms * NS_PER_MS
        if decision.phase != "request" and exchange.attempts:
            last = exchange.attempts[-1]
            at = last.started_ms * NS_PER_MS + int(last.total_ms * NS_PER_MS)
        return self._span(
            f"policy {decision.phase}",
            (_context(root.trace_id, tracing.span_id_for(decision.id)), root),
            SpanKind.INTERNAL,
            _decided(decision),
            (at, at),
            Status(),
        )

    def _attempt(self, exchange: Exchange, attempt: Attempt, root: SpanContext) -> ReadableSpan:
        at = attempt.started_ms * NS_PER_MS
        return self._span(
            f"attempt {attempt.target.provider}",
            (_context(root.trace_id, tracing.span_id_for(f"{exchange.id}:{attempt.number}")), root),
            SpanKind.CLIENT,
            _tried(attempt),
            (at, at + int(attempt.total_ms * NS_PER_MS)),
            _status(attempt.state, attempt.error),
        )

    def _span(
        self,
        name: str,
        contexts: tuple[SpanContext, SpanContext | None],
        kind: SpanKind,
        attributes: Attributes,
        times: tuple[int, int],
        status: Status,
    ) -> ReadableSpan:
        own, parent = contexts
        return ReadableSpan(
            name=name,
            context=own,
            parent=parent,
            kind=kind,
            attributes=attributes,
            start_time=times[0],
            end_time=times[1],
            status=status,
            resource=self._resource,
            instrumentation_scope=self._scope,
        )


def trace_id(exchange: Exchange) -> str:
    """Return the trace an exchange belongs to; one that failed before its headers were read begins its own."""
    return exchange.trace_id or tracing.trace_id_for(exchange.id)


def _context(trace: int, span_id: str) -> SpanContext:
    return SpanContext(trace, int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)


def _status(state: State, error: str) -> Status:
    return Status(StatusCode.ERROR, error) if state in _FAILED else Status()


def _root(exchange: Exchange) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
        semconv.GEN_AI_REQUEST_MODEL: exchange.model_asked,
        semconv.GEN_AI_REQUEST_STREAM: exchange.stream,
        semconv.GEN_AI_CONVERSATION_ID: exchange.session.id,
        "handrail.exchange.id": exchange.id,
        "handrail.turn": exchange.session.turn,
        "handrail.agent": exchange.caller.agent,
        "handrail.level": exchange.caller.level.value,
        "handrail.state": exchange.state.value,
        "handrail.policy.digest": exchange.policy_digest,
        "handrail.policy_ms": exchange.policy_ms,
        "handrail.guard_ms": exchange.guard_ms,
        "handrail.hold_ms": exchange.hold_ms,
    }
    attributes.update(_known(
        (semconv.HTTP_RESPONSE_STATUS_CODE, exchange.status),
        (semconv.ERROR_TYPE, exchange.error),
        (semconv.GEN_AI_RESPONSE_MODEL, exchange.model_served),
        (semconv.GEN_AI_RESPONSE_FINISH_REASONS, (exchange.finish_reason,) if exchange.finish_reason else ()),
        (semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, exchange.ttft_ms / 1000 if exchange.stream else 0),
        ("handrail.route.reason", exchange.route.reason if exchange.route else ""),
        ("handrail.tools", exchange.tool_calls),
        ("handrail.guards", tuple(f"{guard.name}@{guard.version}" for guard in exchange.guards if guard.ran)),
        ("handrail.guards.not_run", tuple(guard.name for guard in exchange.guards if not guard.ran or guard.error)),
    ))  # fmt: skip
    if exchange.cost.nanousd is not None:
        attributes["handrail.cost_nanousd"] = exchange.cost.nanousd
    if exchange.attempts:
        attributes[semconv.GEN_AI_PROVIDER_NAME] = _provider(exchange.attempts[-1])
        attributes.update(_usage(exchange.attempts[-1].usage))
    return attributes


def _usage(usage: Usage) -> dict[str, AttributeValue]:
    return _known(
        (semconv.GEN_AI_USAGE_INPUT_TOKENS, usage.input_tokens),
        (semconv.GEN_AI_USAGE_OUTPUT_TOKENS, usage.output_tokens),
        (semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, usage.cache_read_tokens),
        (semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS, usage.cache_write_tokens),
        (semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, usage.reasoning_tokens),
    )


def _decided(decision: Decision) -> dict[str, AttributeValue]:
    return {
        "handrail.decision.id": decision.id,
        "handrail.verdict": decision.verdict.value,
        "handrail.shadow_verdict": decision.shadow_verdict.value,
        **_known(
            ("handrail.reason", decision.reason),
            ("handrail.rule", decision.rule),
            ("handrail.rules", tuple(hit.id for hit in decision.rules if not hit.error)),
            ("handrail.rules.failed", tuple(hit.id for hit in decision.rules if hit.error)),
            ("handrail.subject", decision.subject),
        ),
    }


def _tried(attempt: Attempt) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        semconv.GEN_AI_PROVIDER_NAME: _provider(attempt),
        semconv.GEN_AI_REQUEST_MODEL: attempt.target.model,
        "handrail.attempt": attempt.number,
        "handrail.target": attempt.target.alias,
        "handrail.state": attempt.state.value,
        **_known((semconv.HTTP_RESPONSE_STATUS_CODE, attempt.status), (semconv.ERROR_TYPE, attempt.error)),
    }
    if attempt.cost.nanousd is not None:
        attributes["handrail.cost_nanousd"] = attempt.cost.nanousd
    return attributes


def _provider(attempt: Attempt) -> str:
    return semconv.PROVIDERS.get(attempt.target.provider, attempt.target.provider)


def _known(*pairs: tuple[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Leave out what is empty or zero: on a span, an attribute that is there has a value."""
    return {name: value for name, value in pairs if value}
