"""Owns the proof of what the section `data` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.terms import Phase, Verdict
from tests.policy.written import entry, lowered, problems

REQUEST = Phase.REQUEST


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            entry("data", direction="in", kinds=["email"], action="hash"),
            [("e", REQUEST, Verdict.REDACT, "true", False, ())],
            id="data",
        ),
        pytest.param(
            entry("data", direction="tool_args", kinds=["email"], action="tokenize"),
            [("e", Phase.TOOL_CALL, Verdict.REDACT, "true", False, ())],
            id="arguments",
        ),
        pytest.param(
            entry("data", direction="out", kinds=["email"], action="hash", stream="window"),
            [("e", Phase.CHUNK, Verdict.REDACT, "true", False, ())],
            id="a window",
        ),
        pytest.param(
            entry("data", direction="out", kinds=["email"], action="deny", stream="hold"),
            [("e", Phase.RESPONSE, Verdict.DENY, "true", False, ())],
            id="a hold",
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
            entry("data", direction="in", kinds=["email"], action="mask", message="no"),
            ["`message` changes nothing here: it is for `action: deny`"],
            id="a text for a redaction",
        ),
        pytest.param(
            entry("data", direction="in", kinds=["email"], action="mask", stream="window"),
            ["`stream` changes nothing here: it is for `direction: out`"],
            id="a window of a request",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]
