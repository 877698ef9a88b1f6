"""Owns CEL: compiles an expression of the Common Expression Language at load, evaluates it in microseconds.

In: an expression; then an activation of plain Python data, Structs and Mapping views, and a Budget.
Out: a Program; then a value. Never: a clock, randomness, I/O, an exception besides CelSyntaxError and CelError.
"""

from .automata import price
from .errors import UNREADABLE, Budget, CelError, CelSyntaxError
from .functions import Function
from .program import Program, compile  # noqa: A004  # the door is used as cel.compile(...)
from .values import CelType, Duration, Timestamp, UInt

__all__ = [
    "UNREADABLE",
    "Budget",
    "CelError",
    "CelSyntaxError",
    "CelType",
    "Duration",
    "Function",
    "Program",
    "Timestamp",
    "UInt",
    "compile",
    "price",
]
