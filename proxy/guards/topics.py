"""Owns the guard that says what a customer is talking about, learned from example utterances at load.

Multinomial naive Bayes over words, word pairs and the four-letter pieces of words (Manning, Raghavan and Schütze,
Introduction to Information Retrieval, chapter 13): local, deterministic, no model file. It knows topics by their
words, so it is sure of what sounds like an example and unsure of the rest; unsure is label `other`, never a guess.
In: `topics.yaml` files, then texts. Out: one Finding. Never: a network call, time without a bound.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any

from proxy.documents import Problems, Source, check, read
from proxy.errors import ConfigError
from proxy.ports import Context
from proxy.terms import Finding

LEARNS = True
"""There is no such guard without a file that teaches it."""
OTHER = "other"
LEAST_SCORE = 0.25
"""Below this the text is like no example."""
INHERITED = 0.5
"""What a score counts that was taken over from what was said before: never enough to be sure."""
READ_CHARACTERS, READ_WORDS = 2048, 256
"""Of a longer text, so much of its beginning and of its end is read."""

PIECE = 4
PIECE_WEIGHT, PAIR_WEIGHT = 0.8, 1.0
SMOOTHING = 0.1
FLATTENING = 0.3
"""Evidence adds up slower than naive Bayes thinks, because words are not independent: divide by size to this power."""
KEPT_WORDS = 4096
LONGEST_WORD = 32

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+")

Vector = list[float]
"""What a feature says for each topic; the last number is the weight of the features added up."""


def create(sources: Sequence[Source]) -> Topics:
    """Learn from `topics.yaml` files; the examples of a label that several files name are joined.

    Raises ConfigError with every problem at once.
    """
    problems, examples = Problems(), dict[str, list[str]]()
    schema = (files(__package__) / "topics.schema.json").read_bytes()
    for source in sources:
        for text in read(source, problems):
            if check(text, schema, problems):
                tree: Any = text.value
                for label, said in tree["topics"].items():
                    examples.setdefault(label, []).extend(said)
    if problems.found:
        raise ConfigError(problems.found)
    return Topics(examples)


class Topics:
    """Name the topic of a text."""

    name = "topics"
    context = Context.SAID
    lookbehind = 0
    lookahead = 0

    def __init__(self, examples: Mapping[str, Sequence[str]]) -> None:
        digest = hashlib.sha256(repr(sorted((label, *said) for label, said in examples.items())).encode())
        self.version = f"1-{digest.hexdigest()[:12]}"
        self.labels = (*examples, *(() if OTHER in examples else (OTHER,)))
        self._topics = tuple(examples)
        self._vectors = _learned([_counted(said) for said in examples.values()])
        self._nothing: Vector = [0.0] * (len(self._topics) + 1)
        self._words: dict[str, Vector] = {}

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return the topic of a text; of one that says little by itself ("that one"), what was spoken of before."""
        if not text.strip():
            return []
        label, score = self._topic(text)
        if score < LEAST_SCORE:
            before, its_score = self._topic(context[-1]) if context else (OTHER, 0.0)
            label, score = (before, its_score * INHERITED) if its_score >= LEAST_SCORE else (OTHER, score)
        return [Finding(guard=self.name, label=label, score=score, end=len(text))]

    def _topic(self, text: str) -> tuple[str, float]:
        """Return the likeliest topic and its probability."""
        words = _words(text)
        pairs = [f"{first} {second}" for first, second in pairwise(words)]
        known = [self._vectors[pair] for pair in pairs if pair in self._vectors]
        *scores, weight = map(sum, zip(*map(self._of_word, words), *known, self._nothing, strict=True))
        # A pair that occurs in no example says nothing, but it makes the text longer.
        length = weight + PAIR_WEIGHT * (len(pairs) - len(known))
        best, flattening = max(scores), (1 + length) ** FLATTENING
        mass = sum(math.exp((score - best) / flattening) for score in scores)
        return self._topics[scores.index(best)], 1 / mass

    def _of_word(self, word: str) -> Vector:
        """Add up what a word and its pieces say; the last few thousand words are remembered."""
        known = self._words.get(word)
        if known is None:
            if len(self._words) >= KEPT_WORDS:
                self._words.clear()
            features = list(_of_word(word))
            vectors = [self._vectors[feature] for feature, _ in features if feature in self._vectors]
            self._words[word] = known = [*map(sum, zip(*vectors, self._nothing, strict=True))]
            known[-1] = sum(weight for _, weight in features)
        return known


def _learned(counts: Sequence[Mapping[str, float]]) -> dict[str, Vector]:
    """Turn each topic's weighted feature counts into smoothed log-likelihoods, times the feature's own weight."""
    features = frozenset[str]().union(*counts)
    totals = [sum(count.values()) + SMOOTHING * len(features) for count in counts]
    return {
        feature: [
            *(_weight(feature) * math.log((count.get(feature, 0.0) + SMOOTHING) / total) for count, total in rows),
            _weight(feature),
        ]
        for rows in [list(zip(counts, totals, strict=True))]
        for feature in features
    }


def _counted(examples: Sequence[str]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for example in examples:
        words = _words(example)
        pairs = ((f"{first} {second}", PAIR_WEIGHT) for first, second in pairwise(words))
        for feature, weight in (*(found for word in words for found in _of_word(word)), *pairs):
            counts[feature] = counts.get(feature, 0.0) + weight
    return counts


def _of_word(word: str) -> Iterator[tuple[str, float]]:
    """Yield a word and its pieces, each with its weight; pieces are marked, and know where the word begins and ends."""
    yield word, 1.0
    edged = f"<{word}>"
    for start in range(len(edged) - PIECE + 1):
        yield f"~{edged[start : start + PIECE]}", PIECE_WEIGHT


def _weight(feature: str) -> float:
    if feature[0] == "~":
        return PIECE_WEIGHT
    return PAIR_WEIGHT if " " in feature else 1.0


def _words(text: str) -> list[str]:
    if len(text) > 2 * READ_CHARACTERS:
        text = f"{text[:READ_CHARACTERS]} {text[-READ_CHARACTERS:]}"
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    words = _WORD.findall(plain)
    if len(words) > 2 * READ_WORDS:
        words = words[:READ_WORDS] + words[-READ_WORDS:]
    # Which number it is says nothing about the topic.
    return ["#" if word[0].isdigit() else word[:LONGEST_WORD] for word in words]
