"""Owns the proof of proxy/cli/audit.py: anybody can check the log, and what it cannot show is said."""

from __future__ import annotations

import asyncio
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy import audit, journal
from proxy.cli import main
from proxy.journal.log import Log
from proxy.stores import sqlite
from proxy.terms import Exchange, State
from tests.journal.written import AT_MS, settings, write
from tests.stores.samples import exchange

CONFIG = """
providers: {model: {dialect: simulated, prices: openai}}
audit: {anchor: {path: anchor}}
"""
NEWEST = "entries-000000000000.jsonl"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration, and the log of two calls that it names."""
    path = tmp_path / "handrail.yaml"
    path.write_text(CONFIG)
    log = Log.open(settings(log_of(path), anchor=tmp_path / "anchor"), AT_MS)
    log.append([partial(audit.finished, call) for call in calls()])
    log.append([audit.event("stopped", AT_MS, {})])
    log.checkpoint()
    log.anchor()
    log.close()
    return path


def calls() -> list[Exchange]:
    """Make two records."""
    return [exchange("ex_1", State.COMPLETE), exchange("ex_2", State.COMPLETE)]


def log_of(config: Path) -> Path:
    """Name the log's folder."""
    return config.parent / ".handrail" / "audit"


def spoil(config: Path) -> None:
    """Change a call's entry."""
    path = log_of(config) / NEWEST
    path.write_bytes(path.read_bytes().replace(b'"id":"ex_1"', b'"id":"ex_9"'))


def run(config: Path, verb: str, *more: str) -> int:
    """Run a command."""
    return main(["audit", verb, *more, "--config", str(config)])


