"""Owns the proof of proxy/cli/configuration.py: no command overlooks the configuration that another one reads."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from proxy.cli import configuration, main


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["serve"], id="serve"),
        pytest.param(["check"], id="check"),
        pytest.param(["tail"], id="tail"),
        pytest.param(["explain", "ex_1"], id="explain"),
        pytest.param(["replay"], id="replay"),
        pytest.param(["diff"], id="diff"),
        pytest.param(["approvals", "list"], id="approvals"),
        pytest.param(["escalations", "list"], id="escalations"),
        pytest.param(["audit", "key"], id="audit"),
    ],
)
def test_the_file_here_is_read_unless_another_is_named(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is run where a handrail.yaml stands reads it; `check` and `serve` never mean different files."""
    (tmp_path / "handrail.yaml").write_text("lisen: x\n")
    monkeypatch.chdir(tmp_path)

    status = main(command)

    assert (2, "handrail.yaml:1:1: unknown key `lisen`") == (status, capsys.readouterr().err[:38])


def test_without_a_file_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made up where no handrail.yaml stands: the embedded defaults hold."""
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    configuration.add(parser)

    assert parser.parse_args([]).config is None
