"""Owns the proof of what the section `topics` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.terms import Phase, Verdict
from tests.policy.written import decided, facts, found, lowered, problems, topics

REQUEST, DENY = Phase.REQUEST, Verdict.DENY


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            topics(allow=["orders"], deny=["medical"], uncertain="deny"),
            [
                (
                    "topics-denied",
                    REQUEST,
                    DENY,
                    'guards.topics.score >= 0.6 && guards.topics.label in ["medical"]',
                    False,
                    (),
                ),
                (
                    "topics-outside",
                    REQUEST,
                    DENY,
                    'guards.topics.score >= 0.6 && !(guards.topics.label in ["orders"])',
                    False,
                    (),
                ),
                ("topics-uncertain", REQUEST, DENY, "guards.topics.score < 0.6", False, ()),
            ],
            id="topics",
        ),
        pytest.param(
            topics(deny=["medical"]),
            [
                (
                    "topics-denied",
                    REQUEST,
                    DENY,
                    'guards.topics.score >= 0.6 && guards.topics.label in ["medical"]',
                    False,
                    (),
                )
            ],
            id="topics, denied only",
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
            topics(), ["`topics` names no topic: give `allow`, `deny` or both"], id="topics that bound nothing"
        ),
        pytest.param(
            topics(allow=["orders"], deny=["orders"]),
            ["the topic `orders` is both allowed and denied"],
            id="a topic on both sides",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]


@pytest.mark.parametrize(
    ("uncertain", "expected"),
    [("allow", Verdict.ALLOW), ("escalate", Verdict.ESCALATE), ("deny", Verdict.DENY)],
)
def test_what_nobody_is_sure_of_goes_where_the_section_says(uncertain: str, expected: Verdict) -> None:
    """Below the score that is asked for, the label counts for nothing."""
    spec = topics(allow=["orders"], minScore=0.9, uncertain=uncertain)

    decision = decided(spec, facts(guards=found("orders", 0.5)))

    assert (expected, expected is Verdict.ESCALATE) == (decision.verdict, decision.escalation is not None)
