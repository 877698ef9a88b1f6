"""Owns the proof of the repeat guard: what is a duplicate, what is a loop, and that histories are read to a bound."""

from __future__ import annotations

import pytest

from proxy.guards.repeat import READ_CALLS, create
from proxy.terms import Finding

GUARD = create(())


def label(text: str, *calls: str) -> str:
    """Return what a call is after earlier ones; empty: nothing was found."""
    return "".join(found.label for found in GUARD.scan(text, calls))


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        pytest.param("A", "", id="the first call"),
        pytest.param("A B C", "", id="other calls"),
        pytest.param("A A", "duplicate", id="again at once"),
        pytest.param("A B C A", "duplicate", id="again later"),
        pytest.param("A B A", "duplicate", id="a turn is not over"),
        pytest.param("A B A B", "loop", id="two in turn"),
        pytest.param("C A B A B", "loop", id="two in turn after another"),
        pytest.param("A B C B", "duplicate", id="no turn"),
        pytest.param("A A A", "loop", id="three times"),
        pytest.param("A B A C A", "loop", id="three times apart"),
        pytest.param("A A A B", "", id="out of the loop"),
    ],
)
def test_the_newest_call_is_told_by_the_ones_before(calls: str, expected: str) -> None:
    """Twice is a duplicate; three times, or two calls in turn, is a loop."""
    *before, newest = calls.split()

    assert expected == label(newest, *before)


def test_other_arguments_are_another_call() -> None:
    """The arguments count, not the name alone."""
    assert "" == label('get_order {"id":"1"}', 'get_order {"id":"2"}')


def test_a_finding_covers_the_call_and_says_how_often() -> None:
    """The finding spans the call and counts it."""
    expected = Finding(guard="repeat", label="duplicate", end=1, reason="call 2 of its kind")

    assert [expected] == GUARD.scan("A", ["A"])


def test_a_long_history_is_read_at_its_end() -> None:
    """What lies farther back than the bound is not compared, so time has one."""
    filler = [f"call {number}" for number in range(READ_CALLS - 1)]

    assert ("duplicate", "") == (label("A", "A", *filler), label("A", "A", *filler, "one more"))
