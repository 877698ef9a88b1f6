"""Owns how an expression can fail: at load (CelSyntaxError), in evaluation (CelError), by cost (Budget)."""


class CelSyntaxError(Exception):
    """Reject an expression at load; line and column are 1-based and count within the expression."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.message = message
        self.line = line
        self.column = column


UNREADABLE = "unreadable"
"""The kind of the error for facts that have two readings: `default()` does not take them for absent."""


class CelError(Exception):
    """End an evaluation without a value; `kind` is stable for programs, the text is for people. Data that it is about
    is given as `about`: it stands in the whole text, and not in `message`, which may be kept."""

    def __init__(self, kind: str, message: str, about: object = None) -> None:
        super().__init__(message if about is None else f"{message}: {about!r:.60}")
        self.kind = kind
        self.message = message


class Budget:
    """Bound the work of evaluations that share it; one unit is about one simple operation."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def charge(self, units: int) -> None:
        """Take units; raise the one error that `||`, `exists` and `default()` never absorb."""
        self.left -= units
        if self.left < 0:
            raise CelError("budget", "the evaluation budget is used up")


def no_overload(name: str, *kinds: str) -> CelError:
    """Make the error for operands that an operator or function does not take."""
    return CelError("no_such_overload", f"{name} does not take ({', '.join(kinds)})")


def as_cel_error(error: Exception) -> CelError:
    """Give whatever a value or a function raised the one face an evaluation shows."""
    if isinstance(error, CelError):
        return error
    if isinstance(error, (RecursionError, MemoryError)):
        return CelError("budget", f"the evaluation ran out of room ({type(error).__name__})")
    return CelError("type", type(error).__name__, str(error))
