"""Owns the proof of stretches: what covers a text covers it the same however the text comes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.stretches import ENDLESS, Covering, apart, covered, reworded, strings, texts
from proxy.terms import ChoiceDelta, Cover, Delta, ToolCallDelta

TEXT = "abcdefghijklmnopqrst"


def covers() -> st.SearchStrategy[list[Cover]]:
    """Draw covers that may overlap."""
    stretches = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=6)
    return stretches.map(lambda found: [Cover(start=at, end=at + size, text="*") for at, size in found])


@given(covers())
def test_nothing_that_any_rule_covers_is_left(found: list[Cover]) -> None:
    """However covers of several rules overlap, no character that one of them covers leaves."""
    after = covered(TEXT, apart(found))

    assert {*TEXT} - {c for one in found for c in TEXT[one.start : one.end]} == {*after} - {"*"}


@given(covers(), st.lists(st.integers(0, len(TEXT))))
def test_pieces_are_covered_as_the_whole_is(found: list[Cover], cuts: list[int]) -> None:
    """A text in any pieces says what the whole text says; each cover's words stand where it begins."""
    kept, places = apart(found), [0, *sorted(cuts), len(TEXT)]
    pieces = [covered(TEXT[a:b], kept, a) for a, b in pairwise(places)]

    assert covered(TEXT, kept) == "".join(pieces)


def test_deltas_are_covered_channel_by_channel() -> None:
    """Each text of each choice counts for itself; a delta that nothing covers is the very same."""
    first = Delta(frame=b"1", choices=(ChoiceDelta(text="abc", reasoning="abc"), ChoiceDelta(index=1, text="abc")))
    call = ToolCallDelta(index=0, id="c", name="f", arguments="abc")
    second = Delta(frame=b"2", choices=(ChoiceDelta(text="def", tool_calls=(call,)),))
    covering = Covering(
        {(0, "text", 0): [Cover(start=2, end=4, text="*")], (0, "arguments", 0): [Cover(start=0, end=ENDLESS, text="")]}
    )

    after = [covering.apply(first), covering.apply(second)]

    assert [("ab*", "abc"), ("ef", "")] == [(one.choices[0].text, one.choices[0].reasoning) for one in after]
    assert ("abc", "") == (after[0].choices[1].text, after[1].choices[0].tool_calls[0].arguments)
    assert [b"", b""] == [one.frame for one in after]
    assert (6, 0) == (covering.come(0, "text"), covering.come(7, "text"))


def test_what_is_not_covered_is_the_same_object() -> None:
    """Nothing is made anew where nothing changes."""
    call = ToolCallDelta(index=0, id="c", name="f", arguments="abc")
    delta = Delta(frame=b"1", choices=(ChoiceDelta(text="abc", tool_calls=(call,)),))

    assert delta is Covering({(1, "text", 0): [Cover(start=0, end=9, text="*")]}).apply(delta)


def test_every_text_of_a_delta_has_its_channel() -> None:
    """Spoken texts and arguments, of each choice and call; what is empty is none."""
    pieces = (ToolCallDelta(index=1, arguments="{"), ToolCallDelta(index=2, id="c", name="f"))
    delta = Delta(frame=b"1", choices=(ChoiceDelta(index=3, text="a", refusal="b", tool_calls=pieces),))

    assert [((3, "text", 0), "a"), ((3, "refusal", 0), "b"), ((3, "arguments", 1), "{")] == list(texts(delta))


def test_every_string_of_a_tree_has_its_pointer() -> None:
    """RFC 6901: steps by key and number, `~` and `/` escaped; keys and what is no string stay as they are."""
    tree = {"a/b~": ["x", 1, {"c": "y"}], "d": None, "": "z"}

    assert [("/a~1b~0/0", "x"), ("/a~1b~0/2/c", "y"), ("/", "z")] == strings(tree)
    assert {"a/b~": ["X", 1, {"c": "Y"}], "d": None, "": "Z"} == reworded(tree, lambda _, text: text.upper())
