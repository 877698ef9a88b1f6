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
    """Few packages, the inventory is written, and nothing of the wheel runs by itself."""
    lines = s10.run(Plan(seed=1, full=False, folder=tmp_path))

    assert passed(lines), lines
    assert (tmp_path / "sbom.json").exists()


@pytest.mark.parametrize("text", ["PyYAML>=6", "pyyaml ; extra == 'x'", "PyYaml[a]==1"])
def test_a_package_is_spelled_in_one_way(text: str) -> None:
    """Whatever case and marks a requirement has."""
    assert "pyyaml" == s10.named(text)


def test_what_runs_by_itself_is_found() -> None:
    """A file that Python reads at each start, or one outside of our folders, has no place in the wheel."""
    names = ["proxy/app.py", "handrail-1.dist-info/RECORD", "handrail-1.pth", "other/x.py"]

    assert ["handrail-1.pth", "other/x.py"] == s10.strange(names)


def answering(folder: Path, answer: str) -> str:
    """Return a program that answers as `pip-audit` would."""
    (folder / "answer.json").write_text(answer)
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat {folder}/answer.json\n")
    program.chmod(0o700)
    return str(program)


SAFE = '{"dependencies": [{"name": "PyYAML", "vulns": []}]}'


@pytest.mark.parametrize(
    ("answer", "met", "note"),
    [
        pytest.param(SAFE, True, "", id="none is known"),
        pytest.param(SAFE.replace("[]", '[{"id": "PYSEC-1"}]'), False, "PyYAML: PYSEC-1", id="one is known"),
        pytest.param(SAFE.replace('"vulns": []', '"skip_reason": "?"'), None, "for 1: pyyaml", id="skipped"),
        pytest.param('{"dependencies": []}', None, "for 1: pyyaml", id="left out"),
        pytest.param("connection refused", None, "no answer", id="no answer"),
    ],
)
def test_what_is_not_looked_up_is_not_met(tmp_path: Path, answer: str, met: bool | None, note: str) -> None:
    """Only an answer for every package counts as one."""
    line = s10.known(["pyyaml"], tmp_path, answering(tmp_path, answer))

    assert met == line.met
    assert note in "".join(line.notes)
