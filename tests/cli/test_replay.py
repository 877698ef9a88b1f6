"""Owns the proof of proxy/cli/replay.py: what is decided differently is shown, and what cannot be told is no answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from functools import partial
from pathlib import Path

import pytest

from proxy.cli import main, replay
from proxy.kept import MOST_BYTES
from proxy.sealing import KEY_BYTES, NONCE_BYTES, Seal
from proxy.stores import sqlite
from proxy.terms import Kept
from tests.cli.keeping import ASKED, POLICY, keep


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two kept calls, of which one was denied, and the policy that decided them."""
    await keep(tmp_path, 20.0, 80.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def other(folder: Path, text: str) -> str:
    """Write another policy; return where."""
    path = folder / "new" / "policy.yaml"
    path.parent.mkdir()
    path.write_text(text)
    return str(path.parent)


@pytest.mark.parametrize("which", [["--policies", "policy.yaml"], ["--config", "handrail.yaml"]])
def test_the_same_policies_decide_the_same(folder: Path, which: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Policies as they were, named or those in force, decide as they did, where rules took something out as well."""
    assert 0 == main(["replay", *which])
    assert capsys.readouterr().out.endswith("0 calls differ\n")


async def test_content_that_is_sealed_is_opened_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the key all commands that read content do; without it each says which key is missing, and no answer is
    given."""
    monkeypatch.chdir(tmp_path)
    seal = Seal([bytes(KEY_BYTES)], partial(os.urandom, NONCE_BYTES))
    [exchange] = await keep(tmp_path, 20.0, seal=seal)
    commands = (["replay"], ["explain", exchange.id], ["test", "--record", exchange.id])

    async def run() -> list[int]:
        return [await asyncio.to_thread(main, command) for command in commands]

    assert [2, 2, 2] == await run()
    said = capsys.readouterr()
    assert (3, False) == (said.err.count("is sealed with key"), "refund order" in said.out)

    (tmp_path / "content.key").write_text("00" * KEY_BYTES)
    with (tmp_path / "handrail.yaml").open("a") as config:
        config.write("state: {content_key_file: content.key}\n")
    assert [0, 0, 0] == await run()
    assert "refund order" in capsys.readouterr().out


def test_only_calls_of_late_can_be_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --since older calls are left out; where nothing is left, nothing can be told."""
    old, recent = (main(["replay", "--policies", "policy.yaml", "--since", since]) for since in ("9d", "36500d"))

    assert (2, 0) == (old, recent)
    assert "no call was kept" in capsys.readouterr().err


def test_what_is_decided_differently_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each call that is decided differently is told with both verdicts, the rules and what they say."""
    status = main(["replay", "--policies", other(folder, POLICY.replace("CAP", "10.0")), "--show"])

    said = capsys.readouterr().out
    assert 1 == status
    assert [1, 1] == [said.count("allow → deny (c1)"), said.count("1 calls differ")]
    assert "by refunds/cap@1.0.0: A refund of that amount needs a colleague." in said
    assert 'issue_refund {"amount_usd": 20.0}' in said
    assert ("ann@example.org" in said, ASKED.partition(",")[0] in said) == (False, True)


def test_one_call_can_be_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --exchange only that call is decided again, named by itself or by one of its decisions."""
    new = other(folder, POLICY.replace("CAP", "100.0"))
    with sqlite.Reader(".handrail/handrail.sqlite") as reader:
        first, second = (kept.exchange_id for kept in reader.kept(0))

    assert [0, 1] == [main(["replay", "--policies", new, "--exchange", name]) for name in (first, f"{second}-request")]
    assert 2 == main(["replay", "--policies", new, "--exchange", "ex_9"])
    assert "obligations: [record]" in capsys.readouterr().err


def test_a_program_can_read_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json tells the same."""
    main(["replay", "--policies", other(folder, POLICY.replace("CAP", "100.0")), "--json"])

    told = json.loads(capsys.readouterr().out)
    (one,) = told["different"]
    assert (2, [], "tool_call", "deny", "allow") == (
        told["calls"], told["unknown"], one["phase"], one["was"]["verdict"], one["now"]["verdict"]
    )  # fmt: skip


def test_what_cannot_be_told_is_a_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guard that did not run then leaves the question open: exit 2, and the reason for each call."""
    new = POLICY.replace("CAP", "50.0") + (
        '    - {id: mood, phase: request, when: guards.sentiment.label == "x", action: deny, message: no}\n'
    )

    assert 2 == main(["replay", "--policies", other(folder, new)])
    assert 2 == capsys.readouterr().out.count("the guard sentiment did not run")


async def test_what_was_too_large_is_a_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a call that was too large to keep nothing can be told."""
    async with sqlite.open(sqlite.Settings(path=".handrail/handrail.sqlite")) as store:
        store.keep(Kept(exchange_id="ex_8", at_ms=1, policy_digest="", too_large=MOST_BYTES + 1))

    assert 2 == await asyncio.to_thread(main, ["replay", "--policies", "policy.yaml"])
    assert "ex_8: it was too large to keep (1,048,577 bytes)" in capsys.readouterr().out


def test_policies_that_are_wrong_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without policies, or one that the configuration names and is gone, is a problem with its name."""
    (folder / "empty").mkdir()
    (folder / "policy.yaml").unlink()

    assert [2, 2] == [main(["replay", "--policies", "empty"]), main(["replay", "--config", "handrail.yaml"])]
    said = capsys.readouterr().err
    assert ("no policy.yaml in empty" in said, "no file matches policy.yaml" in said) == (True, True)


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("30m", 1_800_000), ("24h", 86_400_000), ("7d", 604_800_000)]
)
def test_spans_of_time(text: str, ms: int) -> None:
    """A span is a whole number and its unit."""
    assert ms == replay.span(text)


@pytest.mark.parametrize("text", ["", "24", "h", "1.5h", "-1h", "1w", "²h"])
def test_what_is_no_span_of_time(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(argparse.ArgumentTypeError, match="write 90s"):
        replay.span(text)
