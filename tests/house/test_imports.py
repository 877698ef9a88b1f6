"""Owns the proof that the import contracts hold, and that each of them breaks when its rule is broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT, modules, pyproject

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def run_contracts(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    """Check one contract of the tree in a folder."""
    command = [str(LINT_IMPORTS), "--no-cache", "--no-logo", "--contract", contract]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of the tree that a test may spoil."""
    for name in (*modules(), "pyproject.toml"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tmp_path


def spoil(copy: Path, files: dict[str, str]) -> None:
    """Add modules to a copy of the tree, the doors of their packages included."""
    for name, code in files.items():
        path = copy / "proxy" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        door = path.parent / "__init__.py"
        if not door.exists():
            door.write_text("", encoding="utf-8")
        path.write_text(f"{code}\n", encoding="utf-8")


LATE = "def late():\n    "

SPOILT = [
    pytest.param("layers", {"gate": "import proxy.routing"}, "proxy.gate -> proxy.routing", id="sideways"),
    pytest.param("layers", {"errors": "import proxy.ports"}, "proxy.errors -> proxy.ports", id="upwards"),
    pytest.param("layers", {"oddment": ""}, "- proxy.oddment", id="a module without a place"),
    pytest.param("pure", {"oddment": f"{LATE}import time"}, "proxy.oddment -> time", id="a clock in a function"),
    pytest.param("pure", {"policy/odd": "from os import environ"}, "proxy.policy.odd -> os", id="the environment"),
    pytest.param("aiohttp", {"config": "import aiohttp"}, "proxy.config -> aiohttp", id="HTTP behind a hatch"),
    pytest.param(
        "shelves",
        {"guards/aa": "from . import bb", "guards/bb": ""},
        "proxy.guards.aa -> proxy.guards.bb",
        id="neighbours",
    ),
    pytest.param(
        "package-doors",
        {"config": "import proxy.policy.odd", "policy/odd": ""},
        "proxy.config -> proxy.policy.odd",
        id="a back door",
    ),
    pytest.param(
        "acyclic",
        {"policy/aa": "import proxy.policy.bb", "policy/bb": f"{LATE}import proxy.policy.aa"},
        "No cycles are allowed in proxy.policy",
        id="a hidden cycle",
    ),
]


@pytest.mark.parametrize(("contract", "files", "finding"), SPOILT)
def test_a_broken_rule_is_found(copy: Path, contract: str, files: dict[str, str], finding: str) -> None:
    """Each contract of pyproject.toml turns red for the import it forbids."""
    spoil(copy, files)

    run = run_contracts(copy, contract)

    assert (1, True) == (run.returncode, finding in " ".join(run.stdout.split())), run.stdout


def test_every_contract_was_seen_to_break() -> None:
    """The cases above leave no contract of pyproject.toml unproven."""
    declared = {contract["id"] for contract in pyproject()["tool"]["importlinter"]["contracts"]}

    assert declared == {case.values[0] for case in SPOILT}
