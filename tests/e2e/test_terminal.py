"""Owns the proof that the commands see a real terminal: colours there, and none for who asked for none."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from tests.e2e.rig import HANDRAIL, WAIT_S, clean_environment


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["wanted", "refused"])
def test_colours_are_for_terminals(environment: dict[str, str]) -> None:
    """On a real terminal the output is coloured, unless NO_COLOR says no."""
    ours, theirs = pty.openpty()
    environment = clean_environment({"TERM": "xterm", **environment})

    subprocess.run([HANDRAIL, "price", "nobody-knows"], env=environment, stdout=theirs, timeout=WAIT_S, check=False)
    os.close(theirs)

    assert ("NO_COLOR" not in environment) is (b"\033[31m" in os.read(ours, 4096))
    os.close(ours)
