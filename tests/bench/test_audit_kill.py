"""Owns the proof that killed processes leave a whole audit log, on a few kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.audit_kill import check, run
from tests.journal.written import settings, write


def test_killed_processes_leave_a_whole_log() -> None:
    """Four processes killed in the middle of their writes, two of them with half a line behind them."""
    told, problems = run(4, seed=3)

    assert ([], True) == (problems, told.startswith("4 kills, 2 half lines"))


@pytest.mark.parametrize(
    ("bill", "kills", "torn", "problem"),
    [
        pytest.param("a\n", 0, 0, None, id="all is well"),
        pytest.param("a\nb\n", 0, 0, "b was waited for and is there 0 times", id="lost"),
        pytest.param("a\n", 1, 0, "1 processes were killed, and 0 are told of", id="a gap"),
        pytest.param("a\n", 0, 1, "1 half lines were left, and not all of them are told of", id="a silent cut"),
    ],
)
def test_the_check_notices(tmp_path: Path, bill: str, kills: int, torn: int, problem: str | None) -> None:
    """Each kind of loss is named."""
    write(settings(tmp_path / "log", anchor=tmp_path / "anchor"), ["a"])
    (tmp_path / "bill").write_text(bill)

    assert ([problem] if problem else []) == check(tmp_path, kills, torn)[1]
