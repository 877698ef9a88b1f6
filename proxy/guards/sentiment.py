"""Owns the guard that says how a customer feels: positive, neutral, negative or angry.

Words have a value from -4 to 4; a negation before a word turns it, an adverb makes it
stronger or weaker, and capitals and exclamation marks add force. It reads words, so it misses irony, and languages
other than English are neutral. Angry is negative said with force: a word of anger, or strong feeling that is shouted.
In: texts. Out: one Finding. Never: a network call, time without a bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

POSITIVE, NEUTRAL, NEGATIVE, ANGRY = "positive", "neutral", "negative", "angry"
READ_CHARACTERS, READ_WORDS = 2048, 256
"""Of a longer text, so much of its beginning and of its end is read."""
CLEAR = 0.3
"""From this strength on a text is not neutral."""
FURIOUS = 0.6
"""From this strength on a shouted negative text is angry."""
DAMPING = 15
"""How slowly values add up to 1: the strength of a sum s is s / sqrt(s * s + DAMPING)."""
REACH = 3
"""A negation turns a word so many words later."""
TURNED, SHOUTED, STRESS, MOST_STRESS = -0.75, 1.4, 0.1, 4
"""What a negated and a capitalised word count; what each exclamation mark adds, and how many do."""

_BY_VALUE = {
    3.0: "amazing awesome excellent fantastic perfect wonderful outstanding brilliant love loved superb",
    2.0: "great happy helpful thank thanks thankful grateful appreciate appreciated pleased good glad nice delighted "
    "satisfied best recommend resolved smooth enjoy",
    1.0: "fine fast quick quickly friendly easy works better sorted welcome clear",
    -1.0: "late delayed delay wait waiting slow missing problem problems issue issues complaint complain wrong "
    "confused confusing unfortunately sorry unclear unhappy damaged broken faulty defective lost stuck cancel",
    -2.0: "bad poor disappointed disappointing annoyed annoying frustrated frustrating upset unfair "
    "dissatisfied worse failed fail mess sad unhelpful incompetent ignored ignoring hate rude useless",
    -3.0: "terrible horrible awful worst unacceptable ridiculous disgusting disgusted pathetic appalling dreadful joke "
    "nightmare disgrace shameful garbage trash crap outrageous fraud thieves thief lawyer",
    -4.0: "furious angry livid outraged scam scammed scammers liar liars lying idiot idiots stupid "
    "bullshit fuck fucking fucked shit damn damned enraged fuming",
}
VALUES = {word: value for value, words in _BY_VALUE.items() for word in words.split()} | {
    "fed up": -4.0,
    "ripped off": -4.0,
    "rip off": -4.0,
    "had enough": -4.0,
    "how dare": -4.0,
    "sick of": -3.0,
    "tired of": -3.0,
    "waste of": -3.0,
    "no help": -2.0,
    "well done": 3.0,
}
"""What a word, or two in a row, says."""
WRATH = -4.0
"""A word of this value, not negated, is anger by itself."""

_NEGATIONS = (
    "not no never none nothing without hardly nobody neither nor cannot cant aint dont doesnt didnt isnt arent wasnt "
    "werent wont wouldnt couldnt hasnt havent"
)
NEGATIONS = frozenset(_NEGATIONS.split())
_BY_DEGREE = {
    1.3: "very really so extremely absolutely completely totally utterly incredibly too",
    0.7: "slightly somewhat bit little fairly kinda rather",
}
DEGREES = {word: degree for degree, words in _BY_DEGREE.items() for word in words.split()}

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def create(sources: Sequence[Source]) -> Sentiment:
    """Return the guard; it learns from no file."""
    return Sentiment()


class Sentiment:
    """Name the feeling of a text."""

    name = "sentiment"
    version = "1"
    labels = (POSITIVE, NEUTRAL, NEGATIVE, ANGRY)
    context = Context.SAID
    lookbehind = 0
    lookahead = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return the feeling; of a neutral text the score says how little feeling there is, else how much."""
        if not text.strip():
            return []
        read = _ends(text)
        values, shouted = _values(_WORD.findall(read.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")))
        total = sum(values) * (1 + STRESS * min(read.count("!"), MOST_STRESS))
        strength = total / math.sqrt(total * total + DAMPING)
        loud = shouted or read.count("!") > 1
        label = _label(strength, furious=min(values, default=0.0) <= WRATH or (loud and strength <= -FURIOUS))
        score = 1 - abs(strength) if label == NEUTRAL else abs(strength)
        return [Finding(guard=self.name, label=label, score=score, end=len(text))]


def _label(strength: float, *, furious: bool) -> str:
    if strength >= CLEAR:
        return POSITIVE
    if strength > -CLEAR:
        return NEUTRAL
    return ANGRY if furious else NEGATIVE


def _values(words: Sequence[str]) -> tuple[list[float], bool]:
    """Return what each word with a value says where it stands, and whether one of them is shouted."""
    if len(words) > 2 * READ_WORDS:
        words = [*words[:READ_WORDS], *words[-READ_WORDS:]]
    plain = [word.casefold().replace("'", "") for word in words]
    # A text that is all capitals is shouted too, but a capital letter alone ("I", "A") shouts nothing.
    loud = [len(word) > 1 and word.isupper() for word in words]
    values, shouted = list[float](), False
    for at, word in enumerate(plain):
        # Of two words in a row that mean something together, the second alone means nothing.
        value = VALUES.get(" ".join(plain[at : at + 2]), VALUES.get(word, 0.0))
        if value:
            values.append(value * _force(plain[max(0, at - REACH) : at]) * (SHOUTED if loud[at] else 1.0))
            shouted = shouted or loud[at]
    return values, shouted


def _force(before: Sequence[str]) -> float:
    """Return what the words before a word make of it: turned, stronger, weaker."""
    turned = TURNED if NEGATIONS.intersection(before) else 1.0
    return turned * DEGREES.get(before[-1], 1.0) if before else turned


def _ends(text: str) -> str:
    return text if len(text) <= 2 * READ_CHARACTERS else f"{text[:READ_CHARACTERS]} {text[-READ_CHARACTERS:]}"
