"""Owns the guard that finds what a reply commits to and no evidence says: amounts, dates, ids, links, statuses.

A claim is supported when some evidence text has the same value, however it is written: 1,299.00 is 1299, January 5 is
2026-01-05, W123 is w123. Values are compared, not sentences: an amount that the evidence has for another item supports
the claim, and a sum that the agent worked out itself does not. A status counts where it is asserted, neither asked, nor
denied, nor made a condition; statuses are English.
In: a reply, and evidence. Out: a Finding per claim that nothing supports. Never: time that is not linear in the texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

MONEY, DATE, ORDER_ID, LINK = "money", "date", "order_id", "link"
EMAIL, PERCENTAGE, STATUS = "email", "percentage", "status"
READ_CHARACTERS = 16384
"""Of a longer text, so much of its beginning and of its end is read."""

READ_BEFORE = 256
"""So many characters before a status are asked whether it is asserted."""
STATUS_SCORE = 0.7
"""Words are a weaker sign than values."""

_GAP = "\n\0\n"
"""Stands for what was not read; no claim reaches across it."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = re.compile(
    r"(?<!\d)(?P<y1>\d{4})-(?P<m1>\d\d)-(?P<d1>\d\d)(?!\d)"
    rf"|(?<!\w)(?P<n2>{_MONTH})\b\.?\s{{1,3}}(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?![\w:%])(?:,?\s{{1,3}}(?P<y2>\d{{4}})(?!\d))?"
    rf"|(?<!\d)(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?\.?\s{{1,3}}(?:of\s{{1,3}})?(?P<n3>{_MONTH})\b\.?(?:,?\s{{1,3}}(?P<y3>\d{{4}})(?!\d))?"
    r"|(?<![\d./])(?P<a4>\d{1,2})(?P<s4>[./])(?P<b4>\d{1,2})(?P=s4)(?P<y4>\d{4}|\d\d)(?![\d./]\d)",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){1,5}", re.IGNORECASE)
_LINK = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'`]{1,2048}", re.IGNORECASE)
_AMOUNT = r"\d{1,15}(?:[.,]\d{1,15}){0,3}"
_CODE = r"(?:usd|eur|gbp|chf|cad|aud|jpy|inr|dollars?|euros?|pounds?|bucks)"
_MONEY = re.compile(
    rf"(?:[$€£¥₹]|\b(?:usd|eur|gbp|chf|cad|aud|jpy|inr))\s?(?P<a>{_AMOUNT})"
    rf"|(?<![\w.,])(?P<b>{_AMOUNT})\s?(?:[€£¥₹]|{_CODE}\b)",
    re.IGNORECASE,
)
_PERCENTAGE = re.compile(rf"(?<![\w.,])(?P<a>{_AMOUNT})\s?(?:%|percent\b|per cent\b)", re.IGNORECASE)
_ORDER_ID = re.compile(
    r"\#[a-z]{0,8}-?\d[a-z\d-]{2,40}(?![\w-])"
    r"|\b(?:order|tracking|ticket|case|invoice|return|reference|confirmation)\s(?:(?:number|no\.?|id|code|is)\s?){0,2}[:#]?\s?"
    r"(?=[a-z-]{0,8}\d)[a-z\d][a-z\d-]{3,40}(?![\w-])"
    r"|(?<![\w-])[a-z]{1,5}-?\d{5,20}(?![\w-])",
    re.IGNORECASE,
)
_STATUSES = {
    "shipped": "shipped|dispatched",
    "delivered": "delivered",
    "refunded": "refunded",
    "cancelled": "cancell?ed",
    "returned": "returned",
    "exchanged": "exchanged",
    "replaced": "replaced",
    "credited": "credited",
    "approved": "approved",
    "charged": "charged",
    "upgraded": "upgraded",
    "waived": "waived",
}
_STATUS = re.compile(
    "(?<![a-z])(?:" + "|".join(f"(?P<{name}>{forms})" for name, forms in _STATUSES.items()) + ")(?![a-z])",
    re.IGNORECASE,
)
_ASSERTED = re.compile(
    r"(?:\b(?:is|are|was|were|been|has|have|had|i|we|will be|successfully)"
    r"|['\N{RIGHT SINGLE QUOTATION MARK}](?:s|ve|re))"
    r"(?:\s(?:now|just|already|also|successfully|fully|since))*\s$",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:not|no|never|cannot|if|once|when|whether|unless|until|before|after|would|could|can|may|might|should)\b"
    r"|n['\N{RIGHT SINGLE QUOTATION MARK}]t\b",
    re.IGNORECASE,
)
_PATTERNS = (
    (LINK, _LINK),
    (EMAIL, _EMAIL),
    (DATE, _DATE),
    (MONEY, _MONEY),
    (PERCENTAGE, _PERCENTAGE),
    (ORDER_ID, _ORDER_ID),
)
_TRAILING = ".,;:!?)]>*_-"
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]?")
_CLAUSE = re.compile(r"[^.!?\n,;{}\[\]\"]+[.!?\n,;{}\[\]\"]?")
_NOTED = re.compile(
    r"\"(?:(?P<refunded>refund)|(?P<returned>return)|(?P<exchanged>exchange))(?: requested)?\"", re.IGNORECASE
)
"""How tools note what they did, as the whole value of a field."""
_UNSET = re.compile(r"\w{1,64}\"\s{0,4}:\s{0,4}(?:false|null|0)\b")
_TOKEN = re.compile(r"[^\W_](?:[\w-]{0,62}[^\W_])?")
_NUMBER = re.compile(_AMOUNT)
_THOUSANDS = re.compile(r"(?<!(?<!\d)0)[.,](?=\d{3}(?!\d))")
"""A point or comma before exactly three digits parts thousands, except after a lone 0."""

