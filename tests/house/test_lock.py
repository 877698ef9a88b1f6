"""Owns the proof that what set-up installs is pinned, hashed and in step with what the project asks for."""

import json
import re
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import pyproject, text


def locked() -> dict[str, str]:
    """Read the pinned version of every locked distribution."""
    pins = re.findall(r"^([a-z0-9-]+)==([^ ]+)", text("requirements.lock"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def asked() -> list[Requirement]:
    """Read everything pyproject.toml asks for: to run, to build, as an extra, to develop."""
    project = pyproject()["project"]
    groups = [*project["optional-dependencies"].values(), *pyproject()["dependency-groups"].values()]
    lines = [*project["dependencies"], *pyproject()["build-system"]["requires"], *chain.from_iterable(groups)]
    return [Requirement(line) for line in lines]


def test_the_lock_answers_every_requirement() -> None:
    """Each requirement of pyproject.toml is locked to a version it allows; `make lock` mends a red test."""
    pins = locked()
    unmet = [need for need in asked() if not need.specifier.contains(pins.get(canonicalize_name(need.name), "0"))]

    assert [] == unmet


def test_every_locked_file_is_hashed() -> None:
    """No pin goes without a hash, so a replaced file is not installed."""
    entries = re.split(r"\n(?=[a-z0-9])", text("requirements.lock"))[1:]

    assert [] == [entry.split(" ")[0] for entry in entries if "--hash=sha256:" not in entry]


def test_locks_name_no_place() -> None:
    """Locks say what is installed and never from where: a mirror serves as well as the public registry."""
    node = json.loads(text("tests/e2e/node/package-lock.json"))["packages"]

    assert "//" not in text("requirements.lock")
    assert [] == [name for name, entry in node.items() if "resolved" in entry or (name and "integrity" not in entry)]
