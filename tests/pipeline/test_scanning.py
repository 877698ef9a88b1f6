"""Owns the proof of proxy/pipeline/scanning.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.pipeline.scanning import scanned
from proxy.ports import Context
from proxy.terms import (
    Caller,
    Facts,
    Finding,
    Level,
    Message,
    Phase,
    Reply,
    Request,
    Result,
    Session,
    ToolCall,
)
from tests.fakes import FakeClock

CALL = ToolCall(id="c1", name="refund", arguments='{"b": 1, "a": 2}')
MESSAGES = (
    Message(role="user", text="first"),
    Message(role="assistant", tool_calls=(CALL,)),
    Message(role="tool", text="result", tool_call_id="c1"),
    Message(role="user", text="last"),
)
FACTS = Facts(
    at_ms=0,
    caller=Caller(agent="a", level=Level.EXECUTE, principal="p"),
    request=Request(dialect="chat", model="m", messages=MESSAGES, body={}, raw=b""),
    session=Session(id="s"),
    tool=CALL,
    response=Reply(text="reply"),
    result=Result(tool="refund", call_id="c1", text="result"),
)


class Echo:
    """A guard that says what it was given."""

    version = "1"
    labels: tuple[str, ...] = ()
    lookbehind = lookahead = 0

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self.context = context

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return text and context as a finding."""
        if text == "reply" and self.name == "broken":
            raise ValueError(text)
        return [Finding(guard=self.name, label=text, score=0.5, reason="|".join(context))]


@pytest.mark.parametrize(
    ("context", "phase", "expected"),
    [
        pytest.param(Context.SAID, Phase.REQUEST, ("last", "first"), id="said before"),
        pytest.param(Context.SAID, Phase.TOOL_CALL, (CALL.arguments, ""), id="arguments"),
        pytest.param(Context.SAID, Phase.RESPONSE, ("reply", ""), id="reply"),
        pytest.param(Context.SAID, Phase.TOOL_RESULT, ("result", ""), id="result"),
        pytest.param(Context.EVIDENCE, Phase.RESPONSE, ("reply", "first|result|last"), id="evidence"),
        pytest.param(
            Context.CALLS, Phase.TOOL_CALL, ('refund {"a":2,"b":1}', 'refund {"a":2,"b":1}'), id="earlier calls"
        ),
    ],
)
def test_a_guard_gets_what_it_asks_for(context: Context, phase: Phase, expected: tuple[str, str]) -> None:
    """The text is that of the phase, the context what the guard's `context` names."""
    results = scanned({"echo": Echo("echo", context)}, ["echo"], phase, FACTS, FakeClock())

    (finding,) = results["echo"].findings
    assert expected == (finding.label, finding.reason)


def test_signals_are_what_the_others_said() -> None:
    """A guard that weighs signals runs after the others, whatever its name."""
    guards = {"a": Echo("a", Context.SIGNALS), "z": Echo("z", Context.SAID)}

    results = scanned(guards, ["a", "z"], Phase.REQUEST, FACTS, FakeClock())

    assert "z last 0.5" == results["a"].findings[0].reason


def test_a_guard_that_raises_has_failed() -> None:
    """The failure is a fact: the rule's onError says what follows."""
    results = scanned({"broken": Echo("broken", Context.SAID)}, ["broken"], Phase.RESPONSE, FACTS, FakeClock())

    assert ("ValueError", ()) == (results["broken"].error, results["broken"].findings)
