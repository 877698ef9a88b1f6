"""Owns the proof that a config which cannot be read is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy import app
from proxy.errors import ConfigError


def test_a_config_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is not there, or is no text, is a problem with its name."""
    (tmp_path / "b.yaml").write_bytes(b"\xff")

    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(ConfigError) as caught:
            app.read_config(app.Options(path=tmp_path / name))
        assert name in caught.value.problems[0]
