"""Owns the guard that finds what a brand's voice does not do: shouting, filler, promises, blame, slang, long sentences.

It knows English phrases; capitals, exclamation marks, emoji and long sentences are found in any language that has them.
A phrase is found where it is said, whoever is quoted; what is denied ("we cannot guarantee", "it is not your fault") is
neither a promise nor blame. Scores say how surely a brand minds: 0.9 for what hardly any would say, 0.5 for a matter of
taste.
In: texts. Out: Findings, sorted. Never: a file, a network call, time that is not linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import re2

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

LOOKBEHIND, LOOKAHEAD = 40, 1200
"""A denial stands before what it denies; the longest find, and what after it ends it."""
LONGEST = 1000
"""Of a longer find, so much is named; of a longer sentence, so much is read."""
SENTENCE_WORDS = 40
"""A sentence of more words is long."""
SENTENCE_SCORE = 0.6
DENIAL_REACH = 32
"""So many characters before a phrase are asked whether it is denied."""
SHOUTED_LETTERS = 8
"""So many capitals in several words shout, six in one; fewer may be abbreviations."""
LONE_SCORE = 0.5
"""A single word in capitals may be a name."""

Check = Callable[[str, int, int], float]
"""Look at what stands in a text from start to end; return its weight from 0, it is none, to 1."""


def _taken(text: str, start: int, end: int) -> float:
    return 1.0


def _not_denied(text: str, start: int, end: int) -> float:
    return 0.0 if _DENIAL.search(text[max(0, start - DENIAL_REACH) : start]) else 1.0


def _shouted(text: str, start: int, end: int) -> float:
    words = text[start:end]
    letters = sum(map(str.isalpha, words))
    if len(words) == letters:
        return LONE_SCORE
    return 1.0 if letters >= SHOUTED_LETTERS else 0.0


def _exclaimed(text: str, start: int, end: int) -> float:
    marks = text.count("!", start, end) + text.count("\N{FULLWIDTH EXCLAMATION MARK}", start, end)
    return min(1.0, 0.25 * (marks + 1)) if marks else 0.0


def _phrases(*phrases: str) -> str:
    """Return a pattern for any of these in whatever case, the apostrophe straight or curved."""
    return rf"(?i)\b(?:{'|'.join(phrases)})\b".replace("'", r"['\x{2019}]")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a voice does not do; a find is the pattern's first group that matched, else all of it."""

    label: str
    score: float
    reason: str
    pattern: str
    check: Check = _taken


SHOUTING, EXCLAMATION, EMOJI, FILLER = "shouting", "exclamation", "emoji", "filler"
PROMISE, BLAME, SLANG, LONG_SENTENCE = "promise", "blame", "slang", "long_sentence"
_DENIAL = re2.compile(r"(?i)(?:\b(?:not|no|never|cannot|without|neither|nor)|n['\x{2019}]t)\s(?:\pL+\s){0,2}$")

