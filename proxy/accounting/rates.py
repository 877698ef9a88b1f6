"""Owns what one price charges: a usage in, nano-dollars out, exact until the single rounding up at the end.

In: a Usage, or its bounds. Out: a Cost. Never: a float, a zero for tokens whose rate is not known.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.accounting.money import parse_scaled
from proxy.terms import Cost, Usage, UsageSource

UNITS_PER_NANOUSD = 10**15
"""Rates are integers of 10**-24 dollars per token, that is 10**-18 dollars per million tokens: fine enough for every
published price, including those that were printed from floats."""
_RATE_PLACES = 18
_MTOK = 10**6

INPUT_RATES = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_cache_read",
    "image_input",
    "image_cache_read",
    "video_input",
)
OUTPUT_RATES = ("output", "reasoning", "citation", "audio_output", "image_output", "video_output")
REQUEST_RATE = "request"
RATES = frozenset((*INPUT_RATES, *OUTPUT_RATES, REQUEST_RATE))
_UNSEEN = {
    "input": ("image_input", "video_input"),
    "cache_write": ("cache_write_1h",),
    "output": ("image_output", "video_output"),
}
"""Rates under which some of these tokens may have been billed, though no usage says how many."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What one token costs: `base`, or the highest tier whose threshold the request's whole input exceeds."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()
    """(threshold, rate), highest threshold first; a tier's rate applies to all tokens, not only those above it."""

    def at(self, input_tokens: int) -> int:
        """Return the rate that applies to a request with this much input."""
        for threshold, rate in self.tiers:
            if input_tokens > threshold:
                return rate
        return self.base

    def dearest(self, input_tokens: int) -> int:
        """Return the highest rate that a request with at most this much input can meet."""
        if not self.tiers:
            return self.base
        return max([self.base, *(rate for threshold, rate in self.tiers if input_tokens > threshold)])


def parse_rate(written: str | Mapping[str, str], *, per: int = _MTOK) -> Rate:
    """Return the rate for dollars per million tokens, or for a mapping of input thresholds to those (0 is the base).
    With `per=1` the dollars are for one unit; raise ValueError for what is not a plain decimal."""
    steps = {"0": written} if isinstance(written, str) else written
    factor = _MTOK // per
    units = {int(threshold): parse_scaled(usd, _RATE_PLACES) * factor for threshold, usd in steps.items()}
    return Rate(base=units.pop(0), tiers=tuple(sorted(units.items(), reverse=True)))


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of one model at one time, by name (`RATES`); one that is absent has no price of its own."""

    id: str
    rates: Mapping[str, Rate]

    def cost(self, usage: Usage) -> Cost:
        """Return what a usage costs; unknown (None) when tokens have no rate or there is no usage at all.

        Counts that contradict each other are charged on the dear side and flagged `estimated`, as is everything that
        was not counted by the provider or that may in part have been billed at a rate the usage cannot show.
        """
        depth = max(0, usage.input_tokens)
        sides = (
            self._side(
                depth,
                ("input", usage.input_tokens),
                ("cache_read", usage.cache_read_tokens),
                ("cache_write", usage.cache_write_tokens),
                ("audio_input", usage.audio_input_tokens),
            ),
            self._side(
                depth,
                ("output", usage.output_tokens),
                ("reasoning", usage.reasoning_tokens),
                ("audio_output", usage.audio_output_tokens),
            ),
        )
        units = self.rates[REQUEST_RATE].base if REQUEST_RATE in self.rates else 0
        for side, _ in sides:
            if side is None or usage.source is UsageSource.NONE:
                return Cost(nanousd=None)
            units += side
        sure = usage.source is UsageSource.PROVIDER and all(clear for _, clear in sides)
        return Cost(nanousd=_round_up(units), price=self.id, estimated=not sure)

    def ceiling(self, input_tokens: int, output_tokens: int, choices: int = 1) -> int | None:
        """Return the most nano-dollars that any usage within these bounds can cost (`output_tokens` for each of
        `choices`): every token at the dearest rate it can meet; None when there is no rate."""
        units = self.rates[REQUEST_RATE].base if REQUEST_RATE in self.rates else 0
        for names, tokens in ((INPUT_RATES, input_tokens), (OUTPUT_RATES, output_tokens * choices)):
            if tokens > 0:
                if names[0] not in self.rates:
                    return None
                units += tokens * max([self.rates[name].dearest(input_tokens) for name in names if name in self.rates])
        return _round_up(units)

    def _side(self, depth: int, whole: tuple[str, int], *parts: tuple[str, int]) -> tuple[int | None, bool]:
        """Charge one direction: parts that have a rate of their own at that, what is left at the whole's rate.
        Return the units, None where a rate is missing, and whether the counts leave no doubt."""
        name, total = whole
        left, units, sure = total, 0, total >= 0
        for part, tokens in parts:
            if not tokens:
                continue
            sure = sure and 0 <= tokens <= total
            if tokens > 0 and part in self.rates:
                left -= tokens
                units += tokens * self.rates[part].at(depth)
                sure = sure and not self._hides_dearer(part, depth)
        if left <= 0:
            return units, sure and left == 0
        if name not in self.rates:
            return None, False
        return units + left * self.rates[name].at(depth), sure and not self._hides_dearer(name, depth)

    def _hides_dearer(self, name: str, depth: int) -> bool:
        unseen = [self.rates[other] for other in _UNSEEN.get(name, ()) if other in self.rates]
        return any(rate.at(depth) > self.rates[name].at(depth) for rate in unseen) if unseen else False


def _round_up(units: int) -> int:
    return -(-units // UNITS_PER_NANOUSD)