Day = tuple[int, int, int]
"""Month, day and year; year 0 is not told."""


def create(sources: Sequence[Source]) -> Grounding:
    """Return the guard; it learns from no file."""
    return Grounding()


class Grounding:
    """Hold a reply's claims against the evidence."""

    name = "grounding"
    version = "1"
    labels = (MONEY, DATE, ORDER_ID, LINK, EMAIL, PERCENTAGE, STATUS)
    context = Context.EVIDENCE
    lookbehind = 0
    lookahead = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return a finding for each claim that no evidence text supports, in the order of the reply."""
        evidence, cut = Evidence(context), len(text) - 2 * READ_CHARACTERS
        found = []
        for label, start, end in sorted(_claims(_ends(text)), key=lambda claim: claim[1]):
            # What lies behind the gap of a long text stands farther back in it.
            shift = cut - len(_GAP) if cut > 0 and start >= READ_CHARACTERS else 0
            span = slice(start + shift, end + shift)
            if not evidence.supports(label, text[span]):
                score = STATUS_SCORE if label == STATUS else 1.0
                found.append(
                    Finding(
                        guard=self.name, label=label, score=score, start=span.start, end=span.stop, reason=text[span]
                    )
                )
        return found


class Evidence:
    """What the evidence texts say, as values to look up."""

    def __init__(self, texts: Sequence[str]) -> None:
        plain = [_ends(text) for text in texts]
        self._numbers = {_number(match[0]) for text in plain for match in _NUMBER.finditer(text)}
        self._tokens = {match[0] for text in plain for match in _TOKEN.finditer(text.casefold())}
        self._emails = {match[0].casefold().rstrip(_TRAILING) for text in plain for match in _EMAIL.finditer(text)}
        self._links = {_link(match[0]) for text in plain for match in _LINK.finditer(text)}
        self._statuses = {status for text in plain for status in _said(text)}
        self._years: dict[tuple[int, int], set[int]] = {}
        for day in (day for text in plain for match in _DATE.finditer(text) for day in _days(match)):
            self._years.setdefault(day[:2], set()).add(day[2])

    def supports(self, label: str, claim: str) -> bool:
        """Return whether some text has the claim's value."""
        checks: dict[str, Callable[[str], bool]] = {
            MONEY: lambda claim: _amount(_MONEY, claim) in self._numbers,
            PERCENTAGE: self._percentage,
            DATE: self._date,
            ORDER_ID: lambda claim: _id(claim) in self._tokens,
            LINK: lambda claim: _link(claim) in self._links,
            EMAIL: lambda claim: claim.casefold() in self._emails,
            STATUS: lambda claim: _status(claim) in self._statuses,
        }
        return checks[label](claim)

    def _percentage(self, claim: str) -> bool:
        # A rate is written as 20 % or as 0.2.
        amount = _amount(_PERCENTAGE, claim)
        return amount in self._numbers or amount / 100 in self._numbers

    def _date(self, claim: str) -> bool:
        return any(
            not year or not told or year == told
            for match in _DATE.finditer(claim)
            for month, day, year in _days(match)
            for told in self._years.get((month, day), ())
        )


