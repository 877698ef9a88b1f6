"""Owns the folder that a whole Handrail starts from in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.running import CONFIG, POLICY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a config and a policy about the word `one`."""
    (tmp_path / "handrail.yaml").write_text(CONFIG + "policies: [policy.yaml]\n")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("WORD", "three"))
    return tmp_path
