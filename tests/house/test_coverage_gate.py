"""Owns the proof that the coverage gate shuts."""

from typing import Any

import pytest

from tests.house.coverage_gate import pure_modules, shortfalls
from tests.house.tree import doors

PURE = ["proxy/gate.py"]


def report(lines: list[int], branches: list[list[int]], percent: float) -> dict[str, Any]:
    """Build the part of coverage.py's report that the gate reads, for one pure module."""
    file = {"missing_lines": lines, "missing_branches": branches}
    return {"files": {"proxy/gate.py": file}, "totals": {"percent_covered": percent}}


@pytest.mark.parametrize(
    ("judged", "pure", "expected"),
    [
        pytest.param(report([], [], 95.0), PURE, [], id="open"),
        pytest.param(report([7], [], 99.9), PURE, ["proxy/gate.py: a pure room"], id="a line"),
        pytest.param(report([], [[7, -1]], 99.9), PURE, ["proxy/gate.py: a pure room"], id="a branch"),
        pytest.param(report([7], [], 99.9), [], [], id="a line of a door"),
        pytest.param(report([], [], 94.9), PURE, ["the tree needs 95 %"], id="the tree"),
        pytest.param(report([], [], 99.9), ["proxy/lost.py"], ["proxy/lost.py: no test"], id="never imported"),
    ],
)
def test_the_gate_shuts(judged: dict[str, Any], pure: list[str], expected: list[str]) -> None:
    """A line or branch of a pure room, a module nobody imported or a thin tree keeps the gate shut."""
    found = shortfalls(judged, pure)

    assert expected == [line[: len(start)] for line, start in zip(found, expected, strict=True)]


def test_the_gate_says_where() -> None:
    """A shortfall names the first lines and branches that never ran, and how many there are."""
    (line,) = shortfalls(report(list(range(1, 9)), [[9, -1]], 99.9), PURE)

    assert line.endswith("never run: 1, 2, 3, 4, 5, 6, 7, 8, … 9 in all")


def test_a_room_is_pure_unless_it_is_a_door() -> None:
    """Whatever the import contracts do not call a door is held to 100 %, a module added tomorrow included."""
    paths = [
        "proxy/server/plane.py",
        "proxy/upstream.py",
        "proxy/tomorrow.py",
        "proxy/wire/chat.py",
        "proxy/__main__.py",
    ]

    assert ["proxy/tomorrow.py", "proxy/wire/chat.py"] == pure_modules(paths, doors())
