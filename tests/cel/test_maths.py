"""Owns the proof of math.*."""

import math

import pytest

from proxy import cel
from tests.cel.running import exactly, failure, run

UINT_MAX = 2**64 - 1


@pytest.mark.parametrize(
    ("call", "value"),
    [
        pytest.param("greatest(1, 3, 2)", 3, id="the greatest int"),
        pytest.param("greatest(1, 2.5, 2u)", 2.5, id="the greatest across kinds"),
        pytest.param("greatest([1, 1.0])", 1, id="the first of equals"),
        pytest.param("greatest(5)", 5, id="one number"),
        pytest.param("least([3u, 2, 2.5])", 2, id="the least of a list"),
        pytest.param("ceil(1.2)", 2.0, id="ceil"),
        pytest.param("ceil(-0.5)", -0.0, id="ceil keeps the sign"),
        pytest.param("floor(-1.2)", -2.0, id="floor"),
        pytest.param("round(2.5)", 3.0, id="round half away from zero"),
        pytest.param("round(-2.5)", -3.0, id="on both sides"),
        pytest.param("round(0.49999999999999994)", 0.0, id="just below one half"),
        pytest.param("round(4503599627370497.0)", 4503599627370497.0, id="a double without a fraction"),
        pytest.param("trunc(-1.9)", -1.0, id="trunc"),
        pytest.param("floor(inf)", math.inf, id="infinity stays"),
        pytest.param("round(nan)", math.nan, id="NaN stays"),
        pytest.param("abs(-7)", 7, id="abs of an int"),
        pytest.param("abs(7u)", cel.UInt(7), id="abs of a uint"),
        pytest.param("abs(-7.5)", 7.5, id="abs of a double"),
        pytest.param("sign(-7)", -1, id="sign of an int"),
        pytest.param("sign(7u)", cel.UInt(1), id="sign of a uint"),
        pytest.param("sign(-0.5)", -1.0, id="sign of a double"),
        pytest.param("sign(0.0)", 0.0, id="sign of zero"),
        pytest.param("sign(nan)", math.nan, id="sign of NaN"),
        pytest.param("sqrt(9)", 3.0, id="sqrt of an int"),
        pytest.param("sqrt(2.25)", 1.5, id="sqrt of a double"),
        pytest.param("sqrt(-1)", math.nan, id="sqrt of a negative"),
        pytest.param("isNaN(nan)", True, id="isNaN"),
        pytest.param("isInf(-inf)", True, id="isInf"),
        pytest.param("isFinite(1.5)", True, id="isFinite"),
        pytest.param("bitAnd(12, 10)", 8, id="and"),
        pytest.param("bitAnd(12u, 10u)", cel.UInt(8), id="and of uints"),
        pytest.param("bitOr(12, 10)", 14, id="or"),
        pytest.param("bitOr(12u, 10u)", cel.UInt(14), id="or of uints"),
        pytest.param("bitXor(12, -1)", -13, id="xor"),
        pytest.param("bitXor(12u, 10u)", cel.UInt(6), id="xor of uints"),
        pytest.param("bitNot(0)", -1, id="not"),
        pytest.param("bitNot(0u)", cel.UInt(UINT_MAX), id="not of a uint"),
        pytest.param("bitShiftLeft(1, 63)", -(2**63), id="into the sign"),
        pytest.param("bitShiftLeft(1u, 63)", cel.UInt(2**63), id="a uint has none"),
        pytest.param("bitShiftLeft(1, 64)", 0, id="out of the word"),
        pytest.param("bitShiftRight(-1, 63)", 1, id="right without the sign"),
        pytest.param("bitShiftRight(8u, 2)", cel.UInt(2), id="right of a uint"),
    ],
)
def test_math(call: str, value: object) -> None:
    """Each function keeps the kind of its argument where it has one to keep."""
    assert exactly(value) == exactly(run(f"math.{call}", {"nan": math.nan, "inf": math.inf}))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        pytest.param("greatest([])", "no_such_overload", id="the greatest of none"),
        pytest.param("greatest(1, 'a')", "no_such_overload", id="among texts"),
        pytest.param("least([true])", "no_such_overload", id="among bools"),
        pytest.param("ceil(1)", "no_such_overload", id="an int is whole already"),
        pytest.param("abs(-9223372036854775808)", "overflow", id="the least int has no positive"),
        pytest.param("abs('1')", "no_such_overload", id="a text"),
        pytest.param("isNaN(1)", "no_such_overload", id="an int is always a number"),
        pytest.param("bitAnd(1, 1u)", "no_such_overload", id="two kinds"),
        pytest.param("bitNot(1.0)", "no_such_overload", id="bits of a double"),
        pytest.param("bitShiftLeft(1, -1)", "invalid_argument", id="a negative shift"),
        pytest.param("bitShiftLeft(1.0, 1)", "no_such_overload", id="a double shifted"),
        pytest.param("bitShiftRight(1, 1u)", "no_such_overload", id="shifted by a uint"),
    ],
)
def test_math_that_fails(call: str, kind: str) -> None:
    """No argument is converted to make a function fit."""
    assert kind == failure(f"math.{call}")
