"""Owns the protobuf wrapper messages of CEL: each is written as a message and is the plain value in it.

In: the `value` of a message such as `google.protobuf.Int32Value{value: 3}`. Out: it. Never: a value out of its range.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

from .errors import CelError, no_overload
from .functions import Function
from .values import UInt, kind_of

_PACKAGE = "google.protobuf."


def _wrapper(name: str, kind: str, convert: Callable[[Any], object] = lambda value: value) -> Function:
    def call(value: Any) -> object:
        if kind_of(value) != kind:
            raise no_overload(name, kind_of(value))
        return convert(value)

    return Function(call=call, least=1, kind=kind)


def _from(least: int, most: int) -> Callable[[int], int]:
    def convert(value: int) -> int:
        if least <= value <= most:
            return value
        raise CelError("overflow", f"the number is not from {least} to {most}", value)

    return convert


def _single(value: float) -> float:
    """Round to the 32 bits of a float; what is larger than any is infinite."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


_WRAPPERS: dict[str, tuple[object, Function]] = {
    "BoolValue": (False, _wrapper("BoolValue", "bool")),
    "BytesValue": (b"", _wrapper("BytesValue", "bytes")),
    "DoubleValue": (0.0, _wrapper("DoubleValue", "double")),
    "FloatValue": (0.0, _wrapper("FloatValue", "double", _single)),
    "Int32Value": (0, _wrapper("Int32Value", "int", _from(-(2**31), 2**31 - 1))),
    "Int64Value": (0, _wrapper("Int64Value", "int")),
    "StringValue": ("", _wrapper("StringValue", "string")),
    "UInt32Value": (UInt(0), _wrapper("UInt32Value", "uint", _from(0, 2**32 - 1))),
    "UInt64Value": (UInt(0), _wrapper("UInt64Value", "uint")),
}
WRAPPERS = {_PACKAGE + name: wrapper for name, wrapper in _WRAPPERS.items()}
"""By full name: what the message without a value is, and what takes its value."""
