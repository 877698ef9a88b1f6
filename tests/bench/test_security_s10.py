"""Owns the proof of rows S7 and S10: what is found in a log, packages and a wheel, and that CVEs are no pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos.rows_api import Plan
from bench.security import s07, s10
from bench.security.outcomes import passed


def test_changes_of_a_log_are_found(tmp_path: Path) -> None:
    """All that were tried."""
    assert passed(s07.run(Plan(seed=1, full=False, folder=tmp_path)))


def test_little_is_brought_along(tmp_path: Path) -> None:
    """The inventory is written, and what was not looked up is not met."""
    lines = s10.run(Plan(seed=1, full=False, folder=tmp_path))

    assert passed(lines), lines
    assert {"known CVEs"} == {line.what for line in lines if line.met is None}
    assert (tmp_path / "sbom.json").exists()


@pytest.mark.parametrize("text", ["PyYAML>=6", "pyyaml ; extra == 'x'", "PyYaml[a]==1"])
def test_a_package_is_spelled_in_one_way(text: str) -> None:
    """Whatever case and marks a requirement has."""
    assert "pyyaml" == s10.named(text)


def test_what_runs_by_itself_is_found() -> None:
    """A file that Python reads at each start, or one outside of our folders, has no place in the wheel."""
    names = ["proxy/app.py", "handrail-1.dist-info/RECORD", "handrail-1.pth", "other/x.py"]

    assert ["handrail-1.pth", "other/x.py"] == s10.strange(names)
