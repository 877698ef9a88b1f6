"""Owns counts and money: token counts, prices and budget arithmetic. This is the package's only door.

In: nouns, and the data files beside this module. Out: `TokenCounter`, `PriceTable`, budget arithmetic.
Never: a network call, a float of money, a zero where the price is not known.
"""

from __future__ import annotations

from importlib.resources import files

from proxy.accounting.bounds import IMAGE_TOKENS, estimate, input_bound, upper_bound
from proxy.accounting.budgets import (
    ENDLESS,
    Period,
    Window,
    admits,
    period_at,
    remaining,
    window_key,
    zone_named,
)
from proxy.accounting.chat_tokens import asked_tokens, said_tokens
from proxy.accounting.money import NANOUSD_PER_USD, format_usd, parse_usd
from proxy.accounting.prices import PriceTable
from proxy.accounting.rates import Price
from proxy.accounting.tokens import DEFAULT_ENCODING, TokenCount, TokenCounter, encoding_of

__all__ = [
    "DEFAULT_ENCODING",
    "ENDLESS",
    "IMAGE_TOKENS",
    "NANOUSD_PER_USD",
    "Period",
    "Price",
    "PriceTable",
    "TokenCount",
    "TokenCounter",
    "Window",
    "admits",
    "asked_tokens",
    "encoding_of",
    "estimate",
    "format_usd",
    "input_bound",
    "parse_usd",
    "period_at",
    "price_table",
    "remaining",
    "said_tokens",
    "token_counter",
    "upper_bound",
    "window_key",
    "zone_named",
]


def token_counter() -> TokenCounter:
    """Return a counter over the vocabularies that ship with Handrail; nothing is read before `load()`."""
    return TokenCounter(lambda encoding: _data(f"{encoding}.tiktoken.gz"))


def price_table() -> PriceTable:
    """Return the price table that ships with Handrail; raise ConfigError when it was altered."""
    return PriceTable.from_json(_data("prices.json"))


def _data(name: str) -> bytes:
    return (files(__name__) / "data" / name).read_bytes()
