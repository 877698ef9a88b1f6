"""Owns the proof of proxy/cli/testing.py beyond running tests: calls that were kept become cases that come true."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy.cli import main
from proxy.terms import Exchange
from tests.cli.keeping import POLICY, keep

RECORD = ["test", "--config", "handrail.yaml", "--record"]


@pytest.fixture
async def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """Two kept calls, of which one was denied, and the policy that decided them, where the command looks."""
    monkeypatch.chdir(tmp_path)
    return await keep(tmp_path, 20.0, 80.0)


def test_calls_become_cases_that_come_true(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """The file that is written passes with the policies that decided, also where they took something out, and names
    them as seen from its own folder."""
    Path("more").mkdir()

    status = main([*RECORD, *(call.id for call in calls), "--into", "more/kept.yaml"])

    said, text = capsys.readouterr().out, Path("more/kept.yaml").read_text()
    assert (0, True, False) == (status, " 0 failed" in said, "ann@example.org" in text)
    assert ["../policy.yaml"] == yaml.safe_load(text)["spec"]["policies"]
    assert 0 == main(["test", "more/kept.yaml"])


def test_policies_that_decide_otherwise_fail_them(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """What was decided stays what is expected: a policy that changed does not pass."""
    Path("policy.yaml").write_text(POLICY.replace("CAP", "100.0"))

    assert 1 == main([*RECORD, calls[1].id, "--into", "kept.yaml"])
    assert "verdict: expected deny, got allow" in capsys.readouterr().out


def test_cases_are_printed_without_a_file(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --into the cases go to the standard output, by the id of the call or of one of its decisions."""
    assert 0 == main([*RECORD, f"{calls[0].id}-request"])
    tests = yaml.safe_load(capsys.readouterr().out)
    assert ("AgentPolicyTest", True) == (
        tests["kind"],
        {"request", "tool_call", "post"} <= {case["phase"] for case in tests["spec"]["cases"]},
    )


def test_what_cannot_be_recorded_is_told(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """A call that was not kept, a file that is there already and no question at all are problems."""
    Path("there.yaml").write_text("mine")

    statuses = [main([*RECORD, "ex_9"]), main([*RECORD, calls[0].id, "--into", "there.yaml"]), main(["test"])]

    said = capsys.readouterr().err
    assert ([2, 2, 2], "mine") == (statuses, Path("there.yaml").read_text())
    assert [True] * 3 == [
        words in said for words in ("ex_9: What policy knew is not kept", "already", "name the tests")
    ]
