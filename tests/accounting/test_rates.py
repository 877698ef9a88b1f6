"""Proves that costs are exact, never zero by ignorance, and never above the ceiling that was held for them."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounting import Price
from proxy.accounting.rates import INPUT_RATES, OUTPUT_RATES, RATES, parse_rate
from proxy.terms import Cost, Usage, UsageSource

AMOUNTS = st.decimals(min_value=0, max_value=200, places=6).map(lambda amount: format(amount, "f"))


def price(request: str = "", **usd_per_mtok: str | dict[str, str]) -> Price:
    """Build a price from dollars per million tokens."""
    rates = {name: parse_rate(usd) for name, usd in usd_per_mtok.items()}
    return Price(id="p", rates={**rates, "request": parse_rate(request, per=1)} if request else rates)


@pytest.mark.parametrize(
    ("rates", "usage", "nanousd"),
    [
        pytest.param(
            {"input": "2.5", "output": "10"}, Usage(input_tokens=1000, output_tokens=100), 3_500_000, id="plain"
        ),
        pytest.param({"input": "0.15", "output": "0.6"}, Usage(), 0, id="explicit-zero"),
        pytest.param({"input": "0.0001"}, Usage(input_tokens=1), 1, id="rounded-up"),
        pytest.param(
            {"input": "0.0004", "output": "0.0006"}, Usage(input_tokens=1, output_tokens=1), 1, id="rounded-once"
        ),
        pytest.param(
            {"input": "2", "cache_read": "0.5", "cache_write": "4"},
            Usage(input_tokens=100, cache_read_tokens=60, cache_write_tokens=30),
            60 * 500 + 30 * 4000 + 10 * 2000,
            id="cache-has-its-own-rates",
        ),
        pytest.param(
            {"input": "2"},
            Usage(input_tokens=100, cache_read_tokens=60, cache_write_tokens=30),
            200_000,
            id="cache-without",
        ),
        pytest.param(
            {"input": "2", "output": "8", "reasoning": "3", "audio_input": "40", "audio_output": "80"},
            Usage(input_tokens=10, audio_input_tokens=4, output_tokens=10, audio_output_tokens=3, reasoning_tokens=2),
            4 * 40_000 + 6 * 2000 + 3 * 80_000 + 2 * 3000 + 5 * 8000,
            id="audio-and-reasoning",
        ),
        pytest.param({"input": "1", "request": "0.012"}, Usage(input_tokens=1), 12_001_000, id="per-request"),
        pytest.param({"input": "0.2"}, Usage(input_tokens=7), 1400, id="embedding-without-output-rate"),
    ],
)
def test_cost_is_exact(rates: dict[str, str], usage: Usage, nanousd: int) -> None:
    """Each token is charged at its own rate, and the sum is rounded up once."""
    assert Cost(nanousd=nanousd, price="p", estimated=False) == price(**rates).cost(usage)


@pytest.mark.parametrize(
    ("input_tokens", "nanousd"),
    [
        pytest.param(1000, 1000 * 1000 + 5000, id="at-the-threshold"),
        pytest.param(1001, 1001 * 2000 + 7000, id="above"),
        pytest.param(2001, 2001 * 3000 + 7000, id="highest-tier"),
    ],
)
def test_a_tier_applies_to_the_whole_request(input_tokens: int, nanousd: int) -> None:
    """Above a threshold of input every token, output too, costs the tier's rate."""
    tiered = price(input={"0": "1", "2000": "3", "1000": "2"}, output={"0": "5", "1000": "7"})

    assert nanousd == tiered.cost(Usage(input_tokens=input_tokens, output_tokens=1)).nanousd


@pytest.mark.parametrize(
    ("rates", "usage"),
    [
        pytest.param({"input": "1"}, Usage(input_tokens=1, output_tokens=1), id="no-output-rate"),
        pytest.param({"output": "1"}, Usage(input_tokens=1), id="no-input-rate"),
        pytest.param({"audio_input": "1"}, Usage(input_tokens=2, audio_input_tokens=1), id="only-part-has-a-rate"),
        pytest.param({"input": "1", "output": "1"}, Usage(source=UsageSource.NONE), id="no-usage"),
    ],
)
def test_what_is_not_known_is_not_free(rates: dict[str, str], usage: Usage) -> None:
    """Tokens without a rate, and calls without a usage, have no cost rather than none."""
    assert Cost(nanousd=None) == price(**rates).cost(usage)


