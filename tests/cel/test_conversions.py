"""Owns the proof of the conversions between kinds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from proxy.cel.conversions import format_double
from tests.cel.running import exactly, failure, run


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("[int(1), int(2u), int(-1.9), int('-7'), int(timestamp(-1))]", [1, 2, -1, -7, -1], id="int"),
        pytest.param("int(timestamp('1969-12-31T23:59:59.5Z'))", -1, id="seconds before 1970 round down"),
        pytest.param("uint(1) + uint(2u) + uint(3.9) + uint('4')", cel.UInt(10), id="uint"),
        pytest.param("double(1) + double(2u) + double(0.5) + double('1.5e1')", 18.5, id="double"),
        pytest.param("[double('inf'), double('-Infinity')]", [math.inf, -math.inf], id="infinity"),
        pytest.param("double('NaN')", math.nan, id="not a number"),
        pytest.param("string(1) + string(2u) + string(true) + string('s')", "12trues", id="string"),
        pytest.param(r"string(b'\xc3\xa9') + string(timestamp(0))", "é1970-01-01T00:00:00Z", id="more strings"),
        pytest.param("bytes('é') + bytes(b'a')", b"\xc3\xa9a", id="bytes"),
        pytest.param("bool('true') && bool('1') && bool(true) && !bool('False') && !bool('f')", True, id="bool"),
        pytest.param("duration(duration('1s'))", cel.Duration(10**9), id="a duration"),
        pytest.param("timestamp(timestamp(1))", cel.Timestamp(10**9), id="a timestamp"),
        pytest.param("[size('é😀'), size(b'abc'), size([1]), {'a': 1}.size()]", [2, 3, 1, 1], id="size"),
        pytest.param("dyn(1)", 1, id="dyn"),
        pytest.param("[type(1u), type(null)]", [cel.CelType("uint"), cel.CelType("null_type")], id="type"),
        pytest.param("type(type(1)) == type", True, id="the type of a type"),
    ],
)
def test_a_value_converts(expression: str, value: object) -> None:
    """Each conversion gives the kind it is named after."""
    assert exactly(value) == exactly(run(expression))


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("int('1.5')", "invalid_argument", id="a fraction as int"),
        pytest.param("int(' 1')", "invalid_argument", id="a space"),
        pytest.param("int('1_0')", "invalid_argument", id="an underscore"),
        pytest.param("int('٣')", "invalid_argument", id="a digit of another script"),
        pytest.param("int('9223372036854775808')", "overflow", id="a text too large"),
        pytest.param("int(18446744073709551615u)", "overflow", id="a uint too large"),
        pytest.param("int(9223372036854775808.0)", "overflow", id="a double too large"),
        pytest.param("int(-9223372036854775808.0)", "overflow", id="the double of the least int"),
        pytest.param("int(0.0 / 0.0)", "overflow", id="NaN"),
        pytest.param("int(true)", "no_such_overload", id="a bool as int"),
        pytest.param("uint(-1)", "overflow", id="a negative uint"),
        pytest.param("uint('-0')", "invalid_argument", id="a sign on a uint"),
        pytest.param("uint('x')", "invalid_argument", id="no uint"),
        pytest.param("uint(-0.1)", "overflow", id="a negative double"),
        pytest.param("double('1_0')", "invalid_argument", id="no double"),
        pytest.param("double(true)", "no_such_overload", id="a bool as double"),
        pytest.param(r"string(b'\xff')", "invalid_argument", id="bytes that are no text"),
        pytest.param("string([])", "no_such_overload", id="a list as text"),
        pytest.param("bytes(1)", "no_such_overload", id="a number as bytes"),
        pytest.param("bool('yes')", "invalid_argument", id="no bool"),
        pytest.param("timestamp(999999999999)", "overflow", id="beyond the year 9999"),
        pytest.param("duration(1)", "no_such_overload", id="a number as duration"),
        pytest.param("size(1)", "no_such_overload", id="the size of a number"),
    ],
)
def test_a_value_that_does_not_convert(expression: str, kind: str) -> None:
    """Text is read strictly, numbers stay in their range."""
    assert kind == failure(expression)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        pytest.param(0.0, "0", id="zero"),
        pytest.param(-0.0, "-0", id="negative zero"),
        pytest.param(1.5, "1.5", id="a fraction"),
        pytest.param(100000.0, "100000", id="the largest written out"),
        pytest.param(1000000.0, "1e+06", id="the smallest with an exponent"),
        pytest.param(123456789.0, "1.23456789e+08", id="all its digits"),
        pytest.param(0.0001, "0.0001", id="small written out"),
        pytest.param(0.00001, "1e-05", id="smaller with an exponent"),
        pytest.param(1e300, "1e+300", id="a long exponent"),
        pytest.param(math.inf, "inf", id="infinity"),
        pytest.param(math.nan, "nan", id="not a number"),
    ],
)
def test_a_double_is_written_like_google_does(number: float, text: str) -> None:
    """The layout is C's %g with as many digits as it takes."""
    assert text == format_double(number)


@given(st.floats(allow_nan=False))
def test_a_written_double_reads_back(number: float) -> None:
    """Nothing is lost in text."""
    assert number == float(format_double(number))


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_written_int_reads_back(number: int) -> None:
    """int(string(x)) == x."""
    assert number == run("int(string(x))", {"x": number})
