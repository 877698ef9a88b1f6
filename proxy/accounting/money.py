"""Owns how amounts of money are read and written; inside, money is an integer.

In: decimal text from config. Out: integers, and text for people. Never: a float, a silent rounding.
"""

from __future__ import annotations

import re
from decimal import Decimal

NANOUSD_PER_USD = 1_000_000_000
NANO_PLACES = 9
_LARGEST = 2**63 - 1
_DECIMAL = re.compile(r"\$?([0-9]{1,40})(?:\.([0-9]{1,40}))?")


def parse_usd(value: object) -> int:
    """Return nano-dollars for an amount such as `"2.50"`, `"$0.01"` or `2.5`; raise ValueError saying what is wrong."""
    nanousd = parse_scaled(value, NANO_PLACES)
    if nanousd > _LARGEST:
        raise ValueError(f"{value!r} dollars is more than can be counted (about 9.2 billion)")
    return nanousd


def parse_scaled(value: object, places: int) -> int:
    """Return an amount times 10**places, exactly; raise ValueError for anything that is not a plain decimal,
    is negative, or is finer than that. A float counts as the decimal that it prints as."""
    text = format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
    found = _DECIMAL.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{value!r} is not an amount of dollars: write a plain decimal such as 0.15")
    whole, fraction = found[1], (found[2] or "").rstrip("0")
    if len(fraction) > places:
        raise ValueError(f"{value!r} is finer than can be counted: at most {places} decimals")
    return int(whole + fraction.ljust(places, "0"))


def format_usd(nanousd: int) -> str:
    """Return an amount exactly and readably: at least two decimals, no more than it needs (`$2.50`, `$0.000123`)."""
    whole, rest = divmod(abs(nanousd), NANOUSD_PER_USD)
    fraction = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanousd < 0 else ''}${whole}.{fraction}"
