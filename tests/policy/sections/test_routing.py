"""Owns the proof of what the section `routing` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.terms import Phase, Verdict, Way
from tests.policy.written import entry, lowered, only, problems

REQUEST = Phase.REQUEST


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            entry("routing", when="true", to="small"), [("e", REQUEST, Verdict.ROUTE, "true", False, ())], id="routing"
        ),
    ],
)
def test_each_section_lowers_to_rules(spec: str, rules: list[tuple[Any, ...]]) -> None:
    """A section is shorthand: what it means is what its rules say."""
    assert rules == lowered(spec)


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param(
            entry("routing", when="true", to="small", fallback=["cheap"]),
            "way",
            Way(to="small", fallback=("cheap",), rule="p/e@1.0.0"),
            id="to",
        ),
        pytest.param(
            entry("routing", when="true", to={"cheapest": {"tags": ["b", "a", "b"]}}),
            "way",
            Way(cheapest=True, tags=("a", "b"), rule="p/e@1.0.0"),
            id="cheapest",
        ),
    ],
)
def test_each_key_changes_its_rule(spec: str, field: str, expected: object) -> None:
    """Every accepted key changes the rule, and the rule says what it was given."""
    assert expected == getattr(only(spec), field)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            entry("routing", when="true", to="small") + "\n" + entry("spend", scope="request", limitUSD=1),
            ["`e` is already the id of another rule"],
            id="the same id twice",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]
