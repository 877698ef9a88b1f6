"""Owns the proof that the servers of Debian are installed, asked for, or left alone, and that none of them starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest

from tests.conftest import pytest_collection_modifyitems
from tests.debian import PACKAGES, main, nothing_starts, program

APT_GET = """#!/bin/sh
echo $DEBIAN_FRONTEND $(/bin/cat {policy}) "$*" >> {log}
case "$*" in *install*) {then} ;; esac
"""


class Machine:
    """A machine without any of the servers, whose apt-get writes down what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.policy = folder / "policy-rc.d"
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._log = folder / "log"
        monkeypatch.setenv("PATH", str(self._bin))
        monkeypatch.delenv("SYSTEM", raising=False)

    def has_apt_get(self, then: str = "") -> None:
        """Have an apt-get that does something when it is to install; else all that it names."""
        then = then or f"for name in {' '.join(PACKAGES)}; do /bin/cp {self._bin}/apt-get {self._bin}/$name; done"
        self._write("apt-get", APT_GET.format(policy=self.policy, log=self._log, then=then))

    def has(self, *programs: str) -> None:
        """Have programs installed."""
        for name in programs:
            self._write(name, "")

    @property
    def asked(self) -> list[str]:
        """Return what apt-get was asked, each with what it knew, without its options."""
        return re.sub(r"-qq( -o \S+)* ", "", self._log.read_text()).splitlines() if self._log.exists() else []

    def _write(self, name: str, text: str) -> None:
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Give a machine with nothing on it."""
    return Machine(tmp_path, monkeypatch)


def test_root_gets_what_is_missing(machine: Machine) -> None:
    """Lists are brought up to date and each package is installed, without a question and so that nothing starts."""
    machine.has_apt_get()

    assert 0 == main(root=True, policy=machine.policy)
    assert [
        "noninteractive #!/bin/sh exit 101 update",
        f"noninteractive #!/bin/sh exit 101 install --yes --no-install-recommends {' '.join(PACKAGES.values())}",
    ] == machine.asked
    assert not machine.policy.exists()


def test_what_is_there_is_not_asked_for(machine: Machine) -> None:
    """A second run is quick: nobody is asked anything."""
    machine.has_apt_get()
    machine.has(*PACKAGES)

    assert [0, 0] == [main(root=root, policy=machine.policy) for root in (True, False)]
    assert [] == machine.asked


@pytest.mark.parametrize(
    ("then", "wrong"),
    [
        pytest.param("exit 100", "returned non-zero exit status 100", id="fails"),
        pytest.param(":", "redis-server is still missing", id="installs nothing"),
    ],
)
def test_what_goes_wrong_is_told(machine: Machine, capsys: pytest.CaptureFixture[str], then: str, wrong: str) -> None:
    """A package that cannot be had ends the set-up, with what to do instead."""
    machine.has_apt_get(then)

    assert 1 == main(root=True, policy=machine.policy)
    said = capsys.readouterr().err
    assert (True, True) == (wrong in said, "make test SYSTEM=0" in said)
    assert not machine.policy.exists()


def test_without_apt_get_it_is_told(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no Debian, nothing can be installed."""
    assert 1 == main(root=True, policy=machine.policy)
    assert "No such file or directory: 'apt-get'" in capsys.readouterr().err


def test_others_are_told_what_to_type(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Who is not root is told at once which packages are missing, how to get them, and how to do without."""
    machine.has_apt_get()
    names = " ".join(PACKAGES.values())

    assert 1 == main(root=False, policy=machine.policy)
    assert [
        f"Tests need Debian's {names}, which is not there: only root can install it.",
        f"As root:    apt-get install --no-install-recommends {names}",
        "Without it: make test SYSTEM=0, which names the tests that it does not run.",
    ] == capsys.readouterr().err.splitlines()
    assert [] == machine.asked


def test_the_machine_can_be_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SYSTEM=0 nothing is installed and nothing that is there is used."""
    monkeypatch.setenv("SYSTEM", "0")
    machine.has_apt_get()
    machine.has(*PACKAGES)

    assert 0 == main(root=True, policy=machine.policy)
    assert [] == machine.asked
    assert {""} == {program(name) for name in PACKAGES}


def test_what_the_machine_says_of_servers_stays(tmp_path: Path) -> None:
    """A policy that is there is neither changed nor deleted."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")

    with nothing_starts(policy):
        assert "theirs" == policy.read_text()
    assert "theirs" == policy.read_text()


class Needs:
    """A test that needs programs."""

    def __init__(self, name: str, *programs: str) -> None:
        self.nodeid = name
        self._programs = programs
        self.skipped: list[str] = []

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        """Return the marks by which it says so."""
        assert "debian" == name
        return [pytest.mark.debian(program).mark for program in self._programs]

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        """Hear why it is not run."""
        self.skipped.append(f"{marker.name}: {marker.kwargs['reason']}")


@pytest.mark.parametrize(
    ("system", "skipped"),
    [
        pytest.param("0", ["skip: not run, redis-server is left alone: test_a"], id="SYSTEM=0"),
        pytest.param("1", [], id="SYSTEM=1"),
    ],
)
def test_tests_that_are_not_run_are_named(monkeypatch: pytest.MonkeyPatch, system: str, skipped: list[str]) -> None:
    """With SYSTEM=0 each test that needs a server of Debian is skipped by its name, and all others run."""
    monkeypatch.setenv("SYSTEM", system)
    items = [Needs("test_a", "redis-server"), Needs("test_b")]

    pytest_collection_modifyitems(cast(list[pytest.Item], items))

    assert [skipped, []] == [item.skipped for item in items]
