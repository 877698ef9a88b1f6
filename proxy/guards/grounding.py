"""Owns the guard that finds what a reply commits to and no evidence says: amounts, dates, ids, links, statuses.

A claim is supported when some evidence text has the same value, however it is written: 1,299.00 is 1299, January 5 is
2026-01-05, W123 is w123. Values are compared, not sentences: an amount that the evidence has for another item supports
the claim, and a sum that the agent worked out itself does not. A status counts where it is asserted, neither asked, nor
denied, nor made a condition; statuses are English.
In: a reply, and evidence. Out: a Finding per claim that nothing supports. Never: time that is not linear in the texts;
a reply that is read in part.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from proxy.documents import Source
from proxy.errors import TooLarge
from proxy.ports import Context
from proxy.terms import Finding

MONEY, DATE, ORDER_ID, LINK = "money", "date", "order_id", "link"
EMAIL, PERCENTAGE, STATUS = "email", "percentage", "status"
LONGEST_REPLY = 32_768
MOST_CLAIMS = 2_000
"""A reply of more characters, or with more claims, is not judged at all."""
HEDGE_REACH = 256
"""So many characters before a status are asked whether it is asserted."""
READ_US = 1.0
"""What a character of a reply or of the evidence takes at most (bench/guard_cost.py)."""
STATUS_SCORE = 0.7
"""Words are a weaker sign than values."""

# All patterns read lower-case text, and begin with what can be looked for at once: a character, or one of a few. What
# must not stand before it is asked after it.
_APOSTROPHE = "['\N{RIGHT SINGLE QUOTATION MARK}]"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?:{'|'.join(_MONTHS)})"
_REST = r"(?:u?ary|ruary|ch|il|e|y|ust|t|t?ember|ober|ember)?\b\.?"
"""What the names of months go on with."""
_DAY = r"\d(?<!\d\d)\d?"
_DATES = (
    re.compile(r"(?P<year>\d(?<!\d\d)\d{3})-(?P<month>\d\d)-(?P<day>\d\d)(?!\d)"),
    re.compile(
        rf"(?P<name>{_MONTH})(?<!\w\w\w\w){_REST}\s{{1,3}}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?![\w:%])"
        r"(?:,?\s{1,3}(?P<year>\d{4})(?!\d))?"
    ),
    re.compile(
        rf"(?P<day>{_DAY})(?:st|nd|rd|th)?\.?\s{{1,3}}(?:of\s{{1,3}})?(?P<name>{_MONTH}){_REST}"
        r"(?:,?\s{1,3}(?P<year>\d{4})(?!\d))?"
    ),
    re.compile(
        r"(?P<first>\d(?<![\d./]\d)\d?)(?P<mark>[./])(?P<second>\d{1,2})(?P=mark)(?P<year>\d{4}|\d\d)(?![\d./]\d)"
    ),
)
_EMAIL = re.compile(r"[\w.+-](?<![\w.+-][\w.+-])[\w.+-]{0,63}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){1,5}")
_LINK = re.compile(r"(?:h(?<!\wh)ttps?://|w(?<!\ww)ww\.)[^\s<>\"'`]{1,2048}")
_AMOUNT = r"\d{1,15}(?:[.,]\d{1,15}){0,3}"
_BARE = r"(?P<amount>\d(?<![\w.,]\d)\d{0,14}(?:[.,]\d{1,15}){0,3})"
_CODE = r"(?:usd|eur|gbp|chf|cad|aud|jpy|inr)"
_MONEYS = (
    re.compile(rf"[$€£¥₹]\s?(?P<amount>{_AMOUNT})"),
    re.compile(rf"{_CODE}(?<!\w\w\w\w)\s?(?P<amount>{_AMOUNT})"),
    re.compile(rf"{_BARE}\s?(?:[€£¥₹]|(?:{_CODE}|dollars?|euros?|pounds?|bucks)\b)"),
)
_PERCENTAGE = re.compile(rf"{_BARE}\s?(?:%|percent\b|per cent\b)")
_ORDER_IDS = (
    re.compile(r"\#[a-z]{0,8}-?\d[a-z\d-]{2,40}(?![\w-])"),
    re.compile(
        r"(?:o(?<!\wo)rder|t(?<!\wt)racking|t(?<!\wt)icket|c(?<!\wc)ase|c(?<!\wc)onfirmation|i(?<!\wi)nvoice"
        r"|r(?<!\wr)eturn|r(?<!\wr)eference)\s(?:(?:number|no\.?|id|code|is)\s?){0,2}[:#]?\s?"
        r"(?=[a-z-]{0,8}\d)[a-z\d][a-z\d-]{3,40}(?![\w-])"
    ),
    re.compile(r"[a-z](?<![\w-][a-z])[a-z]{0,4}-?\d{5,20}(?![\w-])"),
)
_PLAIN_STATUSES = "delivered refunded returned exchanged replaced credited approved charged upgraded waived"
_STATUS_OF = {
    "shipped": "shipped",
    "dispatched": "shipped",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    **{status: status for status in _PLAIN_STATUSES.split()},
}
_FORMS = "|".join(_STATUS_OF)
_STATUS = re.compile(rf"(?P<status>{_FORMS})(?![a-z])")
_ASSERTED = re.compile(
    rf"(?:\b(?:is|are|was|were|been|has|have|had|i|we|will be|successfully)|{_APOSTROPHE}(?:s|ve|re))"
    rf"(?:\s(?:now|just|already|also|successfully|fully|since))*\s(?P<status>{_FORMS})(?![a-z])"
)
_HEDGED = re.compile(
    r"\b(?:not|no|never|cannot|if|once|when|whether|unless|until|before|after|would|could|can|may|might|should)\b"
    rf"|n{_APOSTROPHE}t\b"
)
_TRAILING = ".,;:!?)]>*_-"
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]?")
_CLAUSE = re.compile(r"[^.!?\n,;{}\[\]\"]+[.!?\n,;{}\[\]\"]?")
_NOTED = re.compile(r"\"(refund|return|exchange)(?: requested)?\"")
"""How tools note what they did, as the whole value of a field."""
_UNSET = re.compile(r"\w{0,64}\"\s{0,4}:\s{0,4}(?:false|null|0)\b")
"""How the name of a field goes on that is denied."""
_DIGIT = re.compile(r"\d")
_TOKEN = re.compile(r"[^\W_](?:[\w-]{0,62}[^\W_])?")
_NUMBER = re.compile(_AMOUNT)
_THOUSANDS = re.compile(r"(?<!(?<!\d)0)[.,](?=\d{3}(?!\d))")
"""A point or comma before exactly three digits parts thousands, except after a lone 0."""

Day = tuple[int, int, int]
"""Month, day and year; year 0 is not told."""


class Claim(NamedTuple):
    """What a text commits to, and where; `value` is what evidence must have too."""

    label: str
    start: int
    end: int
    value: int | str | tuple[Day, ...]


def create(sources: Sequence[Source]) -> Grounding:
    """Return the guard; it learns from no file."""
    return Grounding()


class Grounding:
    """Hold a reply's claims against the evidence."""

    name = "grounding"
    version = "2"
    labels: tuple[str, ...] = (MONEY, DATE, ORDER_ID, LINK, EMAIL, PERCENTAGE, STATUS)
    context = Context.EVIDENCE
    lookbehind = 0
    lookahead = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return a finding for each claim that no evidence text supports, in the order of the reply; raise TooLarge."""
        evidence = Evidence(context)
        return [_finding(text, claim) for claim in _claims(text) if not evidence.supports(claim)]

    def claims(self, text: str) -> list[Finding]:
        """Return every claim, supported or not; raise TooLarge."""
        return [_finding(text, claim) for claim in _claims(text)]

    def most_us(self, text: str) -> int:
        """Return the most microseconds that reading a text takes, as a reply or as evidence."""
        return 50 + int(READ_US * len(text))


def _finding(text: str, claim: Claim) -> Finding:
    score = STATUS_SCORE if claim.label == STATUS else 1.0
    start, end = claim.start, claim.end
    return Finding(guard=Grounding.name, label=claim.label, score=score, start=start, end=end, reason=text[start:end])


class Evidence:
    """What the evidence texts say, as values to look up; each kind is read when a claim of it is first asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def supports(self, claim: Claim) -> bool:
        """Return whether some text has the claim's value."""
        match claim.label, claim.value:
            case "percentage", int(rate):
                # A rate is written as 20 % or as 0.2.
                return rate in self._numbers or (rate % 100 == 0 and rate // 100 in self._numbers)
            case "date", tuple(days):
                return any(
                    not year or not told or year == told
                    for month, day, year in days
                    for told in self._years.get((month, day), ())
                )
            case "money", amount:
                return amount in self._numbers
            case "order_id", token:
                return token in self._tokens
            case "status", status:
                return status in self._statuses
        return claim.value in self._addresses

    @cached_property
    def _plain(self) -> list[str]:
        return [*map(_lowered, self._texts)]

    @cached_property
    def _numbers(self) -> set[int]:
        return {*map(_number, {digits for text in self._plain for digits in _NUMBER.findall(text)})}

    @cached_property
    def _tokens(self) -> set[str]:
        return {token for text in self._plain for token in _TOKEN.findall(text)}

    @cached_property
    def _addresses(self) -> set[str]:
        emails = {_bare(match[0]) for text in self._plain if "@" in text for match in _EMAIL.finditer(text)}
        pairs = zip(self._texts, self._plain, strict=True)
        return emails | {_link(whole[slice(*match.span())]) for whole, text in pairs for match in _LINK.finditer(text)}

    @cached_property
    def _statuses(self) -> set[str]:
        return {status for text in self._plain for status in _said(text)}

    @cached_property
    def _years(self) -> dict[tuple[int, int], set[int]]:
        years: dict[tuple[int, int], set[int]] = {}
        for month, day, year in (
            day
            for text in self._plain
            for pattern in _DATES
            for match in pattern.finditer(text)
            for day in _days(match)
        ):
            years.setdefault((month, day), set()).add(year)
        return years


def _claims(text: str) -> list[Claim]:
    """Return all claims in the order of the text; what one kind took is blank to the next."""
    if len(text) > LONGEST_REPLY:
        raise TooLarge(f"More than {LONGEST_REPLY} characters are not read.", code="too_long")
    plain, found = _lowered(text), list[Claim]()
    for label, patterns, value in _KINDS if _DIGIT.search(plain) else _WORDS:
        for pattern in patterns:
            spans = []
            for match in islice(pattern.finditer(plain), MOST_CLAIMS + 1):
                start = match.start()
                end = start + len(_bare(match[0]))
                spans.append((start, end))
                found.append(Claim(label, start, end, value(match, text[start:end])))
            plain = _blank(plain, spans) if spans else plain
            if len(found) > MOST_CLAIMS:
                raise TooLarge(f"More than {MOST_CLAIMS} claims are not judged.", code="too_many")
    found += _asserted(plain)
    return sorted(found, key=lambda claim: claim.start)


def _asserted(text: str) -> Iterator[Claim]:
    """Yield the statuses that a text says are so; who asks says nothing."""
    for sentence in _SENTENCE.finditer(text) if _STATUS.search(text) else ():
        start, end = sentence.span()
        found = [*_ASSERTED.finditer(text, start, end)] if text[end - 1] != "?" else []
        hedges = [match.start() for match in _HEDGED.finditer(text, start, end)] if found else []
        for match in found:
            at = match.start("status")
            near = bisect_left(hedges, at - HEDGE_REACH)
            if near == len(hedges) or hedges[near] >= at:
                yield Claim(STATUS, at, match.end(), _STATUS_OF[match["status"]])


def _said(text: str) -> Iterator[str]:
    """Yield the statuses that an evidence text has, neither asked nor denied; a field that is false denies."""
    yield from (_NOUNS[match[1]] for match in _NOTED.finditer(text))
    for clause in _CLAUSE.finditer(text) if _STATUS.search(text) else ():
        start, end = clause.span()
        found = [] if text[end - 1] == "?" else [*_STATUS.finditer(text, start, end)]
        if found and not _HEDGED.search(text, start, end):
            yield from (
                _STATUS_OF[match["status"]]
                for match in found
                if not (text[match.start() - 1 : match.start()].isalpha() or _UNSET.match(text, match.end()))
            )


_NOUNS = {"refund": "refunded", "return": "returned", "exchange": "exchanged"}


def _days(match: re.Match[str]) -> Iterator[Day]:
    """Yield the days that a date can be; 5/1/2026 is two."""
    got = match.groupdict()
    year = int(got["year"] or 0)
    if "month" in got:
        yield int(got["month"]), int(got["day"]), year
    elif "name" in got:
        yield _MONTHS.index(got["name"]) + 1, int(got["day"]), year
    else:
        first, second = int(got["first"]), int(got["second"])
        year += 2000 if year < 100 else 0
        yield first, second, year
        yield second, first, year


def _number(digits: str) -> int:
    """Return an amount as written anywhere, in hundredths; what is no number any more is taken at its first part."""
    if digits.isdecimal():
        return 100 * int(digits)
    whole, *rest = _THOUSANDS.sub("", digits).replace(",", ".").split(".")
    return int(Decimal(f"{whole}.{rest[0] if rest else 0}").quantize(Decimal("0.01")).scaleb(2))


def _id(match: re.Match[str], claim: str) -> str:
    """Return the token that is the id: the last one, `order number W1` is w1."""
    *_, last = _TOKEN.findall(match[0])
    return str(last)


def _link(link: str) -> str:
    """Return a link without what does not change where it leads."""
    bare = re.sub(r"^https?://", "", _bare(link), flags=re.IGNORECASE)
    host, slash, path = bare.partition("/")
    return (host.casefold().removeprefix("www.") + slash + path).rstrip("/")


def _bare(claim: str) -> str:
    """Return a claim without the punctuation of the sentence around it."""
    return claim.rstrip(_TRAILING)


def _lowered(text: str) -> str:
    """Return a text in lower case, every character in its place: this one's lower case has two."""
    return text.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i").lower()


def _blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, end in spans:
        # No space: what is glued to a claim is a part of something, no id by itself.
        parts += [text[at:start], "_" * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


_Value = Callable[[re.Match[str], str], int | str | tuple[Day, ...]]
_WORDS: tuple[tuple[str, tuple[re.Pattern[str], ...], _Value], ...] = (
    (LINK, (_LINK,), lambda match, claim: _link(claim)),
    (EMAIL, (_EMAIL,), lambda match, claim: _bare(match[0])),
)
"""Kinds of claims, what they look like, and what their value is; these need no digit."""
_KINDS = (
    *_WORDS,
    (DATE, _DATES, lambda match, claim: tuple(_days(match))),
    (MONEY, _MONEYS, lambda match, claim: _number(match["amount"])),
    (PERCENTAGE, (_PERCENTAGE,), lambda match, claim: _number(match["amount"])),
    (ORDER_ID, _ORDER_IDS, _id),
)
