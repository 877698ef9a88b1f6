"""Owns the one way in which a JSON value becomes bytes: canonical JSON (RFC 8785).

In: JSON values. Out: bytes, the same ones for equal values wherever they are made. Never: a value that others would
read differently: integers beyond 2**53, NaN, infinities, lone surrogates.
"""

from __future__ import annotations

import msgspec

from proxy.terms import Json

LARGEST = 2**53 - 1
"""Integers up to here are the same number to everybody who reads JSON (RFC 7493)."""
PLAIN_DIGITS = 21
"""Numbers with so many digits before the point are written in full (ECMAScript, Number::toString)."""
PLAIN_ZEROS = 6
"""And those with fewer zeros than this after it."""


_sorted = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Json) -> bytes:
    """Return the canonical form; raise ValueError for what has none."""
    return _sorted(value) if _plain(value) else msgspec.json.encode(_ordered(value))


def _plain(value: Json) -> bool:
    """Say whether it is canonical once its keys are sorted: nearly all is, and an encoder that sorts is far faster."""
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_plain, value.values()))
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, int):
        return -LARGEST <= value <= LARGEST
    return not isinstance(value, float)


def _ordered(value: Json) -> object:
    """Return a tree that a plain encoder writes canonically: keys in the order of their UTF-16 code units."""
    if isinstance(value, dict):
        keys = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=_utf16)
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if isinstance(value, float):
        return msgspec.Raw(number(value).encode())
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{value} is not the same number to everybody who reads JSON")
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def number(value: float) -> str:
    """Return a number as ECMAScript writes it: the shortest digits that mean it, in full where they are few."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{value} is no JSON number")
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    return ("-" if value < 0 else "") + _written(digits, point)


def _written(digits: str, point: int) -> str:
    """Return `0.digits` times ten to the power of `point`."""
    count = len(digits)
    if count <= point <= PLAIN_DIGITS:
        return digits + "0" * (point - count)
    if 0 < point <= PLAIN_DIGITS:
        return f"{digits[:point]}.{digits[point:]}"
    if -PLAIN_ZEROS < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{tail}e{point - 1:+d}"
