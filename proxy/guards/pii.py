"""Owns the guard that finds personal data which can be told by its form: addresses, numbers and their checksums.

Names and street addresses are not looked for: no form tells them. A label with a checksum scores 1.0, a pattern less.
In: texts. Out: Findings, sorted, none overlapping. Never: a file, a network call, time that is not linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import re2

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

LOOKBEHIND, LOOKAHEAD, NUMBER = 40, 320, 112
"""A phone number may need a word such as "call me on" before it; the longest address has 320 characters, what is
told by its digits no more than 112, with what stands beside it."""

_CANDIDATE = re2.compile(r"[0-9][^A-Za-z]{0,3}[0-9]|@[^\s@]|:[0-9A-Fa-f]*:")
"""What a text must have before anything else is tried."""

_CARDS = (
    # (digits it may have, prefixes): ISO/IEC 7812 issuer ranges of the networks.
    ({13, 16, 19}, ("4",)),
    ({16}, (*map(str, range(51, 56)), *map(str, range(2221, 2721)))),
    ({15}, ("34", "37")),
    ({14, 16, 19}, ("300", "301", "302", "303", "304", "305", "3095", "36", "38", "39")),
    ({16, 17, 18, 19}, ("6011", "644", "645", "646", "647", "648", "649", "65", "62")),
    ({15, 16, 17, 18, 19}, (*map(str, range(3528, 3590)), "2131", "1800")),
    ({12, 13, 14, 15, 16, 17, 18, 19}, ("5018", "5020", "5038", "5893", "6304", "6759", "6761", "6762", "6763")),
)
_IBANS = {
    # Lengths of the IBAN registry (ISO 13616).
    length: frozenset(countries.split())
    for length, countries in {
        15: "NO",
        16: "BE BI",
        18: "DK FI FK FO GL NL",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BY DJ FR GR IT MC MR SD SM",
        28: "AL AZ CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MN MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
}
_IBAN_LENGTH = {country: length for length, countries in _IBANS.items() for country in countries}

_PASS_US, _NUMBER_US, _DIGIT_US, _COLON_US, _AT_US = 0.02, 2.9, 0.8, 2.5, 6.0
"""What a scan takes at most, as measured on hostile texts: for each character, and besides for what begins a find."""
_NUMBER = re.compile("[0-9]+")

Check = Callable[[str, int, int], int]
"""Look at what stands in a text from start to end; return where the find really ends, 0 if it is none."""


class _Kind(msgspec.Struct, frozen=True):
    label: str
    score: float
    pattern: Any
    """What is found is its first group that matched, else all of it."""
    check: Check


def _digits(text: str) -> str:
    return "".join(character for character in text if "0" <= character <= "9")


def _card(text: str, start: int, end: int) -> int:
    """Check the issuer's prefix, the length and the Luhn digit (ISO/IEC 7812-1 annex B)."""
    number = _digits(text[start:end])
    issued = any(len(number) in lengths and number.startswith(prefixes) for lengths, prefixes in _CARDS)
    total = sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(reversed(number)))
    return end if issued and total % 10 == 0 and _apart(text, start, end) else 0


def _iban(text: str, start: int, end: int) -> int:
    """Read as many characters as the country's IBANs have, spaces left out, and check them modulo 97."""
    length = _IBAN_LENGTH.get(text[start : start + 2].upper(), 0)
    number = text[start : start + 2 * length].replace(" ", "")[:length].upper()
    if not 0 < length == len(number) or not number.isascii() or not number.isalnum():
        return 0
    # Letters count as 10 to 35, and the first four characters go to the end.
    if int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 != 1:
        return 0
    end = start + length
    while len(text[start:end].replace(" ", "")) < length:
        end += 1
    return end if not text[end : end + 1].isalnum() else 0


def _ssn(text: str, start: int, end: int) -> int:
    """Check the ranges that the Social Security Administration never gives out."""
    number = _digits(text[start:end])
    given = number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"
    return end if given and _apart(text, start, end) else 0


def _ip(text: str, start: int, end: int) -> int:
    """Ask the library; an address of mere zeros and colons, or one without a digit, is punctuation."""
    found = text[start:end]
    if len(found) <= 4 or not _digits(found) or not _apart(text, start, end):
        return 0
    try:
        return 0 if ipaddress.ip_address(found).is_unspecified else end
    except ValueError:
        return 0


def _phone(text: str, start: int, end: int) -> int:
    """Check how many digits it has (ITU-T E.164), and that it is no date and not called an order or the like."""
    found = text[start:end]
    number = _digits(found)
    fits = 7 <= len(number) <= 15 and not _DATE.match(found)
    return end if fits and _apart(text, start, end) and not _REFERENCE.search(text[max(0, start - 24) : start]) else 0


def _email(text: str, start: int, end: int) -> int:
    """Take it as it is: its pattern leaves nothing open."""
    return end


def _north_american(text: str, start: int, end: int) -> int:
    """Take what has the form, an extension after it included, if it is not called an order or the like."""
    return _alone(text, start, end) if not _REFERENCE.search(text[max(0, start - 24) : start]) else 0


def _alone(text: str, start: int, end: int) -> int:
    return end if _apart(text, start, end) else 0