def _claims(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield kind, start and end of each claim; what one kind took is blank to the next."""
    for label, pattern in _PATTERNS:
        spans = [(match.start(), match.start() + len(match[0].rstrip(_TRAILING))) for match in pattern.finditer(text)]
        for start, end in spans:
            yield label, start, end
        text = _blank(text, spans)
    for sentence in _SENTENCE.finditer(text):
        for start, end in _asserted(sentence[0]):
            yield STATUS, sentence.start() + start, sentence.start() + end


def _asserted(sentence: str) -> Iterator[tuple[int, int]]:
    """Yield the statuses that a sentence says are so."""
    if sentence.endswith("?"):
        return
    for match in _STATUS.finditer(sentence):
        before = sentence[max(0, match.start() - READ_BEFORE) : match.start()]
        if _ASSERTED.search(before) and not _HEDGED.search(before):
            yield match.span()


def _said(text: str) -> Iterator[str]:
    """Yield the statuses that an evidence text has, neither asked nor denied; a field that is false denies."""
    yield from (str(match.lastgroup) for match in _NOTED.finditer(text))
    for clause in _CLAUSE.finditer(_UNSET.sub(" ", text)):
        if not clause[0].endswith("?") and not _HEDGED.search(clause[0]):
            yield from (str(match.lastgroup) for match in _STATUS.finditer(clause[0]))


def _days(match: re.Match[str]) -> Iterator[Day]:
    """Yield the days that a date can be; 5/1/2026 is two."""
    got = match.groupdict()
    if got["y1"]:
        yield int(got["m1"]), int(got["d1"]), int(got["y1"])
    elif name := got["n2"] or got["n3"]:
        yield _MONTHS.index(name[:3].casefold()) + 1, int(got["d2"] or got["d3"]), int(got["y2"] or got["y3"] or 0)
    else:
        first, second, year = int(got["a4"]), int(got["b4"]), int(got["y4"])
        year += 2000 if year < 100 else 0
        yield first, second, year
        yield second, first, year


def _number(digits: str) -> Decimal:
    """Return an amount as written anywhere, to the cent; what is no number any more is taken at its first part."""
    whole, *rest = _THOUSANDS.sub("", digits).replace(",", ".").split(".")
    return Decimal(f"{whole}.{rest[0] if rest else 0}").quantize(Decimal("0.01"))


def _amount(pattern: re.Pattern[str], claim: str) -> Decimal:
    return next(_number(digits) for match in pattern.finditer(claim) for digits in match.groups() if digits)


def _id(claim: str) -> str:
    """Return the token that is the id: the last one, `order number W1` is w1."""
    *_, last = _TOKEN.finditer(claim.casefold())
    return last[0]


def _link(link: str) -> str:
    """Return a link without what does not change where it leads."""
    bare = re.sub(r"^https?://", "", link.rstrip(_TRAILING), flags=re.IGNORECASE)
    host, slash, path = bare.partition("/")
    return (host.casefold().removeprefix("www.") + slash + path).rstrip("/")


def _status(claim: str) -> str:
    return next(str(match.lastgroup) for match in _STATUS.finditer(claim))


def _blank(text: str, spans: Sequence[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, end in spans:
        # No space: what is glued to a claim is a part of something, no id by itself.
        parts += [text[at:start], "_" * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def _ends(text: str) -> str:
    if len(text) <= 2 * READ_CHARACTERS:
        return text
    return f"{text[:READ_CHARACTERS]}{_GAP}{text[-READ_CHARACTERS:]}"