@pytest.mark.parametrize(
    ("rates", "usage", "nanousd"),
    [
        pytest.param({"input": "1"}, Usage(input_tokens=5, source=UsageSource.TOKENIZER), 5000, id="counted-here"),
        pytest.param({"input": "1"}, Usage(input_tokens=-5), 0, id="negative"),
        pytest.param(
            {"input": "1", "output": "1"}, Usage(output_tokens=2, reasoning_tokens=3), 2000, id="part-above-whole"
        ),
        pytest.param(
            {"input": "9", "cache_read": "1"},
            Usage(input_tokens=2, cache_read_tokens=5),
            5000,
            id="priced-part-above-whole",
        ),
        pytest.param(
            {"input": "9", "cache_read": "1"}, Usage(input_tokens=2, cache_read_tokens=-5), 18_000, id="negative-part"
        ),
        pytest.param(
            {"input": "9", "cache_read": "1", "audio_input": "20"},
            Usage(input_tokens=3, cache_read_tokens=2, audio_input_tokens=2),
            42_000,
            id="parts-overlap",
        ),
        pytest.param(
            {"input": "3", "cache_write": "4", "cache_write_1h": "6"},
            Usage(input_tokens=2, cache_write_tokens=1),
            7000,
            id="maybe-a-dearer-cache-write",
        ),
        pytest.param({"output": "3", "image_output": "30"}, Usage(output_tokens=1), 3000, id="maybe-an-image"),
    ],
)
def test_doubtful_costs_are_flagged(rates: dict[str, str], usage: Usage, nanousd: int) -> None:
    """A cost is `estimated` when the provider did not count, contradicts itself or may hide a dearer rate."""
    assert Cost(nanousd=nanousd, price="p", estimated=True) == price(**rates).cost(usage)


@given(
    usd=st.dictionaries(st.sampled_from((*INPUT_RATES, *OUTPUT_RATES)), AMOUNTS, min_size=1),
    tier=AMOUNTS,
    tokens=st.tuples(*[st.integers(0, 10**6)] * 7),
)
def test_no_usage_costs_more_than_its_ceiling(usd: dict[str, str], tier: str, tokens: tuple[int, ...]) -> None:
    """The hold covers every way in which tokens within the bounds can be split, tiers and cache writes included."""
    plain, read, write, audio, text, reasoning, spoken = tokens
    usage = Usage(
        input_tokens=plain + read + write + audio,
        cache_read_tokens=read,
        cache_write_tokens=write,
        audio_input_tokens=audio,
        output_tokens=text + reasoning + spoken,
        reasoning_tokens=reasoning,
        audio_output_tokens=spoken,
    )
    tiers = {name: {"0": amount, "1000000": tier} for name, amount in usd.items()}
    charged = price("0.01", **{"input": {"0": "1", "500000": "2"}, "output": {"0": "3"}, **tiers})

    cost = charged.cost(usage).nanousd
    ceiling = charged.ceiling(usage.input_tokens + 1, usage.output_tokens // 2 + 1, 2)

    assert cost is not None
    assert ceiling is not None
    assert cost <= ceiling


@pytest.mark.parametrize(
    ("bounds", "nanousd"),
    [
        pytest.param((1000, 100), 1000 * 6000 + 100 * 15_000, id="dearest-input-rate"),
        pytest.param((1000, 100, 3), 1000 * 6000 + 300 * 15_000, id="several-choices"),
        pytest.param((1001, 0), 1001 * 20_000, id="reachable-tier"),
        pytest.param((0, 0), 0, id="nothing"),
    ],
)
def test_ceiling_takes_the_dearest_rate(bounds: tuple[int, ...], nanousd: int) -> None:
    """A hold assumes cache writes and the tier that the bound can reach."""
    claude = price(
        input={"0": "3", "1000": "20"}, cache_read="0.3", cache_write="3.75", cache_write_1h="6", output="15"
    )

    assert nanousd == claude.ceiling(*bounds)


def test_ceiling_is_not_known_without_a_rate() -> None:
    """A call whose tokens have no rate cannot be bounded; one that has no such tokens can."""
    assert price(input="1", image_output="9").ceiling(10, 10) is None
    assert 1_010_000 == price(input="1", request="0.001").ceiling(10, 0)


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 10**9)), min_size=2, max_size=2))
def test_arithmetic_equals_fractions(lines: list[tuple[str, int]]) -> None:
    """Nothing is lost before the one rounding up."""
    (usd_in, tokens_in), (usd_out, tokens_out) = lines
    exact = (Fraction(usd_in) * tokens_in + Fraction(usd_out) * tokens_out) * 1000

    assert (
        ceil(exact)
        == price(input=usd_in, output=usd_out).cost(Usage(input_tokens=tokens_in, output_tokens=tokens_out)).nanousd
    )


def test_every_rate_has_one_direction() -> None:
    """The ceiling sees every rate once."""
    assert len({*INPUT_RATES, *OUTPUT_RATES}) == len(INPUT_RATES) + len(OUTPUT_RATES) == len(RATES) - 1