FAULTS = (
    Fault(
        label=SHOUTING,
        score=0.9,
        reason="words in capitals",
        pattern=r"(?:^|[^\pL\pN_])(\p{Lu}+(?:[ ,'\x{2019}\-]{1,2}\p{Lu}+)+|\p{Lu}{6,})(?:$|[^\pL\pN_])",
        check=_shouted,
    ),
    Fault(label=EXCLAMATION, score=0.9, reason="several marks", pattern=r"[!?\x{FF01}\x{FF1F}]{2,}", check=_exclaimed),
    Fault(
        label=EMOJI,
        score=0.9,
        reason="a pictograph",
        pattern=r"[\x{1F000}-\x{1FAFF}\x{2600}-\x{27BF}\x{2B50}\x{2B55}\x{2764}]"
        r"[\x{FE0F}\x{200D}\x{20E3}\x{1F000}-\x{1FAFF}\x{2600}-\x{27BF}]*",
    ),
    Fault(
        label=EMOJI, score=0.7, reason="an emoticon", pattern=r"(?:^|\s)([:;=]['\x{2019}]?-?[)(DPpO/|\\]|<3|xD)(?:\s|$)"
    ),
    Fault(
        label=FILLER,
        score=0.95,
        reason="speaks of itself as a model",
        pattern=_phrases(
            "as an? (?:(?:large|virtual|digital) )?(?:ai|artificial intelligence|language model|(?:chat)?bot)"
            "(?: (?:language )?(?:model|assistant))?",
            "i(?:'m| am) (?:just|only) an? (?:ai|(?:chat)?bot|language model)",
            "my (?:training data|knowledge cutoff|programming)",
        ),
    ),
    Fault(
        label=FILLER,
        score=0.6,
        reason="says nothing",
        pattern=_phrases(
            "i (?:cannot|can't) help but",
            "needless to say",
            "at the end of the day",
            "it(?:'s| is) (?:important|worth) (?:to note|noting|mentioning)",
            "to be (?:perfectly )?honest",
            "i hope this (?:message|email) finds",
            "(?:please )?(?:do not|don't) hesitate to",
            "rest assured",
            "with all due respect",
            "(?:great|excellent|good) question",
        ),
    ),
    Fault(
        label=PROMISE,
        score=0.9,
        reason="vouches for what will happen",
        pattern=_phrases(
            "guarantee[sd]?",
            "(?:i|we) (?:can )?(?:promise|assure you|swear)",
            "risk[ -]free",
            "without fail",
            "no matter what",
            "will (?:definitely|certainly|absolutely)",
            "(?:definitely|certainly|absolutely) (?:will|going to|get|arrive|be)",
            r"100 ?(?:%|percent) (?:sure|certain|safe|secure|satisf\pL+|guarantee\pL*|accurate|reliable|correct)",
        ),
        check=_not_denied,
    ),
    Fault(
        label=PROMISE,
        score=0.6,
        reason="knows no exception",
        pattern=_phrases(
            "(?:we|i|it|they|this) (?:(?:will|can) )?(?:always|never)",
            "(?:we|i|it|they)'ll (?:always|never)",
            "(?:zero|absolutely no) (?:risk|chance|problems?)",
        ),
        check=_not_denied,
    ),
    Fault(
        label=BLAME,
        score=0.9,
        reason="says that it is the customer's fault",
        pattern=_phrases(
            "your (?:own |entire )?(?:fault|mistake|negligence|carelessness)",
            "you(?:'ve| have| had)? (?:failed|forgot|forgotten|neglected|refused) to",
            r"you should(?:n't| not)? have \pL+",
            "user error",
            "if you had (?:(?:only|just|actually) )?(?:read|followed|listened|paid)",
        ),
        check=_not_denied,
    ),
    Fault(
        label=BLAME,
        score=0.6,
        reason="corrects the customer",
        pattern=_phrases(
            "you(?:'re| are) (?:wrong|mistaken|confused|not listening)",
            "you (?:did not|didn't) (?:read|follow|listen|pay|provide|enter|check|give|tell)",
            "(?:as|like) i(?:'ve| have)? (?:(?:already|just) )?(?:said|told you|explained|mentioned)",
            "you (?:clearly|obviously)",
        ),
        check=_not_denied,
    ),
    Fault(
        label=SLANG,
        score=0.9,
        reason="too familiar for a shop",
        pattern=_phrases(
            "lol|lmao|rofl|omg|wtf|idk|smh|tbh|imho|bruh|bro|dude|yo|sup|y'all|ain't|dunno|lemme|gimme|thx|plz|pls|ur",
            "damn|crap|sucks?|screwed up|no biggie|my bad|freaking|cuz",
        ),
    ),
    Fault(
        label=SLANG,
        score=0.5,
        reason="informal",
        pattern=_phrases(
            "gonna|wanna|gotta|kinda|sorta|yeah|yep|yup|nope|nah|hey there|btw|fyi|asap|guys|folks|oops|whoops|awesome",
            "cool|super (?:easy|quick|fast|cool|simple)",
        ),
    ),
)
"""What is looked for."""

_ENDING = re.compile(r"[.!?\u2026\u3002\n](?:(?<=\n)|(?:[\"'\u2019\u201d)\]]{0,3}(?!\S)))")


def create(sources: Sequence[Source]) -> Voice:
    """Return the guard; it reads no file."""
    return Voice()


class Voice:
    """Find what a brand's voice does not do, and where it is done."""

    name = "voice"
    version = "1"
    labels = (*dict.fromkeys(fault.label for fault in FAULTS), LONG_SENTENCE)
    context = Context.SAID
    lookbehind = LOOKBEHIND
    lookahead = LOOKAHEAD

    def __init__(self) -> None:
        self._patterns: list[Any] = [re2.compile(fault.pattern) for fault in FAULTS]
        self._which = re2.Set.SearchSet()
        for fault in FAULTS:
            self._which.Add(fault.pattern)
        self._which.Compile()

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return every fault in the order of the text, at one place the surest first."""
        # A lone surrogate cannot be encoded for RE2; one character stands for another, so every offset holds.
        text = text.encode("utf-8", "replace").decode()
        found = [*self._found(text), *_long_sentences(text)]
        return sorted(found, key=lambda finding: (finding.start, -finding.score))

    def _found(self, text: str) -> Iterator[Finding]:
        for place in self._which.Match(text) or ():
            fault = FAULTS[place]
            for match in self._patterns[place].finditer(text):
                start, end = match.span(match.lastindex or 0)
                end = min(end, start + LONGEST)
                score = fault.score * fault.check(text, start, end)
                if score:
                    yield Finding(
                        guard=self.name, label=fault.label, score=score, start=start, end=end, reason=fault.reason
                    )


def _long_sentences(text: str) -> Iterator[Finding]:
    begin = 0
    for end in (*(match.end() for match in _ENDING.finditer(text)), len(text)):
        # A word and its space have two characters at least.
        if end - begin >= 2 * SENTENCE_WORDS:
            read = text[begin : min(end, begin + LONGEST)]
            if len(read.split()) > SENTENCE_WORDS:
                yield Finding(
                    guard=Voice.name,
                    label=LONG_SENTENCE,
                    score=SENTENCE_SCORE,
                    start=end - len(text[begin:end].lstrip()),
                    end=begin + len(read.rstrip()),
                    reason=f"more than {SENTENCE_WORDS} words",
                )
        begin = end
