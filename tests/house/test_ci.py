"""Owns the proof that CI runs what a person runs, with the real data when a copy lies beside the checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.house.tree import ROOT

STAND_IN_FOR_MAKE = '#!/bin/sh\necho "$PWD make $* data=$HANDRAIL_DATA"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a folder with CI's script alone, and a `make` that says how it was called."""
    checkout = tmp_path / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", checkout / ".ci/run")
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text(STAND_IN_FOR_MAKE, encoding="utf-8")
    make.chmod(0o755)
    return checkout


def run(checkout: Path, **environment: str) -> str:
    """Run CI's script as CI does: by bash, from elsewhere, without an input."""
    path = f"{checkout.parent}/bin:{os.environ['PATH']}"
    command = ["bash", str(checkout / ".ci/run")]
    done = subprocess.run(
        command, env={"PATH": path, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_it_runs_make_test(checkout: Path) -> None:
    """Without real data CI runs `make test` at the root of the checkout, and nothing else."""
    assert f"{checkout} make test data=" == run(checkout)


def test_it_finds_the_data_beside_the_checkout(checkout: Path) -> None:
    """A folder shared/data beside the checkout becomes HANDRAIL_DATA."""
    data = checkout.parent / "shared/data"
    data.mkdir(parents=True)

    assert f"{checkout} make test data={data}" == run(checkout)


def test_it_leaves_a_given_folder_alone(checkout: Path) -> None:
    """A HANDRAIL_DATA that is set already stays, whatever lies beside the checkout."""
    (checkout.parent / "shared/data").mkdir(parents=True)

    assert f"{checkout} make test data=elsewhere" == run(checkout, HANDRAIL_DATA="elsewhere")
