"""Owns the calls and replies that the tests of the hallway share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy.terms import Exchange, State
from tests.fakes import Script
from tests.walking import CONFIG, Walked, compiled

HEAD = {"content-type": "text/event-stream"}

ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Hi"}]}

STREAM = {**ASK, "stream": True}


def event(content: str | None = None, **fields: object) -> bytes:
    """Make one event of a stream."""
    choice = {"index": 0, "delta": {"content": content} if content else {}, **fields}
    return b"data: " + json.dumps({"id": "c", "model": "large", "choices": [choice]}).encode() + b"\n\n"


HELLO, STOP = event("Hello"), event(finish_reason="stop")

USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}\n\n'

DONE = b"data: [DONE]\n\n"

WHOLE = (HELLO, STOP, USAGE, DONE)

CUSTOMER_TOPIC = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  onError: deny
  rules: [{id: topic, phase: request, when: 'guards.topics.label == "x"', action: deny, message: no}]
"""


def check_books(walked: Walked, state: State, attempts: Sequence[State]) -> Exchange:
    """Check that there is exactly one record, that every attempt is settled once, and that nothing is left open."""
    (exchange,) = walked.seen

    assert (state, list(attempts)) == (exchange.state, [attempt.state for attempt in exchange.attempts])
    assert (0, set()) == (walked.upstream.open, walked.house.open_holds)
    return exchange


SPEAKS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  data: [{id: mail, direction: in, kinds: [email], action: tokenize}]
  actions: [{id: n, tools: [refund], totals: {usd: {value: tool.args.to, limit: 5}}}]
  rules:
    - {id: no, phase: tool_call, when: 'true', action: deny, onDeny: explain, messageExpression: '"No " + tool.args.to'}
    - {id: key, phase: response, when: '{"a": true}[request.user_text]', action: annotate, annotations: {a: b}}
"""


def asks(*choices: int) -> Script:
    """Script a reply in which each of these choices calls for a refund to the first placeholder of the request."""
    call = {"id": "c1", "type": "function", "function": {"name": "refund", "arguments": '{"to": "ECHO"}'}}
    said = [
        {
            "index": n,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": "", "tool_calls": [call]},
        }
        for n in choices
    ]
    return Script(
        chunks=(json.dumps({"id": "c", "model": "large", "choices": said}).encode(),), echo=r"\[EMAIL_[0-9A-F]{8}\]"
    )


async def mailed(tmp_path: Path, *scripts: Script) -> Walked:
    """Walk one call whose values rules speak of."""
    walked = Walked(*scripts, snapshot=await asyncio.to_thread(compiled, CONFIG, SPEAKS, tmp_path))
    tool = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}
    await walked.call({**ASK, "messages": [{"role": "user", "content": "ann@example.org"}], "tools": [tool]})
    return walked
