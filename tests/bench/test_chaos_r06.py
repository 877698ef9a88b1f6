"""Owns the proof of row R6 on a few streams."""

from __future__ import annotations

from pathlib import Path

from bench.chaos.rows import r06
from bench.chaos.rows_api import Plan


def test_a_stop_truncates_nothing_that_fits(tmp_path: Path) -> None:
    """Of twenty open streams those that fit the grace are whole, the others are told, and all are settled on record."""
    figures = r06.run(Plan(seed=1, full=False, folder=tmp_path)).figures

    names = ("truncated that fit the grace", "untold that did not fit", "not on record", "still held", "exit code")
    assert [0] * 5 == [figures[name] for name in names]
    assert (15, 5, 20) == (figures["streams that fit"], figures["that did not"], figures["records"])
