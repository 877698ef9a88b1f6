"""Proves that money is read and written exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounting import NANOUSD_PER_USD, format_usd, parse_usd
from proxy.accounting.money import parse_scaled


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("2.50", 2_500_000_000, id="decimal-text"),
        pytest.param(" $0.000000001 ", 1, id="one-nano-dollar"),
        pytest.param(3, 3 * NANOUSD_PER_USD, id="integer"),
        pytest.param(0.1, 100_000_000, id="float-as-it-prints"),
        pytest.param(1e-07, 100, id="float-with-exponent"),
        pytest.param(Decimal("1.25"), 1_250_000_000, id="decimal"),
        pytest.param("1.5000000000000", 1_500_000_000, id="zeros-beyond-nano"),
        pytest.param("0", 0, id="zero"),
    ],
)
def test_amounts_are_read_exactly(value: object, expected: int) -> None:
    """Text, integers and the floats of a YAML file all mean the decimal that a person sees."""
    assert expected == parse_usd(value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param("-1", "plain decimal", id="negative"),
        pytest.param("", "plain decimal", id="empty"),
        pytest.param("1,50", "plain decimal", id="comma"),
        pytest.param("1e3", "plain decimal", id="exponent"),
        pytest.param("1_000", "plain decimal", id="underscore"),
        pytest.param("\uff11", "plain decimal", id="other-digits"),
        pytest.param(True, "plain decimal", id="boolean"),
        pytest.param(None, "plain decimal", id="null"),
        pytest.param(float("nan"), "plain decimal", id="nan"),
        pytest.param(float("inf"), "plain decimal", id="infinite"),
        pytest.param("0.0000000001", "at most 9 decimals", id="too-fine"),
        pytest.param("9223372037", "more than can be counted", id="too-large"),
    ],
)
def test_what_is_not_an_amount_is_refused(value: object, problem: str) -> None:
    """Nothing is rounded or guessed; the error says what is wrong."""
    with pytest.raises(ValueError, match=problem):
        parse_usd(value)


@pytest.mark.parametrize(
    ("nanousd", "expected"),
    [
        pytest.param(0, "$0.00", id="zero"),
        pytest.param(2_500_000_000, "$2.50", id="cents"),
        pytest.param(123_000, "$0.000123", id="small"),
        pytest.param(1, "$0.000000001", id="smallest"),
        pytest.param(-1_050_000_000, "-$1.05", id="negative"),
        pytest.param(1_234_567_890_123_456_789, "$1234567890.123456789", id="large"),
    ],
)
def test_amounts_are_written_for_people(nanousd: int, expected: str) -> None:
    """At least cents, never more digits than needed, never less than exact."""
    assert expected == format_usd(nanousd)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_reading_undoes_writing(nanousd: int) -> None:
    """No amount is lost between a report and a config file."""
    assert nanousd == parse_usd(format_usd(nanousd))


def test_scale_is_the_callers() -> None:
    """Rates are read finer than amounts."""
    assert 41_666_666_666_666_664 == parse_scaled("0.041666666666666664", 18)
