"""Owns what a callable function is to an expression."""

from collections.abc import Callable

import msgspec

from .errors import Budget


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one function that expressions may call.

    A call charges `charge` units, and as much again per 256 characters of its text arguments; a `metered`
    callable takes the Budget as its first argument and charges for itself instead. `method` allows
    `x.f(y)`, `plain` allows `f(x, y)`. A `lazy` callable receives thunks, so it may absorb their errors.
    `prepare` turns a constant last argument into its compiled form at load; a ValueError rejects it there.
    `kind` is the result's CEL kind where it is always the same.
    """

    call: Callable[..., object]
    least: int
    most: int = -1
    charge: int = 1
    method: bool = False
    plain: bool = True
    lazy: bool = False
    metered: bool = False
    prepare: Callable[[object], object] | None = None
    kind: str = ""

    def arity(self) -> tuple[int, int]:
        """Return the fewest and most arguments, a receiver included."""
        return self.least, max(self.least, self.most)


def charged(budget: Budget, units: int, call: Callable[..., object], *arguments: object) -> object:
    """Run a function that does not meter itself."""
    text = sum(len(argument) for argument in arguments if isinstance(argument, str))
    budget.charge(units * (1 + text // 256))
    return call(*arguments)
