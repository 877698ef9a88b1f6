"""Owns the proof that a wrapper message is the plain value in it."""

import math

import pytest

from proxy import cel
from tests.cel.running import exactly, failure, rejection, run


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("google.protobuf.BoolValue{value: true}", True, id="bool"),
        pytest.param("google.protobuf.BoolValue{}", False, id="no bool"),
        pytest.param("google.protobuf.BytesValue{value: b'a'}", b"a", id="bytes"),
        pytest.param("google.protobuf.BytesValue{}", b"", id="no bytes"),
        pytest.param("google.protobuf.DoubleValue{value: 1e55}", 1e55, id="double"),
        pytest.param("google.protobuf.DoubleValue{}", 0.0, id="no double"),
        pytest.param("google.protobuf.FloatValue{value: 3.1416}", 3.1415998935699463, id="float"),
        pytest.param("google.protobuf.FloatValue{value: -1e55}", -math.inf, id="float, too large"),
        pytest.param("google.protobuf.FloatValue{}", 0.0, id="no float"),
        pytest.param("google.protobuf.Int32Value{value: -2147483648}", -(2**31), id="int32"),
        pytest.param("google.protobuf.Int32Value{}", 0, id="no int32"),
        pytest.param("google.protobuf.Int64Value{value: 2147483650}", 2147483650, id="int64"),
        pytest.param("google.protobuf.Int64Value{}", 0, id="no int64"),
        pytest.param("google.protobuf.StringValue{value: 'a'}", "a", id="string"),
        pytest.param("google.protobuf.StringValue{}", "", id="no string"),
        pytest.param("google.protobuf.UInt32Value{value: 4294967295u}", cel.UInt(2**32 - 1), id="uint32"),
        pytest.param("google.protobuf.UInt32Value{}", cel.UInt(0), id="no uint32"),
        pytest.param("google.protobuf.UInt64Value{value: 4294967296u}", cel.UInt(2**32), id="uint64"),
        pytest.param("google.protobuf.UInt64Value{}", cel.UInt(0), id="no uint64"),
        pytest.param("google.protobuf.Int64Value{value: i} + 1", 8, id="of a variable"),
    ],
)
def test_a_wrapper_is_the_value_in_it(expression: str, value: object) -> None:
    """It has the kind and the value of what is in it; without one, the zero of its kind."""
    assert exactly(value) == exactly(run(expression, {"i": 7}))


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("google.protobuf.Int32Value{value: 2147483648}", "overflow", id="over int32"),
        pytest.param("google.protobuf.Int32Value{value: -2147483649}", "overflow", id="under int32"),
        pytest.param("google.protobuf.UInt32Value{value: 4294967296u}", "overflow", id="over uint32"),
        pytest.param("google.protobuf.Int64Value{value: 1u}", "no_such_overload", id="another kind"),
        pytest.param("google.protobuf.BoolValue{value: null}", "no_such_overload", id="null"),
        pytest.param("google.protobuf.BoolValue{value: i / 0 > 1}", "divide_by_zero", id="an error inside"),
        pytest.param("google.protobuf.BoolValue{other: true}", "no_such_field", id="another field"),
        pytest.param("google.protobuf.BoolValue{value: true, value: true}", "no_such_field", id="a field twice"),
    ],
)
def test_what_a_wrapper_cannot_hold_is_an_error(expression: str, kind: str) -> None:
    """Nothing is converted, cut or dropped."""
    assert kind == failure(expression, {"i": 7})


def test_another_field_is_told_at_load() -> None:
    """The message names the field that there is."""
    expected = "1:26: google.protobuf.BoolValue has one field, value"

    assert expected == rejection("google.protobuf.BoolValue{other: true}")
