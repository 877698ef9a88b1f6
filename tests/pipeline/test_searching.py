"""Owns the proof of proxy/pipeline/searching.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.errors import HandrailError
from proxy.guards import pii, secrets
from proxy.pipeline.searching import MOST_FINDINGS, PIECE, Finder
from proxy.policy import Searched, Sought
from proxy.policy.pattern import MOST_WHOLE, Pattern
from proxy.ports import Context
from proxy.terms import Finding

GUARDS = (pii.create(()), secrets.create(()))
LONG = "so it goes. " * (PIECE // 4)


class Counting:
    """A guard that finds nothing, and counts how often it is asked; of the text `broken` it knows nothing."""

    name = "counting"
    version = "1"
    labels: tuple[str, ...] = ()
    context = Context.SAID
    lookbehind = lookahead = 1

    def __init__(self) -> None:
        self.asked = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return one finding for each x."""
        self.asked += 1
        if text == "broken":
            raise KeyError(text)
        return [Finding(guard=self.name, label="x", start=n, end=n + 1) for n, sign in enumerate(text) if sign == "x"]


def told(finder: Finder, sought: Sought) -> Searched:
    """Search to the end."""
    *_, known = finder.search(sought)
    assert known is not None
    return known


def labels(known: Searched) -> list[tuple[str, int]]:
    """Return what was found, and where."""
    return [(finding.label, finding.start) for finding in known.findings]


def test_all_guards_find_in_all_of_a_text() -> None:
    """What is found is in order, wherever it stands and whoever finds it."""
    text = f"{LONG}a@b.cc {LONG}password=hunter2-hunter2 {LONG}c@d.ee"

    found = labels(told(Finder(GUARDS), Sought(text)))

    assert [("email", text.index("a@")), ("assigned", text.index("hunter2")), ("email", text.index("c@"))] == found


@pytest.mark.parametrize(
    "source", [pytest.param(r"\bT-[0-9]{2,9}\b", id="bounded"), pytest.param(r"\bT-[0-9]+\b", id="without a bound")]
)
@pytest.mark.parametrize("shift", [pytest.param(shift, id=f"{shift} later") for shift in range(0, 24, 3)])
def test_a_pattern_finds_the_same_wherever_pieces_part(source: str, shift: int) -> None:
    """A find across two pieces is one find, and a word is not taken for two where one ends."""
    text = f"{('x ' * PIECE)[: PIECE - shift]} T-123456 {LONG}T-12 {LONG}XT-12 T-1"

    found = labels(told(Finder(()), Sought(text, Pattern(source))))

    assert [("pattern", text.index("T-123456")), ("pattern", text.index("T-12 "))] == found[:2]
    assert found == [("pattern", one.start) for one in Pattern(source).scan(text, ())]


@pytest.mark.parametrize(
    ("sought", "error"),
    [
        pytest.param(Sought("broken"), "KeyError", id="a guard that raises"),
        pytest.param(Sought("x" * (MOST_FINDINGS + 1)), "too_many", id="too many finds"),
        pytest.param(Sought("xy" * (MOST_FINDINGS + 1), Pattern("x+")), "too_many", id="too many finds of a pattern"),
        pytest.param(Sought("y" * (MOST_WHOLE + 1), Pattern("x+")), "too_long", id="too long to be searched whole"),
    ],
)
def test_what_cannot_be_searched_whole_is_an_error(sought: Sought, error: str) -> None:
    """What was found of it counts for nothing."""
    assert Searched(error=error) == told(Finder((Counting(),)), sought)


def test_a_text_is_searched_piece_by_piece() -> None:
    """After each piece others can have their turn; a pattern without a bound gives way after each find."""
    steps = [*Finder((Counting(),)).search(Sought("y" * 3 * PIECE))]
    finds = [*Finder(()).search(Sought("x y x", Pattern("x+")))]

    assert [None, None, None, Searched()] == steps
    assert [None, None] == finds[:-1]


def test_a_text_that_comes_again_is_not_searched_again() -> None:
    """Neither is one that could not be searched; another pattern is another search."""
    guard = Counting()
    finder = Finder((guard,))

    first = [told(finder, Sought(text)) for text in ("x", "broken")]
    again = [[*finder.search(Sought(text))] for text in ("x", "broken")]

    assert [[one] for one in first] == again
    assert 2 == guard.asked
    assert [0, 1] == [len(told(finder, Sought("xz", Pattern(sign))).findings) for sign in "yz"]


@pytest.mark.parametrize(
    "bound", [pytest.param({"texts": 2}, id="texts"), pytest.param({"findings": 2}, id="findings")]
)
def test_what_is_remembered_has_a_bound(bound: dict[str, int]) -> None:
    """What was not asked for for longest is forgotten first."""
    guard = Counting()
    finder = Finder((guard,), **bound)

    for text in ("xa", "xb", "xa", "xc", "xa", "xb"):
        told(finder, Sought(text))

    assert 4 == guard.asked


def test_two_calls_may_search_the_same_text_at_once() -> None:
    """Each comes to the same, and what is found counts once for the bound."""
    finder = Finder((Counting(),))
    one, other = finder.search(Sought("x")), finder.search(Sought("x"))

    assert (None, None) == (next(one), next(other))
    assert next(one) == next(other) != Searched()
    assert 1 == finder._findings


def test_a_text_can_be_searched_in_one_go() -> None:
    """For who has the time; what cannot be searched raises."""
    finder = Finder((Counting(),))

    assert ["x"] == [finding.label for finding in finder.find("x")]
    with pytest.raises(HandrailError) as raised:
        finder.find("broken")
    assert "KeyError" == raised.value.code
