"""Owns the servers of Debian that tests run against: which they are, and how they come to be installed.

`python -m tests.debian` sees that all are there: as root it installs those that are missing, to others it says what
to type. With SYSTEM=0 it leaves the machine alone, and each test that needs one of them says that it was not run.
It runs before anything else is set up, so it imports nothing that Python does not bring.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {"redis-server": "redis-server"}
"""Each program, and the package of Debian 12 that brings it."""

# A mirror that does not answer is given up in time, and another apt is waited for.
PATIENCE = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=120")
UPDATE = ("apt-get", "-qq", *PATIENCE, "update")
INSTALL = ("apt-get", "-qq", *PATIENCE, "-o", "Dpkg::Use-Pty=0", "install", "--yes", "--no-install-recommends")

POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian's packages ask whether they may start the server that they bring."""


ADVICE = """\
Tests need Debian's {names}, which is not there: {wrong}.
As root:    apt-get install --no-install-recommends {names}
Without it: make test SYSTEM=0, which names the tests that it does not run.
"""


def left_alone() -> bool:
    """Say whether nothing of the machine is to be used."""
    return os.environ.get("SYSTEM") == "0"


def program(name: str) -> str:
    """Return where one of the programs is, empty where it is not installed or is to be left alone."""
    assert name in PACKAGES, f"{name} is not in the table of packages"
    return "" if left_alone() else shutil.which(name) or ""


def missing() -> list[str]:
    """Name the packages whose programs are not installed."""
    return sorted({package for name, package in PACKAGES.items() if not shutil.which(name)})


@contextmanager
def nothing_starts(policy: Path) -> Iterator[None]:
    """Have packages start no server that they bring; what the machine says itself of that stays."""
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def install(packages: list[str], policy: Path) -> str:
    """Install packages; return what went wrong, empty where nothing did."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with nothing_starts(policy):
        for command in (UPDATE, (*INSTALL, *packages)):
            try:
                subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                return str(error)
    return f"{', '.join(missing())} is still missing" if missing() else ""


def main(*, root: bool, policy: Path = POLICY) -> int:
    """See that every server is there; the result is the exit status."""
    packages = missing()
    if left_alone() or not packages:
        return 0
    names = " ".join(packages)
    wrong = "only root can install it"
    if root:
        sys.stdout.write(f"== set-up: {names} from Debian\n")
        sys.stdout.flush()
        wrong = install(packages, policy)
    if wrong:
        sys.stderr.write(ADVICE.format(names=names, wrong=wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(root=os.geteuid() == 0))
