"""Owns running guards over the texts of a phase: each is given what it asks for, and its failure is kept as a fact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from proxy.openai_json import canonical
from proxy.policy import user_text
from proxy.ports import Clock, Context, Guard
from proxy.terms import Facts, GuardResult, Json, Phase, ToolCall


def scanned(
    guards: Mapping[str, Guard], names: Sequence[str], phase: Phase, facts: Facts, clock: Clock
) -> dict[str, GuardResult]:
    """Return what each of these guards says at a phase; those that weigh the others' signals come last."""
    results: dict[str, GuardResult] = {}
    for name in sorted(names, key=lambda name: (guards[name].context is Context.SIGNALS, name)):
        guard = guards[name]
        results[name] = _scan(
            guard, _text(guard.context, phase, facts), _context(guard.context, phase, facts, results), clock
        )
    return results


def _scan(guard: Guard, text: str, context: Sequence[str], clock: Clock) -> GuardResult:
    began = clock.monotonic_ms()
    try:
        findings, error = tuple(guard.scan(text, context)), ""
    except Exception as failure:  # noqa: BLE001 a guard is a plug-in: whatever it raises follows the rule's onError
        findings, error = (), type(failure).__name__
    took = clock.monotonic_ms() - began
    return GuardResult(name=guard.name, version=guard.version, findings=findings, error=error, ms=took)


def _text(context: Context, phase: Phase, facts: Facts) -> str:
    if phase is Phase.TOOL_CALL and facts.tool:
        return written(facts.tool) if context is Context.CALLS else facts.tool.arguments
    if phase is Phase.TOOL_RESULT and facts.result:
        return facts.result.text
    if phase is Phase.RESPONSE and facts.response:
        return facts.response.text
    return user_text(facts.request)


def _context(context: Context, phase: Phase, facts: Facts, results: Mapping[str, GuardResult]) -> list[str]:
    if context is Context.SIGNALS:
        return [
            f"{result.name} {found.label} {found.score}" for result in results.values() for found in result.findings
        ]
    if context is Context.CALLS:
        return [written(call) for message in facts.request.messages for call in message.tool_calls]
    if context is Context.EVIDENCE:
        return [message.text for message in facts.request.messages if message.role in ("tool", "user")]
    if phase is Phase.REQUEST:
        return [message.text for message in facts.request.messages if message.role == "user"][:-1]
    return []


def written(call: ToolCall) -> str:
    """Return a call as its name and its arguments as canonical JSON; what is no JSON stays as it is."""
    return f"{call.name} {canonical(call.arguments)}"


def rewritten(arguments: str, said: Mapping[str, Json]) -> str:
    """Return a call's arguments as canonical JSON, with what a rule says in the place of some of them."""
    return canonical(json.dumps({**json.loads(arguments), **said}))
