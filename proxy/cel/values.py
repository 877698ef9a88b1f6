"""Owns the CEL values that Python has no type for, and which CEL kind every Python value has."""

import datetime
from collections.abc import Mapping

import msgspec

from .errors import CelError

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
UINT_MAX = 2**64 - 1
NANOS = 1_000_000_000
# 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z, in nanoseconds since 1970.
TIMESTAMP_MIN, TIMESTAMP_MAX = -62_135_596_800 * NANOS, 253_402_300_800 * NANOS - 1
# An int64 of nanoseconds, about 292 years: the range that the conformance tests want (google.protobuf has 10,000).
DURATION_MAX = INT_MAX
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class UInt(int):
    """Hold an unsigned 64-bit integer; equal to the same int, never mixed with one in arithmetic."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


class Duration(msgspec.Struct, frozen=True, order=True):
    """Hold a span of time in whole nanoseconds."""

    nanos: int


class Timestamp(msgspec.Struct, frozen=True, order=True):
    """Hold an instant in whole nanoseconds since 1970-01-01T00:00:00Z."""

    nanos: int

    @classmethod
    def from_datetime(cls, moment: datetime.datetime) -> "Timestamp":
        """Take an aware datetime over without loss."""
        since = moment - _EPOCH
        return cls((since.days * 86_400 + since.seconds) * NANOS + since.microseconds * 1000)

    def moment(self, zone: datetime.tzinfo = datetime.UTC) -> datetime.datetime:
        """Return the wall clock reading of this instant in a zone (microseconds, rounded down)."""
        return (_EPOCH + datetime.timedelta(microseconds=self.nanos // 1000)).astimezone(zone)


class CelType(msgspec.Struct, frozen=True):
    """Stand for a type, as `type(x)` and names such as `int` do."""

    name: str


TYPES = {
    name: CelType(name)
    for name in (
        *("bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"),
        *("google.protobuf.Timestamp", "google.protobuf.Duration"),
    )
}
_TYPE_OF_KIND = {
    "null": TYPES["null_type"],
    "timestamp": TYPES["google.protobuf.Timestamp"],
    "duration": TYPES["google.protobuf.Duration"],
}

_BASES: dict[type, str] = {
    bool: "bool",
    UInt: "uint",
    int: "int",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null",
    list: "list",
    tuple: "list",
    dict: "map",
    Duration: "duration",
    Timestamp: "timestamp",
    CelType: "type",
    Mapping: "map",
}


class _Kinds(dict[type, str]):
    """Remember the kind of every class met."""

    def __missing__(self, cls: type) -> str:
        self[cls] = next((kind for base, kind in _BASES.items() if issubclass(cls, base)), "object")
        return self[cls]


class _Fields(dict[type, frozenset[str] | None]):
    """Remember the readable fields of every class met."""

    def __missing__(self, cls: type) -> frozenset[str] | None:
        fields = cls.__struct_fields__ if issubclass(cls, msgspec.Struct) else ()
        self[cls] = frozenset(fields) if fields and cls not in _BASES else None
        return self[cls]


_KINDS = _Kinds(_BASES)
# The declared fields of a Struct class, which expressions may read; None for any other class.
FIELDS = _Fields()


def kind_of(value: object) -> str:
    """Name a value's CEL kind: a subclass counts as its base, any Mapping as a map, the rest as `object`."""
    return _KINDS[type(value)]


def type_of(value: object) -> CelType:
    """Return a value's CEL type; an object of ours is typed by its class name."""
    kind = kind_of(value)
    if kind == "object":
        return CelType(type(value).__name__)
    return _TYPE_OF_KIND.get(kind) or TYPES[kind]


def int64(number: int) -> int:
    """Return a number that an int can hold, or fail as overflow."""
    if INT_MIN <= number <= INT_MAX:
        return number
    raise CelError("overflow", "the result does not fit an int")


def uint64(number: int) -> UInt:
    """Return a number as the uint that holds it, or fail as overflow."""
    if 0 <= number <= UINT_MAX:
        return UInt(number)
    raise CelError("overflow", "the result does not fit a uint")


def duration(nanos: int) -> Duration:
    """Return a span inside the range of durations, or fail as overflow."""
    if -DURATION_MAX <= nanos <= DURATION_MAX:
        return Duration(nanos)
    raise CelError("overflow", "the duration is out of range")


def timestamp(nanos: int) -> Timestamp:
    """Return an instant between the years 1 and 9999, or fail as overflow."""
    if TIMESTAMP_MIN <= nanos <= TIMESTAMP_MAX:
        return Timestamp(nanos)
    raise CelError("overflow", "the timestamp is outside the years 1 to 9999")


def truncated(number: float, low: int, high: int) -> int:
    """Cut a double towards zero if it is from low up to, not including, high, or fail as overflow."""
    if low <= number < high:
        return int(number)
    raise CelError("overflow", "the double does not fit the integer type")
