"""Owns loops, and the logic that absorbs errors: `||`, `&&`, `exists`, `all` in any order of their operands.

In: thunks, one per operand or loop row. Out: True or False, or the first error when nothing outweighs it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from .errors import Budget, CelError, as_cel_error, no_overload
from .operators import truth
from .values import kind_of

Thunk = Callable[[], object]
ABSORPTION = 32
"""What an absorbed error costs: making, raising and catching it."""


def any_of(budget: Budget, thunks: Iterable[Thunk]) -> bool:
    """Return True if some operand is true, whatever the others do; else their first error; else False."""
    return _decide(budget, thunks, True)


def all_of(budget: Budget, thunks: Iterable[Thunk]) -> bool:
    """Return False if some operand is false, whatever the others do; else their first error; else True."""
    return _decide(budget, thunks, False)


def _decide(budget: Budget, thunks: Iterable[Thunk], decisive: bool) -> bool:
    failed: CelError | None = None
    for thunk in thunks:
        try:
            if truth(thunk()) is decisive:
                return decisive
        except Exception as error:  # noqa: BLE001  # a view's own exception is an operand's error like any other
            failed = failed or absorbed(error)
            budget.charge(ABSORPTION)
    if failed is not None:
        raise failed
    return not decisive


def exactly_one(results: Iterable[bool]) -> bool:
    """Tell if one row alone is true; an error in any row is an error."""
    return sum(results) == 1


def absorbed(error: Exception) -> CelError:
    """Return the error to remember, or raise it: a used-up budget is never absorbed."""
    failure = as_cel_error(error)
    if failure.kind == "budget":
        raise failure
    return failure


def items(budget: Budget, source: Any, weight: int) -> Any:
    """Return what a one-variable loop walks, list elements or map keys, its whole cost charged ahead."""
    if type(source) is not list and kind_of(source) not in ("list", "map"):
        raise no_overload("a loop", kind_of(source))
    budget.charge(len(source) * weight)
    return source


def pairs(budget: Budget, source: Any, weight: int) -> Iterable[tuple[object, object]]:
    """Return what a two-variable loop walks: (index, element) of a list, (key, value) of a map."""
    rows = items(budget, source, weight)
    return rows.items() if kind_of(rows) == "map" else enumerate(rows)
