"""Owns the proof of proxy/config/policies.py: which files are policies, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.config.written import BASE, POLICY, build, problems


@pytest.mark.parametrize("entry", ["pack", "pack/policy.yaml", "*/policy.yaml"])
def test_policies_are_found(entry: str, tmp_path: Path) -> None:
    """An entry of `policies` is a pack's folder, a file or a glob."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY)

    assert ["p"] == [document.name for document in build({**BASE, "policies": [entry]}, tmp_path).policies.documents]


def test_a_broken_guard_file_is_told(tmp_path: Path) -> None:
    """The file that teaches a guard is checked like a policy."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "topics.yaml").write_text("kind: Topics\n")

    assert any(
        "topics.yaml" in problem
        for problem in problems(yaml.safe_dump({**BASE, "policies": ["policy.yaml"]}), tmp_path)
    )
