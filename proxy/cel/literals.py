"""Owns the values of literals: numbers inside their ranges, strings and bytes with their escapes resolved.

In: one token's text. Out: a value. Never: `eval`, Python's own escapes. A ValueError says what is wrong.
"""

import math
import re
from collections.abc import Callable

from .values import INT_MAX, INT_MIN, UINT_MAX, UInt

_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-3][0-7]{2})|(?P<bad>.?))",
    re.DOTALL,
)
_PLAIN = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))
_NEWLINES = re.compile(r"\r\n?")


def integer(text: str) -> int:
    """Read an int literal."""
    number = _whole(text)
    if INT_MIN <= number <= INT_MAX:
        return number
    raise ValueError(f"{text[:40]} does not fit an int")


def unsigned(text: str) -> UInt:
    """Read a uint literal."""
    number = _whole(text[:-1])
    if 0 <= number <= UINT_MAX:
        return UInt(number)
    raise ValueError(f"{text[:40]} does not fit a uint")


def double(text: str) -> float:
    """Read a double literal."""
    number = float(text)
    if math.isfinite(number):
        return number
    raise ValueError(f"{text[:40]} does not fit a double")


def _whole(text: str) -> int:
    return int(text, 16 if "0x" in text else 10)


def string(text: str) -> str:
    """Read a string literal, quotes and prefix included."""
    body, raw = _unquoted(text)
    return body if raw else _ESCAPE.sub(_string_escape, body)


def byte_string(text: str) -> bytes:
    """Read a bytes literal: text becomes UTF-8, octal and hexadecimal escapes are single bytes."""
    body, raw = _unquoted(text[1:])
    if raw:
        return body.encode()
    parts: list[bytes] = []
    offset = 0
    for match in _ESCAPE.finditer(body):
        parts += (body[offset : match.start()].encode(), _byte_escape(match))
        offset = match.end()
    return b"".join((*parts, body[offset:].encode()))


def _unquoted(text: str) -> tuple[str, bool]:
    raw = text[0] in "rR"
    quoted = text[1:] if raw else text
    width = 3 if len(quoted) >= 6 and quoted[:3] in ('"""', "'''") else 1
    return _NEWLINES.sub("\n", quoted[width:-width]), raw


def _string_escape(match: re.Match[str]) -> str:
    group = str(match.lastgroup)
    if group == "plain":
        return _PLAIN[match["plain"]]
    point = _number(match, group)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise ValueError(f"{match.group()} is not a Unicode character")
    return chr(point)


def _byte_escape(match: re.Match[str]) -> bytes:
    group = str(match.lastgroup)
    if group in "uU":
        raise ValueError(f"{match.group()} is not allowed in bytes")
    return _PLAIN[match["plain"]].encode() if group == "plain" else bytes((_number(match, group),))


def _number(match: re.Match[str], group: str) -> int:
    if group == "bad":
        raise ValueError(f"{match.group()} is not an escape")
    return int(match[group], 8 if group == "octal" else 16)


READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "INT_LIT": (integer, "int"),
    "UINT_LIT": (unsigned, "uint"),
    "FLOAT_LIT": (double, "double"),
    "STRING_LIT": (string, "string"),
    "BYTES_LIT": (byte_string, "bytes"),
    "BOOL_LIT": ("true".__eq__, "bool"),
    "NULL_LIT": (lambda _: None, "null"),
}
