"""Owns the proof of what a callable function is."""

import pytest

from proxy import cel
from proxy.cel.functions import charged


@pytest.mark.parametrize(
    ("function", "arity"),
    [
        pytest.param(cel.Function(call=len, least=1), (1, 1), id="a fixed number"),
        pytest.param(cel.Function(call=max, least=1, most=3), (1, 3), id="a range"),
    ],
)
def test_arity_is_fixed_unless_a_most_is_given(function: cel.Function, arity: tuple[int, int]) -> None:
    """A function that names only its fewest arguments takes exactly that many."""
    assert arity == function.arity()


def test_a_call_is_charged_by_the_text_it_is_given() -> None:
    """Each 256 characters of text cost the function's charge once more; other arguments are free."""
    budget = cel.Budget(100)

    value = charged(budget, 3, lambda text, number: len(text) + number, "x" * 600, 1)

    assert (601, 100 - 3 * 3) == (value, budget.left)
