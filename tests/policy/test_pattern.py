"""Owns the proof of proxy/policy/pattern.py."""

from __future__ import annotations

import pytest

from proxy import cel
from proxy.errors import TooLarge
from proxy.policy.pattern import LONGEST, MOST_WHOLE, Pattern


@pytest.mark.parametrize(
    ("source", "reach", "bounded"),
    [
        pytest.param("ab?", 3, True, id="its longest find"),
        pytest.param("a{500}" * (LONGEST // 500), LONGEST - LONGEST % 500 + 1, True, id="a long one"),
        pytest.param("a{512}" * (LONGEST // 512), 0, False, id="too long a one"),
        pytest.param("a+", 0, False, id="no bound"),
    ],
)
def test_a_pattern_looks_as_far_as_its_longest_find(source: str, reach: int, bounded: bool) -> None:
    """And a character more, which decides about word boundaries; without a bound it sees the whole text."""
    pattern = Pattern(source)

    assert (reach, reach, bounded) == (pattern.lookbehind, pattern.lookahead, pattern.bounded)


def test_patterns_of_one_source_are_equal() -> None:
    """So a text is searched once for all rules that look for the same."""
    assert 2 == len({Pattern("a"), Pattern("a"), Pattern("b")})
    assert Pattern("a") != "a"


def test_a_find_has_a_character_at_least() -> None:
    """What matches nothing, matches everywhere."""
    assert [(1, 2)] == [(one.start, one.end) for one in Pattern("x*").scan("axa", ())]


def test_a_text_that_is_too_long_is_not_searched_in_part() -> None:
    """Only a pattern without a bound has to see all of it."""
    text = "a" * (MOST_WHOLE + 1)

    assert 1 == len(Pattern("a{1,9}$").scan(text, ()))
    with pytest.raises(TooLarge):
        Pattern("a+$").scan(text, ())


@pytest.mark.parametrize(
    ("text", "least"),
    [pytest.param("y" * 64_000, 1000, id="by its characters"), pytest.param("x" * 1000, 12_000, id="by its finds")],
)
def test_a_paid_search_is_paid_for_all_it_looks_at(text: str, least: int) -> None:
    """It ends where the budget does."""
    budget = cel.Budget(100_000)

    assert text.count("x") == len([*Pattern("x").paid(text, budget)])
    assert least <= 100_000 - budget.left <= 2 * least
    with pytest.raises(cel.CelError, match="budget"):
        list(Pattern("x").paid(text, cel.Budget(least - 1)))