def test_a_log_as_it_was_written_is_proven(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default with the anchor that the configuration names; that the key lies beside the log is said."""
    assert 0 == run(config, "verify")

    said = capsys.readouterr().out
    assert ("4 entries, 4 of them signed", "4 entries are covered") == tuple(
        words for words in ("4 entries, 4 of them signed", "4 entries are covered") if words in said
    )
    assert ("no --key" in said, "no --anchor" in said) == (True, False)


def test_a_log_that_was_changed_is_not(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found goes to stderr, and the status is 1."""
    spoil(config)

    assert 1 == run(config, "verify")
    said = capsys.readouterr()
    assert "entries 1 to 3 are not those that were signed" in said.err
    assert "NOT AS IT WAS SIGNED" in said.out


def test_a_log_that_was_taken_away_shows_by_the_anchor(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another that was begun in its place is as it was signed, and the one before is named."""
    name = journal.key_of(log_of(config)).name
    shutil.rmtree(log_of(config))
    write(settings(log_of(config), anchor=config.parent / "anchor"), ["new"])

    assert 0 == run(config, "verify")
    assert f"checkpoints of {name} are kept as well" in capsys.readouterr().out


def test_a_torn_end_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no change: nothing of it was signed."""
    with (log_of(config) / NEWEST).open("ab") as file:
        file.write(b'{"at_ms"')

    assert 0 == run(config, "verify")
    assert "its last line is not whole" in capsys.readouterr().out


def test_without_config_or_anchor(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder is enough; what that cannot show is said."""
    assert 0 == main(["audit", "verify", "--log", str(log_of(config))])
    assert "no --anchor: that its end is missing" in capsys.readouterr().out


def test_a_cut_end_shows_by_the_anchor_alone(config: Path, tmp_path: Path) -> None:
    """With checkpoints taken back as well, only those kept elsewhere know."""
    kept = {path: path.read_bytes() for path in log_of(config).iterdir()}
    write(settings(log_of(config), anchor=tmp_path / "anchor"), ["more"])
    for path, data in kept.items():
        path.write_bytes(data)
    other = tmp_path / "other"
    other.write_text(journal.text(log_of(config) / journal.CHECKPOINTS))

    assert (1, 0) == (run(config, "verify"), run(config, "verify", "--anchor", str(other)))


def test_a_key_of_one_s_own(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever kept the key trusts nothing that lies beside the log."""
    run(config, "key")
    (tmp_path / "mine.pub").write_text(capsys.readouterr().out)
    (tmp_path / "other.pub").write_text(audit.Signer("x", bytes(32)).verifier.line)

    assert 0 == run(config, "verify", "--key", str(tmp_path / "mine.pub"))
    assert "no --key" not in capsys.readouterr().out
    assert 1 == run(config, "verify", "--key", str(tmp_path / "other.pub"))


def test_verify_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    spoil(config)

    assert 1 == run(config, "verify", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (4, 4, 4, 0, 1) == (*(told[k] for k in ("entries", "signed", "anchored", "records")), len(told["problems"]))


async def _keep(config: Path, *records: Exchange) -> None:
    async with sqlite.open(sqlite.Settings(path=str(config.parent / ".handrail" / "handrail.sqlite"))) as store:
        for record in records:
            store.finish(record)


@pytest.mark.parametrize(
    ("changed", "erased", "status", "said"),
    [
        pytest.param(False, "", 0, "2 records were compared", id="as they were"),
        pytest.param(True, "", 1, "the record of ex_1 is not the one that entry 1 is bound to", id="changed"),
        pytest.param(True, "ex_1", 0, "1 records were compared", id="without its salt nobody can say"),
    ],
)
def test_records_are_held_against_the_log(
    config: Path, changed: bool, erased: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record that was changed in the store is not the one that was logged; one that is gone is not compared."""
    first, second = calls()
    asyncio.run(_keep(config, replace(first, status=201) if changed else first, second))
    if erased:
        assert 0 == run(config, "erase", erased)

    assert status == run(config, "verify", "--records")
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_erasing_what_is_not_there(config: Path) -> None:
    """Is told by the status."""
    assert 1 == run(config, "erase", "ex_9")


@pytest.fixture
def proof(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The proof of a call."""
    assert 0 == run(config, "prove", "ex_2")
    path = tmp_path / "ex_2.tlog-proof"
    path.write_text(capsys.readouterr().out)
    return path


def test_a_proof_stands_alone(config: Path, proof: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the public key and nothing else it shows its entry."""
    key = tmp_path / "key"
    key.write_text(journal.key_of(log_of(config)).line)

    assert 0 == main(["audit", "verify-proof", str(proof), "--key", str(key)])
    shown = capsys.readouterr()
    assert ("ex_2", True) == (json.loads(shown.out)["id"], "entry 2 of 4" in shown.err)


def test_a_spoilt_proof_shows_nothing(config: Path, proof: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says why."""
    proof.write_text(proof.read_text().replace("index 2", "index 1"))

    assert 1 == run(config, "verify-proof", str(proof))
    assert "NOT PROVEN: the entry is not in the log" in capsys.readouterr().err


def test_growth_is_proven(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever kept an old checkpoint is shown that the log of today goes on from it."""
    old, grown = tmp_path / "old", tmp_path / "grown"
    old.write_text(list(audit.notes(journal.text(tmp_path / "anchor")))[-1])
    write(settings(log_of(config), anchor=tmp_path / "anchor"), ["more"])

    assert 0 == run(config, "prove", "--since", str(old))
    grown.write_text(capsys.readouterr().out)
    assert 0 == run(config, "verify-proof", str(grown), "--since", str(old))
    assert "only grew, to 6 entries" in capsys.readouterr().out


def test_what_cannot_be_proven(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such entry, or one that no checkpoint covers yet; a spoilt line beside is no hindrance."""
    with (log_of(config) / NEWEST).open("ab") as file:
        file.write(audit.canonical({"id": "ex_3", "kind": "call", "seq": 4}) + b"\nx\n")

    assert [1, 1, 0] == [run(config, "prove", name) for name in ("ex_9", "ex_3", "ex_2")]
    assert ["no entry of ex_9", "ex_3 is not signed yet: ask again in some seconds"] == (
        capsys.readouterr().err.splitlines()
    )


def test_what_cannot_be_asked(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2: no log, no file, no key, no checkpoint."""
    (tmp_path / "text").write_text("x")
    (tmp_path / "bytes").write_bytes(b"\xff")

    assert [2] * 6 == [
        main(["audit", "key", "--log", str(tmp_path / "none")]),
        run(config, "verify", "--anchor", str(tmp_path / "none")),
        run(config, "verify", "--anchor", str(tmp_path / "bytes")),
        run(config, "verify", "--key", str(tmp_path / "text")),
        run(config, "prove", "--since", str(tmp_path / "text")),
        run(config, "verify-proof", str(tmp_path / "none")),
    ]
    assert "there is no audit log" in capsys.readouterr().err
