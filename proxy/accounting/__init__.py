"""Owns counts and money: token counts, prices and budget arithmetic. This is the package's only door.

In: nouns, and the data files beside this module. Out: `TokenCounter`, `PriceTable`, budget arithmetic.
Never: a network call, a float of money, a zero where the price is not known.
"""

from __future__ import annotations

from importlib.resources import files

from proxy.accounting.bounds import IMAGE_TOKENS, estimate, input_bound, upper_bound
from proxy.accounting.tokens import DEFAULT_ENCODING, TokenCount, TokenCounter, encoding_of

__all__ = [
    "DEFAULT_ENCODING",
    "IMAGE_TOKENS",
    "TokenCount",
    "TokenCounter",
    "encoding_of",
    "estimate",
    "input_bound",
    "token_counter",
    "upper_bound",
]


def token_counter() -> TokenCounter:
    """Return a counter over the vocabularies that ship with Handrail; nothing is read before `load()`."""
    return TokenCounter(lambda encoding: _data(f"{encoding}.tiktoken.gz"))


def _data(name: str) -> bytes:
    return (files(__name__) / "data" / name).read_bytes()
