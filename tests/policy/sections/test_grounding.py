"""Owns the proof of what the section `grounding` means: what counts as a claim, and as evidence for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.terms import Escalation, Facts, Message, Phase, Result, ToolCall, Verdict
from tests.policy.written import compiled, decided, problems, replied, request


def grounding(**keys: Any) -> str:
    """Write a policy that wants claims to be grounded."""
    return f"  grounding: {json.dumps({'action': 'deny', **keys})}"


def reply(text: str, *, age_s: int = 0, verified: bool = True) -> Facts:
    """Make the facts of a reply after the user has said $1 and the tool `look` has told $2."""
    messages = (
        Message(role="user", text="I paid $1"),
        Message(role="assistant", text="it is $9", tool_calls=(ToolCall(id="c", name="look", arguments="{}"),)),
        Message(role="tool", text='{"total": "$2"}', tool_call_id="c"),
    )
    result = Result(tool="look", call_id="c", text="", message=2, verified=verified, age_ms=age_s * 1000)
    return replied(text, request=request(messages=messages), results=(result,))


@pytest.mark.parametrize(
    ("keys", "text", "expected"),
    [
        ({}, "You paid $1", Verdict.ALLOW),
        ({}, 'The total is $2"', Verdict.ALLOW),
        ({}, "You get $3", Verdict.DENY),
        ({}, "You get $9", Verdict.DENY),
        ({"facts": ["Delivery costs $3"]}, "It costs $3", Verdict.ALLOW),
        ({"claims": ["money"]}, "You get $3", Verdict.DENY),
        ({"claims": ["date"]}, "You get $3", Verdict.ALLOW),
        ({"minScore": 0.9}, "You get $3", Verdict.DENY),
        ({"minScore": 1}, "You get $3", Verdict.ALLOW),
        ({"evidence": {"tools": ["lo*", "x"]}}, '$2"', Verdict.ALLOW),
        ({"evidence": {"tools": ["get_*"]}}, '$2"', Verdict.DENY),
        ({"evidence": {"tools": ["get_*"]}}, "$1", Verdict.ALLOW),
        ({"action": "annotate"}, "You get $3", Verdict.ANNOTATE),
        ({"action": "escalate"}, "You get $3", Verdict.ESCALATE),
    ],
)
def test_what_a_reply_claims_has_to_stand_somewhere(keys: dict[str, Any], text: str, expected: Verdict) -> None:
    """What the user said, tools told or the policy knows supports a claim; what the agent said before does not."""
    assert expected is decided(grounding(**keys), reply(text), Phase.RESPONSE).verdict


@pytest.mark.parametrize(
    ("evidence", "age_s", "verified", "expected"),
    [
        ({"maxAge": "5m"}, 300, True, Verdict.ALLOW),
        ({"maxAge": "5m"}, 301, True, Verdict.DENY),
        ({"maxAge": "5m"}, 0, False, Verdict.DENY),
        ({"verified": True}, 999, True, Verdict.ALLOW),
        ({"verified": True}, 0, False, Verdict.DENY),
        ({"verified": False}, 0, False, Verdict.ALLOW),
    ],
)
def test_evidence_is_bounded(evidence: dict[str, Any], age_s: int, verified: bool, expected: Verdict) -> None:
    """Only of a call that was let through is known how old its result is."""
    decision = decided(grounding(evidence=evidence), reply('$2"', age_s=age_s, verified=verified), Phase.RESPONSE)

    assert expected is decision.verdict


def test_its_rule_says_what_the_section_says() -> None:
    """A denial holds the reply and has its text, a hand-off its queue; a note holds nothing."""
    denies, notes, hands_over = (
        compiled(grounding(**keys)).rules[0]
        for keys in (
            {"message": "Let me check."},
            {"action": "annotate"},
            {"action": "escalate", "to": "gold", "message": "A moment."},
        )
    )

    assert ("p/grounding@1.0.0", "Let me check.", True) == (denies.id, denies.message, denies.hold)
    assert ({"grounding": "off"}, False) == (notes.annotations, notes.hold)
    assert (Escalation(queue="gold"), "A moment.", True) == (hands_over.escalation, hands_over.message, hands_over.hold)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"action": "annotate", "message": "x"},
            "p.yaml:5:48: `message` changes nothing here: it is for `action: escalate` or `deny`",
        ),
        ({"to": "gold"}, "p.yaml:5:39: `to` changes nothing here: it is for `action: escalate`"),
    ],
    ids=["a text nobody reads", "a queue for nobody"],
)
def test_what_makes_no_sense_is_told(keys: dict[str, Any], expected: str) -> None:
    """A key that changes nothing is a problem that says where it is."""
    assert [expected] == problems(grounding(**keys))
