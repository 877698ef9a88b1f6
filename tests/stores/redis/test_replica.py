"""Owns the proof of proxy/stores/redis/replica.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.stores.redis.replica import named


def test_a_name_stays(tmp_path: Path) -> None:
    """The name is made at the first start and found by later ones; no two are the same."""
    paths = [str(tmp_path / name) for name in ("one", "one", "two")]
    names = []
    for path in paths:
        with named(path) as name:
            names.append(name)

    assert names[0] == names[1] != names[2]
    assert {16} == {len(name) for name in names}


def test_a_name_is_for_one_process(tmp_path: Path) -> None:
    """Two that went by one name would each undo what the other says."""
    path = str(tmp_path / "id")

    with named(path), pytest.raises(ConfigError, match="another process keeps its books beside"), named(path):
        raise AssertionError("there are two of them")


def test_a_name_needs_its_file(tmp_path: Path) -> None:
    """Where the file cannot be made, the error says which and why."""
    with (
        pytest.raises(ConfigError, match=r"state.path: .*/gone/id cannot be used: No such file"),
        named(str(tmp_path / "gone/id")),
    ):
        raise AssertionError("there is no folder")
