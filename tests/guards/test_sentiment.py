"""Owns the proof of the sentiment guard: words, what turns and strengthens them, and that it is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.guards.sentiment import create

GUARD = create(())


def feeling(text: str) -> tuple[str, float]:
    """Return the label and score of a text."""
    (finding,) = GUARD.scan(text, ())
    return finding.label, finding.score


@pytest.mark.parametrize(
    ("text", "label"),
    [
        pytest.param("Thank you, that was really helpful", "positive", id="thanks"),
        pytest.param("Great, the best service ever!", "positive", id="praise"),
        pytest.param("Where is order 123?", "neutral", id="a question"),
        pytest.param("Wo ist meine Bestellung?", "neutral", id="another language"),
        pytest.param("12345 !!", "neutral", id="no words"),
        pytest.param("I am disappointed, the parcel is late", "negative", id="disappointment"),
        pytest.param("That was not good", "negative", id="negated praise"),
        pytest.param("I don\u2019t love it", "negative", id="a typographic apostrophe"),
        pytest.param("not bad at all", "positive", id="negated blame"),
        pytest.param("This is a scam", "angry", id="a word of anger"),
        pytest.param("I'm fed up with this", "angry", id="two words in a row"),
        pytest.param("I am not angry", "positive", id="anger denied"),
        pytest.param("This is TERRIBLE and AWFUL", "angry", id="shouted"),
        pytest.param("terrible, awful service!!!", "angry", id="exclaimed"),
        pytest.param("terrible, awful service", "negative", id="said calmly"),
        pytest.param("my item is broken", "neutral", id="a mild word alone"),
    ],
)
def test_a_text_has_the_feeling_of_its_words(text: str, label: str) -> None:
    """Words, and what stands around them, decide."""
    assert label == feeling(text)[0]


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        pytest.param("it is bad", "it is very bad", id="an adverb strengthens"),
        pytest.param("it is slightly disappointing", "it is disappointing", id="an adverb weakens"),
        pytest.param("it is terrible", "it is TERRIBLE", id="capitals"),
        pytest.param("it is terrible", "it is terrible!", id="an exclamation mark"),
        pytest.param("it is not great", "it is bad, not great", id="more of it"),
    ],
)
def test_force_adds_to_the_score(weaker: str, stronger: str) -> None:
    """The same feeling said with more force has a higher score."""
    assert feeling(weaker)[1] < feeling(stronger)[1]


def test_a_negation_far_away_turns_nothing() -> None:
    """A negation reaches three words."""
    assert ("positive", "negative") == (feeling("no I think it is great")[0], feeling("I think it is not great")[0])


def test_an_empty_text_has_no_feeling() -> None:
    """Nothing said, nothing found."""
    assert [[], []] == [GUARD.scan("", []), GUARD.scan(" \n", [])]


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_has_one_feeling(text: str) -> None:
    """Whatever is said, the label is a known one, the score is from 0 to 1, and it is the same each time."""
    found = GUARD.scan(text, [])

    assert found == GUARD.scan(text, [])
    assert all(finding.label in GUARD.labels and 0 <= finding.score <= 1 for finding in found)


@pytest.mark.parametrize("filler", [pytest.param("xx ", id="words"), pytest.param("x" * 30, id="characters")])
def test_long_texts_are_read_at_both_ends(filler: str) -> None:
    """The beginning and the end count, the middle of a very long text does not, so time has a bound."""
    far = filler * 1500

    ends = [feeling(f"this is a scam {far}")[0], feeling(f"{far} this is a scam")[0]]

    assert [["angry", "angry"], "neutral"] == [ends, feeling(f"{far} this is a scam {far}")[0]]
    assert feeling("xx " * 300 + "scam" + " xx" * 300) == feeling("xx " * 1000)
