"""Owns the proof of where sentences end, and that cutting a text never takes anything but whole ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.sentences import first, sentences

SAID = st.text(st.sampled_from("a b.!?\n\u2026\u3002\"')1é"), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there! How are you? Fine.", ["Hello there! ", "How are you? ", "Fine."]),
        ("I am Dr. Who, e.g. today.", ["I am Dr. Who, e.g. today."]),
        ("J. R. Smith came. (cf. no. 5)", ["J. R. Smith came. ", "(cf. ", "no. 5)"]),
        ("It costs 3.50 EUR. Really.", ["It costs 3.50 EUR. ", "Really."]),
        ('He said "Yes." She left.', ['He said "Yes." ', "She left."]),
        ("One... two. Three", ["One... ", "two. ", "Three"]),
        ("A title\n\nA text", ["A title\n\n", "A text"]),
        ("A line\nthat goes on", ["A line\nthat goes on"]),
        ("\u4eca\u65e5\u306f\u3002\u5143\u6c17", ["\u4eca\u65e5\u306f\u3002", "\u5143\u6c17"]),
        ("", []),
    ],
)
def test_a_sentence_ends_where_a_reader_would_end_it(text: str, expected: list[str]) -> None:
    """Marks followed by a space end one, as do empty lines; abbreviations, initials and numbers do not."""
    assert expected == sentences(text)


@given(SAID)
def test_sentences_put_together_are_the_text(text: str) -> None:
    """Nothing is lost between them."""
    assert text == "".join(sentences(text))


@given(SAID, st.integers(-1, 5))
def test_the_first_ones_are_the_beginning(text: str, count: int) -> None:
    """What stays is the beginning of the text, with no more sentences than asked for."""
    cut = first(text, count)

    assert text.startswith(cut)
    assert len(sentences(cut)) <= max(count, 0) or (cut == text and len(sentences(text)) <= max(count, 0))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, "One."), (2, "One. Two!"), (3, "One. Two! Three"), (0, ""), (9, "One. Two! Three")],
)
def test_a_text_is_cut_after_a_sentence(count: int, expected: str) -> None:
    """The space after the last one goes; a text that has no more stays as it is."""
    assert expected == first("One. Two! Three", count)
