"""Owns the proof that the rows of bench/chaos hold on their short slices: those that take some seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("row", ["R1", "R7"])
def test_a_row_holds_on_its_short_slice(row: str) -> None:
    """As the command line runs it."""
    command = [sys.executable, "-m", "bench.chaos", "--row", row, "--slice", "short", "--seed", "7"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert (0, "1 of 1 rows met") == (ran.returncode, ran.stdout.rpartition(": ")[2].strip()), ran.stdout + ran.stderr
