"""Owns `sets.*`: lists seen as sets, by CEL's equality.

In: two lists. Out: a bool. Never: hashing, which would take True for 1.
"""

from collections.abc import Callable
from typing import Any

from .errors import Budget, no_overload
from .functions import Function
from .operators import contained
from .values import kind_of


def _contains(budget: Budget, a: Any, b: Any) -> bool:
    return all(contained(budget, item, a) for item in b)


def _equivalent(budget: Budget, a: Any, b: Any) -> bool:
    return _contains(budget, a, b) and _contains(budget, b, a)


def _intersects(budget: Budget, a: Any, b: Any) -> bool:
    return any(contained(budget, item, a) for item in b)


def _function(name: str, decide: Callable[[Budget, Any, Any], bool]) -> Function:
    def call(budget: Budget, a: Any, b: Any) -> bool:
        if (kind_of(a), kind_of(b)) != ("list", "list"):
            raise no_overload(f"sets.{name}", kind_of(a), kind_of(b))
        budget.charge(len(a) + len(b))
        return decide(budget, a, b)

    return Function(call=call, least=2, metered=True, kind="bool")


FUNCTIONS = {
    f"sets.{name}": _function(name, decide)
    for name, decide in (("contains", _contains), ("equivalent", _equivalent), ("intersects", _intersects))
}
