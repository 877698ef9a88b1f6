"""Owns the proof that tracked text names no machine or registry, finishes what it begins and explains its ignores."""

import re

import pytest

from tests.house.tree import ROOT, tracked

# Written so that this page does not find itself.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home|work|Users)" + r"/\w")
REGISTRY_HOST = re.compile(r"pypi\.o" + r"rg|pythonhosted\.o" + r"rg|npmjs\.(?:o" + r"rg|com)|debian\.o" + r"rg")
UNEXPLAINED = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type: ign" + r"ore(?:\[[\w, -]+\])?|pragma: no \w+)\s*$"
)

# Pages other people wrote, kept as they wrote them.
VERBATIM = {"LICENSE", "requirements.lock"}


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Find the tracked lines of text that match."""
    found: list[str] = []
    for name in sorted(set(tracked()) - VERBATIM):
        raw = (ROOT / name).read_bytes()
        if b"\0" in raw[:8192]:
            continue
        lines = raw.decode("utf-8").splitlines()
        found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    return found


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(UNFINISHED, id="unfinished business"),
        pytest.param(MACHINE_PATH, id="a path of one machine"),
        pytest.param(REGISTRY_HOST, id="a registry's host"),
        pytest.param(UNEXPLAINED, id="an ignored check without its reason"),
    ],
)
def test_no_tracked_line_says(pattern: re.Pattern[str]) -> None:
    """What is true on one machine, or not done yet, is not in the tree."""
    assert [] == lines_with(pattern)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        pytest.param(UNFINISHED, "# TO" + "DO: later", id="unfinished business"),
        pytest.param(MACHINE_PATH, "see /home" + "/someone/notes", id="a path of one machine"),
        pytest.param(REGISTRY_HOST, "https://pypi.o" + "rg/simple", id="a registry's host"),
        pytest.param(UNEXPLAINED, "x = eval(y)  # no" + "qa: S307", id="an ignored rule"),
        pytest.param(UNEXPLAINED, "x = y  # type: ign" + "ore[arg-type]", id="an ignored type"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], line: str) -> None:
    """Each pattern recognises an example of its kind."""
    assert pattern.search(line)


def test_no_link_is_tracked() -> None:
    """The tree holds files and no symbolic link: one that leads out of it is true on one machine only."""
    assert [] == [name for name in tracked() if (ROOT / name).is_symlink()]
