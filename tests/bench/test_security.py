"""Owns the proof of the security rows' frame: what was not run is not met, and what is not met is an exit code."""

from __future__ import annotations

import pytest

from bench.security.outcomes import Line, count, enough, page, passed, shown

MET = Line(row="S1", what="hits", figure="0", target="0", met=True)
NOT_MET = Line(row="S1", what="hits", figure="2", target="0", met=False, notes=("in stdout",))
NOT_RUN = Line(row="S1", what="known CVEs", target="0")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([MET], True, id="met"),
        pytest.param([MET, NOT_MET], False, id="one is not"),
        pytest.param([MET, NOT_RUN], True, id="one was not run"),
        pytest.param([NOT_RUN], False, id="nothing was run"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_all_that_ran_has_to_be_met(lines: list[Line], expected: bool) -> None:
    """One figure that is not met fails the run, and so does a run of nothing."""
    assert expected == passed(lines)


def test_what_was_not_run_is_not_met() -> None:
    """It says so, in the terminal and on the page."""
    assert "not run" in shown([NOT_RUN])
    assert "| S1 | known CVEs |  | 0 | not run |" in page([NOT_RUN], "command", "commit", 1)


def test_a_thing_that_must_not_be_is_counted() -> None:
    """One is too many, and is named."""
    lines = [count("S1", "hits", []), count("S1", "hits", ["in stdout"])]

    assert [True, False] == [line.met for line in lines]
    assert ("in stdout",) == lines[1].notes


def test_too_few_are_not_enough() -> None:
    """A row that tried less than it says is not met."""
    assert [False, True] == [enough("S1", "sinks", number, 12).met for number in (11, 12)]
