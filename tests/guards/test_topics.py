"""Owns the proof of the topics guard: what it learns, what it is unsure of, that it is bounded, and how good it is."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.documents import Problems, Source, read
from proxy.errors import ConfigError
from proxy.guards.topics import INHERITED, KEPT_WORDS, LEAST_SCORE, OTHER, Topics, create
from proxy.terms import Finding

PACK = Path(__file__).parents[2] / "rules" / "support"
ALLOWED = {"orders", "returns", "refunds", "shipping", "account", "billing", "products", "smalltalk", "human"}
SURE = 0.6
"""The `minScore` of the support pack."""

SMALL = Topics(
    {
        "orders": ["Where is my order?", "Cancel the order I made", "My order has not arrived"],
        "medical": ["What helps against a headache?", "Is this medicine safe?", "I have a fever"],
    }
)


@pytest.fixture(scope="module")
def pack() -> Topics:
    """Learn from the support pack."""
    return create([Source(path="topics.yaml", text=(PACK / "topics.yaml").read_text(encoding="utf-8"))])


def topic(guard: Topics, text: str, *context: str) -> tuple[str, float]:
    """Return the label and score of a text."""
    (finding,) = guard.scan(text, context)
    return finding.label, finding.score


def written(topics: str, path: str = "topics.yaml") -> Source:
    """Write a file of topics."""
    return Source(path=path, text=f"apiVersion: handrail.dev/v1alpha1\nkind: Topics\ntopics:\n{topics}")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        pytest.param("where is the order", "orders", id="words"),
        pytest.param("WHERE IS MY ORDER???", "orders", id="case and marks"),
        pytest.param("I've got headaches", "medical", id="another form of a word"),
        pytest.param("\uff37\uff48\uff45\uff52\uff45 is my order", "orders", id="wide letters"),
    ],
)
def test_a_text_has_the_topic_it_sounds_like(text: str, label: str) -> None:
    """Words, pairs of them and their pieces decide."""
    found, score = topic(SMALL, text)

    assert (label, True) == (found, score > SURE)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("zzz qqq", id="words of no example"),
        pytest.param("!!!", id="no words at all"),
        pytest.param("\u6211\u7684\u8ba2\u5355\u5728\u54ea\u91cc", id="another script"),
    ],
)
def test_what_is_like_no_example_is_other_and_unsure(text: str, pack: Topics) -> None:
    """A text that nobody taught is never a confident verdict, so `uncertain` decides about it."""
    label, score = topic(pack, text)

    assert (OTHER, True) == (label, score < LEAST_SCORE)


def test_an_empty_text_has_no_topic() -> None:
    """Nothing said, nothing found."""
    assert [[], []] == [SMALL.scan("", []), SMALL.scan(" \n", [])]


def test_a_finding_spans_the_text() -> None:
    """The finding names the guard and covers what it read."""
    (finding,) = SMALL.scan("where is my order", [])

    assert Finding(guard="topics", label="orders", score=finding.score, end=17) == finding


def test_a_text_that_says_little_takes_over_the_topic_before(pack: Topics) -> None:
    """ "That one" is about what was spoken of, at half the score: a hint, never enough to be sure."""
    before = "My parcel is late and the courier lost it"
    own = topic(pack, "qqq zzz")
    label, score = topic(pack, "qqq zzz", before)

    assert (OTHER, "shipping") == (own[0], label)
    assert topic(pack, before)[1] * INHERITED == score
    assert score <= INHERITED < SURE


def test_what_was_unclear_before_stays_unclear(pack: Topics) -> None:
    """A context that says nothing either leaves the text without a topic."""
    assert topic(pack, "qqq zzz") == topic(pack, "qqq zzz", "xxyyzz")


def test_numbers_and_names_of_orders_say_nothing() -> None:
    """Which number it is changes no score."""
    assert topic(SMALL, "order 12345") == topic(SMALL, "order 99")


@settings(max_examples=50)
@given(st.text(max_size=200), st.lists(st.text(max_size=50), max_size=2))
def test_any_text_has_one_topic_and_a_probability(text: str, context: list[str]) -> None:
    """Whatever is said, the label is a known one, the score is from 0 to 1, and it is the same each time."""
    first, second = SMALL.scan(text, context), SMALL.scan(text, context)

    assert first == second
    assert all(finding.label in SMALL.labels and 0 <= finding.score <= 1 for finding in first)


def test_long_texts_are_read_at_both_ends() -> None:
    """The beginning and the end count, the middle of a very long text does not, so time has a bound."""
    filler = "x " * 5000

    ends = topic(SMALL, f"{filler} where is my order"), topic(SMALL, f"where is my order {filler}")
    middle = topic(SMALL, f"{filler} where is my order {filler}")

    assert topic(SMALL, filler * 2) == middle
    assert [True, True] == [end != middle for end in ends]


def test_words_that_people_make_up_do_not_pile_up() -> None:
    """The memory for words is bounded, and forgetting changes no answer."""
    guard = Topics({"a": ["one two"], "b": ["three four"]})
    before = guard.scan("one two", [])

    for start in range(0, 2 * KEPT_WORDS, 200):
        made_up = ("".join(chr(97 + n // 26**place % 26) for place in range(4)) for n in range(start, start + 200))
        guard.scan(" ".join(made_up), [])

    assert len(guard._words) <= KEPT_WORDS
    assert before == guard.scan("one two", [])


def test_files_are_joined_by_label() -> None:
    """Two packs may teach the same topic, and each may add its own."""
    guard = create([written("  a: [one two]\n  b: [three]"), written("  b: [four]\n  c: [five six]", "more.yaml")])

    assert ("a", "b", "c", OTHER) == guard.labels
    assert ["b", "b", "c"] == [topic(guard, text)[0] for text in ("three", "four", "five six")]


def test_other_may_be_taught() -> None:
    """Examples of `other` make it a topic like any."""
    guard = create([written("  a: [one two]\n  other: [three four]")])

    assert (("a", OTHER), OTHER, True) == (
        guard.labels,
        topic(guard, "three four")[0],
        topic(guard, "three four")[1] > SURE,
    )


def test_the_version_is_that_of_the_examples() -> None:
    """Teaching something else is another detector, in the records as well."""
    one, same, other = (Topics({"a": ["x"], "b": [text]}).version for text in ("y", "y", "z"))

    assert (True, False) == (one == same, one == other)


@pytest.mark.parametrize(
    ("topics", "problem"),
    [
        pytest.param("  a: [x]", "topics.yaml:4:3: `topics` needs at least 2", id="one topic is none"),
        pytest.param("  a: [x]\n  b: []", "topics.yaml:5:6: `b` must not be empty", id="no examples"),
        pytest.param(
            "  A b: [x]\n  b: [y]",
            "topics.yaml:4:3: `A b` is not lower-case letters, digits and dashes",
            id="a bad name",
        ),
        pytest.param("  a: [x\n", "topics.yaml:5:1: this is not YAML: expected ',' or ']'", id="not YAML"),
    ],
)
def test_a_wrong_file_is_told(topics: str, problem: str) -> None:
    """What cannot be learned from is a problem at its place."""
    with pytest.raises(ConfigError) as raised:
        create([written(topics)])

    assert problem == raised.value.problems[0][: len(problem)]


def test_the_pack_knows_its_own_examples(pack: Topics) -> None:
    """Hardly any example of the pack is taken for another topic: it is not contradictory."""
    (text,) = read(Source(path="t", text=(PACK / "topics.yaml").read_text(encoding="utf-8")), Problems())
    tree: Any = text.value
    examples = [(label, said) for label, all_said in tree["topics"].items() for said in all_said]
    wrong = [(label, said) for label, said in examples if topic(pack, said)[0] != label]

    assert len(examples) > 500
    assert len(wrong) <= len(examples) // 100, wrong


def test_customers_of_a_real_shop_are_not_turned_away(pack: Topics, real_data: Path) -> None:
    """Of the customer turns in tau-bench's retail dialogues, at most one in a hundred would be denied."""
    with gzip.open(real_data / "tau-retail" / "few_shot_dialogues.jsonl.gz", "rt") as lines:
        dialogues = [json.loads(line)["messages_display"] for line in lines]
    turns = [
        turn
        for dialogue in dialogues
        for turn in re.findall(r"(?:^|\n)user: (.*?)(?=\n(?:assistant|tool|user): |\Z)", dialogue, re.DOTALL)
        if turn.strip() and "###STOP" not in turn
    ]
    denied = [turn for turn in turns for label, score in [topic(pack, turn)] if score >= SURE and label not in ALLOWED]

    assert len(turns) > 400
    assert len(denied) <= len(turns) // 100, denied