def _apart(text: str, start: int, end: int) -> bool:
    """Say whether it is no piece of a longer word or number."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    inside = before[-1:].isalnum() or after[:1].isalnum()
    return not inside and not _joins(before[::-1]) and not _joins(after)


def _joins(neighbours: str) -> bool:
    return neighbours[:1] in ("-", ".", ":", "/", "_") and neighbours[1:].isdigit()


_REFERENCE = re2.compile(
    r"(?i)\b(?:order|ticket|invoice|case|reference|ref|sku|item|product|tracking|parcel|shipment|account|customer)s?\b"
    r"[ .:#]*(?:number|no|nr|id)?[ .:#]*(?:is)?[ .:#]*$"
)
"""What a number is called that is no phone number, right before it."""
_DATE = re2.compile(r"(?:19|20)?[0-9]{2}[-./ ][0-9]{1,2}[-./ ](?:19|20)?[0-9]{2}(?:\b|$)")
_LETTER = r"A-Za-z0-9\x{C0}-\x{24F}\-"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_NTH = r"[0-9]{1,2}(?:st|nd|rd|th)?"
_DAY = (
    rf"([0-9]{{1,4}}[-./][0-9]{{1,2}}[-./][0-9]{{1,4}}|{_NTH} [A-Za-z]{{3,9}},? [0-9]{{4}}|"
    rf"[A-Za-z]{{3,9}} {_NTH},? [0-9]{{4}})"
)
_NEAR = (
    r"(?i:\b(?:phone|telephone|tel|mobile|cell|fax|call|reach|ring|dial|answer(?:ing)?|whatsapp|text me|sms|"
    r"telefon|handy|tel[eé]fono|t[eé]l[eé]phone)\b)[^0-9+(@]{0,30}"
)

_KINDS = tuple(
    _Kind(label, score, re2.compile(pattern), check)
    for label, score, pattern, check in (
        ("email", 0.95, rf"[{_LETTER}._%+']*[{_LETTER}_%+]@(?:[{_LETTER}]+\.)+[A-Za-z]{{2,24}}", _email),
        ("card", 1.0, r"\b[0-9]{12,19}\b|\b[0-9]{4}(?:[ \-][0-9]{4}){2,3}(?:[ \-][0-9]{1,3})?\b", _card),
        ("card", 1.0, r"\b3[0-9]{3}[ \-][0-9]{6}[ \-][0-9]{4,5}\b", _card),
        ("iban", 1.0, r"\b[A-Za-z]{2}[0-9]{2}", _iban),
        ("ssn", 0.85, r"\b[0-9]{3}(?:-[0-9]{2}-| [0-9]{2} )[0-9]{4}\b", _ssn),
        ("ssn", 0.9, r"(?i)\b(?:ssn|social security)(?: number| no\.?| #)?(?: is|:)? ?#?([0-9]{9})\b", _ssn),
        ("ip", 0.8, rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b", _ip),
        ("ip", 0.9, r"(?:[0-9A-Fa-f]{1,4})?(?::[0-9A-Fa-f]{0,4}){2,7}", _ip),
        ("phone", 0.9, r"(?:\+|\b00)[1-9][0-9]{0,2}(?:[ .\-]?\(?[0-9]{1,5}\)?){1,6}", _phone),
        (
            "phone",
            0.75,
            r"(?:(?:\+|\b00)?1[ .\-])?(?:\([0-9]{3}\) ?|\b[0-9]{3}[ .\-])[0-9]{3}[ .\-][0-9]{4}"
            r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?\b",
            _north_american,
        ),
        ("phone", 0.7, rf"{_NEAR}(\(?[0-9]{{1,5}}\)?(?:[ .\-/]?\(?[0-9]{{1,8}}\)?){{1,5}})", _phone),
        (
            "dob",
            0.8,
            r"(?i)\b(?:dob|d\.o\.b\.?|date of birth|birth ?date|birthday|born)(?: is| on| in|:)?[ :]{0,3}"
            + _DAY
            + r"\b",
            _alone,
        ),
        (
            "passport",
            0.8,
            r"(?i)\bpassport(?: number| no\.?| nr\.?| #)?(?: is|:)?[ #]{0,2}([A-Z]{0,2}[0-9]{6,9})\b",
            _alone,
        ),
    )
)


def create(sources: Sequence[Source]) -> Pii:
    """Return the guard; it reads no file."""
    return Pii()


class Pii:
    """Find personal data and where it stands."""

    name = "pii"
    version = "1"
    labels = tuple(dict.fromkeys(kind.label for kind in _KINDS))
    context = Context.SAID
    lookbehind = LOOKBEHIND
    lookahead = LOOKAHEAD
    lookaheads: Mapping[str, int] = {**dict.fromkeys(labels, NUMBER), "email": LOOKAHEAD}

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return what was found; of finds that overlap the longest, and of equals the surest."""
        # A lone surrogate cannot be encoded for RE2; one character stands for another, so every offset holds.
        text = text.encode("utf-8", "replace").decode()
        if _CANDIDATE.search(text) is None:
            return []
        found = sorted(_found(text), key=lambda finding: (finding.start - finding.end, -finding.score, finding.start))
        taken = bytearray(len(text))
        kept = []
        for finding in found:
            if not any(taken[finding.start : finding.end]):
                taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
                kept.append(finding)
        return sorted(kept, key=lambda finding: finding.start)

    def most_us(self, text: str) -> int:
        """Return the most microseconds that a scan takes, told by the digits and marks in the text."""
        numbers = _NUMBER.findall(text)
        digits = _NUMBER_US * len(numbers) + _DIGIT_US * sum(map(len, numbers))
        marks = _COLON_US * text.count(":") + _AT_US * text.count("@")
        return int(5 + _PASS_US * len(text) + (25 + digits + marks if digits or marks else 0))


def _found(text: str) -> Iterator[Finding]:
    for kind in _KINDS:
        for match in kind.pattern.finditer(text):
            start, end = match.span(match.lastindex or 0)
            if end := kind.check(text, start, end):
                yield Finding(guard=Pii.name, label=kind.label, score=kind.score, start=start, end=end)
