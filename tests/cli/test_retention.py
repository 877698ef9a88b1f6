"""Owns the proof of proxy/cli/retention.py: what goes, by tier and table, is said before it does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from tests.app.running import CONFIG
from tests.stores.samples import exchange

AWAY = "tiers: {warm: {postgres: {url: 'postgresql://127.0.0.1:9/x'}, keep_days: 30}}\n"


def configured(folder: Path, more: str) -> str:
    """Write a configuration, and records of long ago."""
    path = folder / "handrail.yaml"
    path.write_text(CONFIG + more)
    (folder / ".handrail").mkdir()
    with closing(connect(str(folder / ".handrail" / "handrail.sqlite"))) as connection:
        books = Books(connection)
        books.commit([partial(books.finish, exchange(f"ex_{number}", started_ms=number)) for number in range(3)])
    return str(path)


def left(folder: Path) -> int:
    with closing(sqlite3.connect(folder / ".handrail" / "handrail.sqlite")) as connection:
        count: int = connection.execute("SELECT count(*) FROM exchanges").fetchone()[0]
        return count


def test_a_dry_run_says_what_would_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The count is that of the deletion that follows; a dry run deletes nothing."""
    path = configured(tmp_path, "state: {keep_days: 365}\n")

    assert (0, 3) == (main(["retention", "--dry-run", "--config", path]), left(tmp_path))
    assert "local  exchanges  kept 365 days   would delete 2" in capsys.readouterr().out.splitlines()
    assert (0, 1) == (main(["retention", "--config", path]), left(tmp_path))
    assert "local  exchanges  kept 365 days   deleted 2" in capsys.readouterr().out.splitlines()


def test_what_hosts_share_is_asked_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Entries of the hot tier go by themselves: of the others all is said, whether Redis answers or not."""
    path = configured(tmp_path, "tiers: {hot: {redis: {url: 'redis://127.0.0.1:9'}}, cold: {url: cold}}\n")
    (tmp_path / "cold").mkdir()

    assert 0 == main(["retention", "--dry-run", "--config", path])
    assert ["local  facts      kept 30 days   would delete 0", "cold   keeps everything for ever"] == (
        capsys.readouterr().out.splitlines()
    )


def test_a_tier_that_is_away_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be asked is told as such, and the answer is no."""
    path = configured(tmp_path, AWAY)

    assert 1 == main(["retention", "--dry-run", "--config", path])
    assert "warm   exchanges  kept 30 days   The warm tier cannot be used: Connection refused." in (
        capsys.readouterr().out.splitlines()
    )


def test_without_records_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first start nothing is made by asking."""
    (tmp_path / "handrail.yaml").write_text(CONFIG)

    assert 0 == main(["retention", "--config", str(tmp_path / "handrail.yaml")])
    assert ("nothing is recorded here yet\n", False) == (capsys.readouterr().out, (tmp_path / ".handrail").exists())
