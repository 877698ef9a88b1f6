"""Owns the proof of the voice guard: which faults it names and where, what it leaves alone, and how sure it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.guards.voice import LONGEST, create

GUARD = create(())
LONG = "We have looked at " + " ".join(["this and that"] * 13)


def found(text: str) -> list[tuple[str, str]]:
    """Return label and text of each find."""
    return [(finding.label, text[finding.start : finding.end]) for finding in GUARD.scan(text, ())]


@pytest.mark.parametrize(
    ("label", "fault", "text"),
    [
        pytest.param("shouting", "PLEASE NOTE", "{} the date.", id="shouting"),
        pytest.param("shouting", "I AM SO SORRY", "Oh, {}.", id="shouting of short words"),
        pytest.param("shouting", "ÄRGER ÜBERALL", "So viel {}, sagt er.", id="shouting in another language"),
        pytest.param("shouting", "URGENT", "This is {}.", id="one shouted word"),
        pytest.param("exclamation", "!!", "Great{} See you", id="exclamation"),
        pytest.param("exclamation", "?!", "Really{} See you", id="exclamation in a question"),
        pytest.param("emoji", "👍🏽", "Done {}", id="emoji with a skin"),
        pytest.param("emoji", "❤️", "With {}, yours", id="emoji with a selector"),
        pytest.param("emoji", ":-)", "Done {} bye", id="emoticon"),
        pytest.param("filler", "As an AI language model", "{}, I read.", id="a model"),
        pytest.param("filler", "I\u2019m just an AI", "{} here", id="only a model"),
        pytest.param("filler", "I cannot help but", "{} agree", id="filler"),
        pytest.param("filler", "Great question", "{}.", id="flattery"),
        pytest.param("promise", "guaranteed", "Delivery on Friday is {}.", id="a guarantee"),
        pytest.param("promise", "100 % safe", "Your card is {}.", id="without a rest"),
        pytest.param("promise", "will definitely", "It {} arrive.", id="definitely"),
        pytest.param("promise", "We never", "{} fail.", id="without exception"),
        pytest.param("blame", "your own fault", "That is {}.", id="fault"),
        pytest.param("blame", "You forgot to", "{} pay.", id="forgotten"),
        pytest.param("blame", "you should have called", "Well, {} us.", id="hindsight"),
        pytest.param("blame", "As I already said", "{}, no.", id="impatience"),
        pytest.param("slang", "gonna", "We are {} look.", id="informal"),
        pytest.param("slang", "LOL", "Oh {}.", id="slang in any case"),
        pytest.param("long_sentence", LONG, "Hello there. {}.", id="a long sentence"),
    ],
)
def test_a_fault_is_found_where_it_stands(label: str, fault: str, text: str) -> None:
    """The span is the fault itself, whatever characters stand before it."""
    text = "\N{GRINNING FACE} \ud800 " + text.format(fault)

    assert (label, fault.rstrip(".")) in [(name, what.rstrip(".")) for name, what in found(text)]
    assert {"emoji", label} == {name for name, _ in found(text)}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("We cannot guarantee that, and I can't promise it.", id="a promise denied"),
        pytest.param("It is not your fault. No, you did not really forget to pay.", id="blame denied"),
        pytest.param("Ask UPS or USPS for the FAQ (PDF), e.g. a USB A port.", id="abbreviations"),
        pytest.param("Hello! How are you? Fine! It costs 100 % of $5; see 12:30 (a).", id="marks one by one"),
        pytest.param("A shirt of 100% cotton, in the colour of your choice.", id="a share"),
        pytest.param("abclol curlol guaranty, promiscuous", id="parts of words"),
        pytest.param("HELLOworld MIXEDcase_NAMES", id="capitals inside words"),
        pytest.param("One. " * 60, id="short sentences"),
        pytest.param("one two three four five six seven\n" * 10, id="short lines"),
        pytest.param("x" * 3000, id="one long word"),
        pytest.param("", id="empty"),
    ],
)
def test_what_is_no_fault_is_left_alone(text: str) -> None:
    """Denials, abbreviations and single marks are good voice."""
    assert [] == found(text)


def test_what_is_a_matter_of_taste_scores_less() -> None:
    """A policy can draw its line between the two, and a reason says what was found."""
    texts = ("!!!", "Wow!!", "PLEASE NOTE", "URGENT", "As an AI", "to be honest", "lol", "cool")

    scores = [GUARD.scan(text, ())[0].score for text in texts]

    assert all(sure > unsure for sure, unsure in zip(scores[::2], scores[1::2], strict=True))
    assert all(found.reason for text in texts for found in GUARD.scan(text, ()))


@pytest.mark.parametrize("mark", [".", "!", "\n", "…)", '."'])
def test_a_sentence_ends_at_its_mark(mark: str) -> None:
    """Forty words are not long, forty-one are; a mark inside a word ends nothing."""
    forty = " ".join(["a.b", *["word"] * 39])

    assert [] == found(f"{forty}{mark} {forty}{mark}")
    assert ["long_sentence"] == [label for label, _ in found(f"{forty} more{mark} {forty}{mark}")]


@pytest.mark.parametrize("fault", ["A B " * 900, "!" * 3000, "word " * 900, "❤" * 3000])
def test_a_find_has_a_longest_length(fault: str) -> None:
    """Of an endless fault its first thousand characters are named, so that a slice of a text can hold it."""
    assert LONGEST == len(found(fault)[0][1]) + len(found(fault)[0][1]) % 2


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["lol", "!!", " ", "PLEASE NOTE", "your fault", "not ", "❤", ".", "é", "word " * 41])))
def test_finds_are_inside_the_text_and_in_order(parts: list[str]) -> None:
    """Whatever the text, each find has a known label, a score, a place in it, and none stands before the last."""
    text = "".join(parts)
    start = 0

    for finding in GUARD.scan(text, []):
        assert finding.label in GUARD.labels
        assert 0 < finding.score <= 1
        assert start <= finding.start < finding.end <= len(text)
        start = finding.start
