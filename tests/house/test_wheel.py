"""Owns the proof that the wheel is ours alone, complete, and the same bytes whoever builds it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.house.tree import ROOT, pyproject, tracked


def build(folder: Path) -> Path:
    """Build what git knows with the locked build backend; nothing is fetched, there is no isolated environment."""
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={folder}/"], cwd=ROOT, check=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1767225600"}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    (wheel,) = folder.glob("dist/*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build twice."""
    return [build(tmp_path_factory.mktemp("wheel")) for _ in range(2)]


def test_it_is_reproducible(wheels: list[Path]) -> None:
    """Two builds of one tree are equal byte by byte, so anyone can check a published wheel."""
    first, second = wheels

    assert first.read_bytes() == second.read_bytes()


def test_it_holds_our_files_and_no_other(wheels: list[Path]) -> None:
    """The wheel has every tracked file of the package and its own metadata: no stray file, no `.pth`."""
    meta = f"handrail-{pyproject()['project']['version']}.dist-info"
    expected = {f"{meta}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}

    names = set(zipfile.ZipFile(wheels[0]).namelist())

    assert expected | {name for name in tracked() if name.startswith("proxy/")} == names
