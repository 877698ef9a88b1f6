"""Owns the proof of what the section `escalation` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.policy.rule import OnError
from proxy.terms import Escalation, HandoffBy, Mode, Phase, Verdict
from tests.policy.written import compiled, entry, lowered, problems

REQUEST = Phase.REQUEST


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            entry("escalation", when="conversation.turn > 9"),
            [("e", REQUEST, Verdict.ESCALATE, "conversation.turn > 9", False, ())],
            id="escalation",
        ),
        pytest.param(
            entry("escalation", when="true", phase="response"),
            [("e", Phase.RESPONSE, Verdict.ESCALATE, "true", False, ())],
            id="escalation by a reply",
        ),
    ],
)
def test_each_section_lowers_to_rules(spec: str, rules: list[tuple[Any, ...]]) -> None:
    """A section is shorthand: what it means is what its rules say."""
    assert rules == lowered(spec)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            entry("escalation", when="true", handoff="tool"),
            ["`handoff: tool` and `tool` come together"],
            id="a hand-off tool without a name",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param(
            entry("escalation", when="true", to="gold", handoff="header"),
            "escalation",
            Escalation(queue="gold", by=HandoffBy.HEADER),
            id="the section",
        ),
        pytest.param(
            entry("escalation", when="true", to="gold", handoff="tool", tool="transfer_*"),
            "escalation",
            Escalation(queue="gold", by=HandoffBy.TOOL, tool="transfer_*"),
            id="the section with a tool",
        ),
        pytest.param(entry("escalation", when="true", mode="shadow"), "mode", Mode.SHADOW, id="mode of a hand-off"),
        pytest.param(entry("escalation", when="true", message="hi"), "message", "hi", id="message of a hand-off"),
        pytest.param(
            entry("escalation", when="true", onError="allow"), "on_error", OnError.ALLOW, id="onError of a hand-off"
        ),
    ],
)
def test_what_leads_to_humans_is_in_the_rule(spec: str, field: str, expected: object) -> None:
    """Every key of redactions, labels, hand-offs and approvals comes out in the last rule that is lowered."""
    assert expected == getattr(compiled(spec).rules[-1], field)
