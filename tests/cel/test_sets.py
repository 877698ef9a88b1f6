"""Owns the proof of sets.*."""

import pytest

from tests.cel.running import failure, run, units


@pytest.mark.parametrize(
    ("call", "value"),
    [
        pytest.param("contains([1, 2, 3], [2, 3u, 1.0])", True, id="all are in it, by value"),
        pytest.param("contains([1], [1, 2])", False, id="one is not"),
        pytest.param("contains([], [])", True, id="nothing in nothing"),
        pytest.param("contains([true], [1])", False, id="a bool is no number"),
        pytest.param("equivalent([1, 1, 2], [2, 1.0])", True, id="repetition and order do not count"),
        pytest.param("equivalent([1], [1, 2])", False, id="one more"),
        pytest.param("intersects([1, 2], [2, 3])", True, id="one in common"),
        pytest.param("intersects([[1]], [[1.0]])", True, id="a list in common"),
        pytest.param("intersects([1], [])", False, id="nothing in common"),
    ],
)
def test_sets(call: str, value: bool) -> None:
    """Lists are compared as sets, by CEL's equality."""
    assert value is run(f"sets.{call}")


@pytest.mark.parametrize("call", ["contains([1], 1)", "equivalent('a', ['a'])", "intersects({}, {})"])
def test_only_lists_are_sets(call: str) -> None:
    """Anything else is an error."""
    assert "no_such_overload" == failure(f"sets.{call}")


def test_the_comparison_of_two_lists_is_charged() -> None:
    """Every pair that is compared is paid for."""
    assert units("sets.contains(l, l)", {"l": [1.5] * 50}) >= 50
