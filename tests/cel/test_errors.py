"""Owns the proof of how an expression can fail."""

import pytest

from proxy import cel
from proxy.cel.errors import as_cel_error, no_overload


def test_a_syntax_error_says_where() -> None:
    """A rejected expression names line, column and reason, for a program and for a person."""
    error = cel.CelSyntaxError("unexpected ')'", 2, 7)

    assert ("2:7: unexpected ')'", "unexpected ')'", 2, 7) == (str(error), error.message, error.line, error.column)


def test_a_budget_is_charged_until_it_is_used_up() -> None:
    """The unit that is not there is an error of kind budget; the last one that is there is not."""
    budget = cel.Budget(5)

    budget.charge(5)

    with pytest.raises(cel.CelError, match="used up") as caught:
        budget.charge(1)
    assert (0 - 1, "budget") == (budget.left, caught.value.kind)


def test_data_is_no_part_of_what_may_be_kept() -> None:
    """The whole text names the value that could not be used, shortened; the message that records keep does not."""
    error = cel.CelError("no_such_key", "no such key", "ann@example.org" + "x" * 99)

    assert ("no such key", True, 73) == (error.message, "ann@example.org" in str(error), len(str(error)))


def test_an_overload_error_names_what_was_given() -> None:
    """The message of a wrong operand says which kinds came."""
    assert "+ does not take (int, string)" == str(no_overload("+", "int", "string"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(cel.CelError("overflow", "too big"), "overflow", id="ours stays as it is"),
        pytest.param(RecursionError("deep"), "budget", id="no stack left"),
        pytest.param(MemoryError(), "budget", id="no memory left"),
        pytest.param(ZeroDivisionError("x"), "type", id="anything a value's own code raises"),
    ],
)
def test_every_exception_becomes_a_cel_error(error: Exception, kind: str) -> None:
    """An evaluation shows one kind of exception; running out of room counts as a used-up budget."""
    assert kind == as_cel_error(error).kind
