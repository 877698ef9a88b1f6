"""Owns the proof of what holds for all sections: ids are unique, and a policy says something."""

from __future__ import annotations

import pytest

from tests.policy.written import entry, lowered, problems


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            "  rules: []",
            [
                "this policy says nothing: "
                "give it topics, actions, spend, data, grounding, voice, escalation, routing, maturity, rules"
            ],
            id="nothing said",
        ),
        pytest.param(
            entry("escalation", when="true") + "\n" + entry("data", direction="in", kinds=["email"], action="mask"),
            ["`e` is already the id of another rule"],
            id="one id in two sections",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A policy that says nothing, or that calls two rules by one id, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]


def test_sections_lower_in_their_order() -> None:
    """Rules come section by section, whatever order the document has them in."""
    spec = entry("rules", phase="request", action="deny", when="true").replace('"e"', '"last"')

    found = lowered(spec + "\n" + entry("escalation", when="true"))

    assert ["e", "last"] == [rule[0] for rule in found]
