"""Owns how the tests of CEL run an expression: for its value, for its failure, for its rejection."""

from collections.abc import Mapping

from proxy import cel
from proxy.cel.values import kind_of

PLENTY = 1_000_000


def run(expression: str, activation: Mapping[str, object] | None = None, *, check: bool = True) -> object:
    """Return the value of an expression."""
    return cel.compile(expression, check=check).evaluate(activation or {}, cel.Budget(PLENTY))


def failure(expression: str, activation: Mapping[str, object] | None = None) -> str:
    """Return the kind of the CelError an expression ends with; what is certain to fail is compiled all the same."""
    try:
        value = run(expression, activation, check=False)
    except cel.CelError as error:
        return error.kind
    return f"no failure: {value!r}"


def rejection(expression: str) -> str:
    """Return what compiling an expression is refused with: its line, its column, its message."""
    try:
        cel.compile(expression)
    except cel.CelSyntaxError as error:
        return str(error)
    return "not rejected"


def units(expression: str, activation: Mapping[str, object] | None = None) -> int:
    """Return what an evaluation charges its budget."""
    budget = cel.Budget(PLENTY)
    cel.compile(expression).evaluate(activation or {}, budget)
    return PLENTY - budget.left


def exactly(value: object) -> object:
    """Return a value in a form that == compares by CEL kind, so that True is not 1 and 1 not 1.0."""
    kind = kind_of(value)
    match value:
        case list() | tuple():
            return kind, [exactly(item) for item in value]
        case dict():
            return kind, [(exactly(key), exactly(item)) for key, item in value.items()]
        case float():
            return kind, repr(value)
    return kind, value
