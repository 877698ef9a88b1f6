"""Owns the proof of what a search is priced at."""

import pytest

from proxy.cel.automata import positions, price, states

MANY = 1 << 31


@pytest.mark.parametrize(
    ("pattern", "bound"),
    [
        pytest.param("refund", 6, id="a word"),
        pytest.param("(?i)refund", 6, id="a word in any case"),
        pytest.param("ab|cd", 5 * 2, id="two words"),
        pytest.param("(a|b) (?:c|d|e)", 13 * 2 * 3, id="each choice with each"),
        pytest.param("charge ?back", 12 * 2, id="an option doubles"),
        pytest.param("a[bc-]", 6 * 3, id="a class is a choice"),
        pytest.param("a?" * 99, 198 << 99, id="options without end"),
        pytest.param("((a|b)|c)", MANY, id="groups in groups"),
        pytest.param("ab*", MANY, id="a repetition"),
        pytest.param("a.", MANY, id="any character"),
        pytest.param("[a-z]", MANY, id="a range"),
        pytest.param("[^a]", MANY, id="all but one"),
        pytest.param("\\pL", MANY, id="a Unicode class"),
    ],
)
def test_the_states_of_words(pattern: str, bound: int) -> None:
    """Words with options have as many states as characters when spelled out; anything else has no such bound."""
    assert states(pattern) == bound


@pytest.mark.parametrize(
    ("pattern", "bound"),
    [
        pytest.param("abc", 1 + 1, id="letters that differ are never read at once"),
        pytest.param("aAaa", 1 + 4, id="letters that do not"),
        pytest.param("x.{0,80}y", 1 + 1 + 80 + 1, id="a count and its dot"),
        pytest.param("x{3,}", 1 + 3 + 1, id="an open count"),
        pytest.param("[]a]{9}[^]]\\pL[[:alpha:]b]", 1 + 9 + 4 + 1, id="classes"),
        pytest.param("(ab){9}", MANY, id="a repeated group"),
        pytest.param("\\Q[\\E", MANY, id="quoting"),
    ],
)
def test_the_positions_of_a_pattern(pattern: str, bound: int) -> None:
    """What can be active at once is counted from the pattern, too much rather than too little."""
    assert positions(pattern) == bound


@pytest.mark.parametrize(
    ("pattern", "program", "least", "most"),
    [
        pytest.param("(?i)charge ?back", 40, 0.01, 0.02, id="words pay for reading"),
        pytest.param("x.{0,80}z", 500, 4, 6, id="positions"),
        pytest.param("(ab){9}", 20, 1, 2, id="never more than the program has"),
        pytest.param("x{999}", 9999, 80, 90, id="states that no cache holds"),
    ],
)
def test_the_price(pattern: str, program: int, least: float, most: float) -> None:
    """Units per byte follow what the pattern can be made to cost."""
    units, characters = price(pattern, program)

    assert least <= units / characters <= most
