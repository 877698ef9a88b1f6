"""Owns the proof of row R11 in a short storm."""

from __future__ import annotations

from pathlib import Path

from bench.chaos.rows import r11
from bench.chaos.rows_api import Plan
from proxy.routing import RETRIES_AT_ONCE


def test_a_storm_of_refusals_is_not_multiplied(tmp_path: Path) -> None:
    """Three targets that refuse are soon asked once for each call; clients get the refusal, and later an answer."""
    outcome = r11.run(Plan(seed=1, full=False, folder=tmp_path))
    figures = outcome.figures

    assert (0, 0) == (figures["not refused as the provider refused"], figures["not answered well after the storm"])
    assert int(figures["most attempts of a request"]) <= 3
    assert int(figures["attempts"]) <= int(figures["calls"]) + 2 * (RETRIES_AT_ONCE + 30)
