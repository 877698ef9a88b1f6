"""Owns the proof of the CEL values and of which kind a Python value has."""

import collections
import datetime
import enum
import types
from typing import Any

import msgspec
import pytest

from proxy import cel
from proxy.cel import values


class Color(enum.StrEnum):
    """Stand for an enum of texts."""

    RED = "red"


class Thing(msgspec.Struct):
    """Stand for a noun."""

    name: str


@pytest.mark.parametrize(
    ("value", "kind", "type_name"),
    [
        pytest.param(True, "bool", "bool", id="bool"),
        pytest.param(1, "int", "int", id="int"),
        pytest.param(cel.UInt(1), "uint", "uint", id="uint"),
        pytest.param(1.0, "double", "double", id="double"),
        pytest.param("", "string", "string", id="string"),
        pytest.param(Color.RED, "string", "string", id="an enum of texts"),
        pytest.param(b"", "bytes", "bytes", id="bytes"),
        pytest.param(None, "null", "null_type", id="null"),
        pytest.param([], "list", "list", id="list"),
        pytest.param((), "list", "list", id="tuple"),
        pytest.param({}, "map", "map", id="dict"),
        pytest.param(collections.OrderedDict(), "map", "map", id="a subclass of dict"),
        pytest.param(types.MappingProxyType({}), "map", "map", id="any Mapping"),
        pytest.param(cel.Duration(1), "duration", "google.protobuf.Duration", id="duration"),
        pytest.param(cel.Timestamp(1), "timestamp", "google.protobuf.Timestamp", id="timestamp"),
        pytest.param(cel.CelType("int"), "type", "type", id="type"),
        pytest.param(Thing(""), "object", "Thing", id="Struct"),
        pytest.param({1}, "object", "set", id="a class CEL does not know"),
    ],
)
def test_every_value_has_one_kind(value: object, kind: str, type_name: str) -> None:
    """A value's kind follows its class, a subclass counts as its base, and its type is named after it."""
    assert (kind, type_name) == (values.kind_of(value), values.type_of(value).name)


def test_only_a_struct_that_is_no_value_of_ours_has_fields() -> None:
    """An expression may read a noun's declared fields, and nothing inside a timestamp or any other object."""
    readable = [values.FIELDS[cls] for cls in (Thing, cel.Timestamp, dict)]

    assert [frozenset({"name"}), None, None] == readable


def test_a_uint_is_told_from_an_int_when_shown() -> None:
    """A message about a uint shows it as CEL writes it."""
    assert "7u" == repr(cel.UInt(7))


def test_a_datetime_is_taken_over_without_loss() -> None:
    """From a datetime and back is the same instant, to the microsecond, before 1970 as after it."""
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    moment = datetime.datetime(1969, 12, 31, 23, 59, 59, 123456, tzinfo=zone)

    stamp = cel.Timestamp.from_datetime(moment)

    assert (moment, -19_800_876_544_000) == (stamp.moment(), stamp.nanos)


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        pytest.param(values.int64, -(2**63), 2**63 - 1, id="int"),
        pytest.param(values.uint64, 0, 2**64 - 1, id="uint"),
        pytest.param(values.duration, -(2**63) + 1, 2**63 - 1, id="duration"),
        pytest.param(values.timestamp, values.TIMESTAMP_MIN, values.TIMESTAMP_MAX, id="timestamp"),
    ],
)
def test_a_range_ends_where_it_says(make: Any, low: int, high: int) -> None:
    """The first and last value of a range are in it, their neighbours are an overflow."""
    inside = [getattr(make(number), "nanos", make(number)) for number in (low, high)]

    assert [low, high] == inside
    for outside in (low - 1, high + 1):
        with pytest.raises(cel.CelError) as caught:
            make(outside)
        assert "overflow" == caught.value.kind


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10.0, -0.5], ids=str)
def test_a_double_outside_the_range_is_not_cut(number: float) -> None:
    """A double becomes an integer only inside the range; NaN is inside none."""
    with pytest.raises(cel.CelError, match="does not fit"):
        values.truncated(number, 0, 10)


def test_a_double_is_cut_towards_zero() -> None:
    """The fraction is dropped, not rounded."""
    assert [9, -1] == [values.truncated(9.99, 0, 10), values.truncated(-1.99, -5, 10)]
