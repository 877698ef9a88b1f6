"""Owns the proof of what a walk asks of policy, and that guards which fail deny."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from proxy.ports import Context
from proxy.terms import Finding, State, Verdict
from tests.fakes import Script
from tests.pipeline.calls import ASK, CUSTOMER_TOPIC, check_books
from tests.walking import CONFIG, Walked, compiled

TOPICS = "apiVersion: handrail.dev/v1alpha1\nkind: Topics\ntopics: {x: [one, two, three], y: [four, five, six]}\n"


class Broken:
    """A guard that fails."""

    name, version, labels, lookbehind, lookahead = "topics", "1", ("x",), 0, 0
    context = Context.SAID

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Fail."""
        raise ValueError("secret detail")


async def test_a_failing_guard_fails_closed(tmp_path: Path) -> None:
    """A guard that raises is on record by the error's name alone, and the rule that reads it follows its onError."""
    (tmp_path / "topics.yaml").write_text(TOPICS)
    walked = Walked(snapshot=await asyncio.to_thread(compiled, CONFIG, CUSTOMER_TOPIC, tmp_path))
    walked.house.snapshot = replace(walked.house.snapshot, guards={"topics": Broken()})

    await walked.call(ASK)

    exchange = check_books(walked, State.DENIED, [])
    assert ("policy_error", Verdict.DENY) == (exchange.decisions[0].reason, exchange.decisions[0].verdict)
    assert "ValueError" == exchange.guards[0].error


class Watching:
    """A guard that finds every text, and remembers it."""

    name, version, labels, lookbehind, lookahead = "topics", "1", ("x", "y"), 0, 0
    context = Context.SAID

    def __init__(self) -> None:
        self.texts: list[str] = []

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Find the text."""
        self.texts.append(text)
        return [Finding(guard="topics", label="y", end=len(text))]


EVERYWHERE = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: a, phase: request, when: 'guards.topics.label == "x"', action: deny, message: no}
    - {id: b, phase: tool_call, when: 'guards.topics.label == "x"', action: deny, message: no}
    - {id: c, phase: response, when: 'guards.topics.label == "x"', action: deny, message: no}
"""


async def test_guards_read_what_their_phase_is_about(tmp_path: Path) -> None:
    """A guard scans the customer's words, then the arguments of a tool call, then the words of the reply."""
    (tmp_path / "topics.yaml").write_text(TOPICS)
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
    reply = {"model": "large", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    snapshot = await asyncio.to_thread(compiled, CONFIG, EVERYWHERE, tmp_path)
    walked, guard = Walked(Script(chunks=(json.dumps(reply).encode(),)), snapshot=snapshot), Watching()
    walked.house.snapshot = replace(snapshot, guards={"topics": guard})

    await walked.call(ASK)

    check_books(walked, State.COMPLETE, [State.COMPLETE])
    assert ["Hi", '{"a": 1}', "Let me see."] == guard.texts
