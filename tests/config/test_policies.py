"""Owns the proof of proxy/config/policies.py: which files are policies, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy import config
from tests.config.written import BASE, POLICY, build, load, problems


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


# --- the lock -------------------------------------------------------------------------------------------------------

PACK = {**BASE, "policies": ["pack"]}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A folder with one pack, and a lock of it."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY)
    locked = config.lock_of(load(yaml.safe_dump(PACK), tmp_path)).add(build(PACK, tmp_path).policies.documents)
    (tmp_path / "policies.lock").write_text(locked.text())
    return tmp_path


@pytest.mark.parametrize(
    ("change", "loads"),
    [
        pytest.param(("", ""), True, id="as locked"),
        pytest.param(("spec:", "# a note\nspec:"), True, id="only a comment"),
        pytest.param(("deny", "allow"), False, id="changed"),
        pytest.param(("1.0.0}", "1.0.1}"), True, id="a version that is not locked yet"),
    ],
)
def test_a_locked_version_means_one_thing(change: tuple[str, str], loads: bool, pack: Path) -> None:
    """A policy loads with the content its version was locked with, or with a new version."""
    path = pack / "pack" / "policy.yaml"
    path.write_text(path.read_text().replace(*change))

    if loads:
        assert build(PACK, pack)
    else:
        assert problems(yaml.safe_dump(PACK), pack)


def test_a_changed_version_is_told_with_its_place(pack: Path) -> None:
    """Whoever changed a policy and not its version reads where to raise it."""
    path = pack / "pack" / "policy.yaml"
    path.write_text(path.read_text().replace("deny", "allow"))

    (problem,) = problems(yaml.safe_dump(PACK), pack)

    assert "pack/policy.yaml:4:30: `p` 1.0.0 was locked as" in problem


@pytest.mark.parametrize("text", [b"p 1.0.0\n", b"\xff"])
def test_a_broken_lock_is_told(text: bytes, pack: Path) -> None:
    """A lock that cannot be read locks nothing open: it is refused."""
    (pack / "policies.lock").write_bytes(text)

    assert any("policies.lock" in problem for problem in problems(yaml.safe_dump(PACK), pack))
