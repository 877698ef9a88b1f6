"""Owns the proof of proxy/cli/serve.py: it serves until told to stop, and says where it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import main

CONFIG = """
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
agent: {id: web, level: assist}
providers: {model: {dialect: simulated, prices: openai}}
"""
BESIDES = """
auth: {keys_file: keys.yaml}
budgets: {redis: {url: 'redis://127.0.0.1:1'}}
tiers:
  hot: {redis: {url: 'redis://127.0.0.1:2'}}
  warm: {postgres: {url: 'postgresql://127.0.0.1:3/r'}}
  cold: {url: cold}
audit: {required: true}
"""


def test_serve_announces_itself_and_stops_when_told(tmp_path: Path) -> None:
    """The first lines say what to set OPENAI_BASE_URL to and what is in force; SIGTERM ends it with status 0."""
    (tmp_path / "handrail.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(tmp_path / "handrail.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout
        said = [process.stdout.readline() for _ in range(8)]
        process.send_signal(signal.SIGTERM)
        process.wait(20)

    page = "".join(said)
    assert 0 == process.returncode
    assert "Handrail is ready." in page
    assert "OPENAI_BASE_URL=http://127.0.0.1:" in page
    assert "web, level assist" in page
    assert "simulated model" in page


def test_serve_says_what_there_is_besides(tmp_path: Path) -> None:
    """Who may call, what hosts share, the tiers and the audit log are told, also while none of them answers."""
    (tmp_path / "handrail.yaml").write_text(CONFIG + BESIDES)
    (tmp_path / "keys.yaml").write_text(f"[{{name: web, sha256: {'0' * 64}}}]")
    (tmp_path / "cold").mkdir()
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(tmp_path / "handrail.yaml")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout
        said = dict(" ".join(process.stdout.readline().split()).partition(" ")[::2] for _ in range(16))
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    assert "keys_file" == said["callers"]
    assert ["shared in redis://127.0.0.1:1", "shared in redis://127.0.0.1:2"] == [said["limits"], said["sessions"]]
    assert ["tier postgresql://127.0.0.1:3/r", "tier cold", "log required"] == [
        said["warm"],
        said["cold"],
        said["audit"],
    ]


def test_a_wrong_config_is_told_and_nothing_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem is a line; the status is 2."""
    (tmp_path / "handrail.yaml").write_text("lisen: x\nagnt: {}\n")

    assert 2 == main(["serve", "--config", str(tmp_path / "handrail.yaml")])
    said = capsys.readouterr().err.splitlines()
    assert ["lisen", "agnt"] == [line.split("`")[1] for line in said[:2]]
    assert "handrail: 2 problems; nothing was started" == said[-1]


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """--help has examples that can be copied."""
    with pytest.raises(SystemExit) as left:
        main(["--help"])

    assert 0 == left.value.code
    assert "handrail serve --config handrail.yaml" in capsys.readouterr().out


def test_a_reader_that_left_is_no_error() -> None:
    """`handrail … | head` ends quietly."""
    command = f"{sys.executable} -m proxy price gpt-4o | true; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
