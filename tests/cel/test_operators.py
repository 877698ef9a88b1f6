"""Owns the proof of the operators: arithmetic without wrapping, equality and order across kinds, access."""

import collections
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from tests.cel.running import exactly, failure, run, units


class Note(msgspec.Struct):
    """Stand for a noun with a field that may be absent in both ways."""

    text: str = "hi"
    label: str | None = None
    extra: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def secret(self) -> str:
        """Return what is no field."""
        return "no"


VIEW = collections.ChainMap({"a": 1})
ACTIVATION: dict[str, Any] = {"note": Note(), "view": VIEW, "big": 2**70, "nan": math.nan, "inf": math.inf}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("7 / 2 == 3 && -7 / 2 == -3 && 7 / -2 == -3", True, id="division cuts towards zero"),
        pytest.param("[7 % 2, -7 % 2, 7 % -2]", [1, -1, 1], id="the rest has the sign of the dividend"),
        pytest.param("7u / 2u + 7u % 2u * 3u - 1u", cel.UInt(5), id="uint arithmetic"),
        pytest.param("18446744073709551615u % 10u", cel.UInt(5), id="the rest of a uint above the ints"),
        pytest.param("1.5 + 1.0 - 0.5 * 2.0", 1.5, id="double arithmetic"),
        pytest.param(
            "[1.0 / 0.0, -1.0 / 0.0, 1.0 / -0.0]", [math.inf, -math.inf, -math.inf], id="doubles divide by zero"
        ),
        pytest.param("[0.0 / 0.0, nan / 0.0]", [math.nan, math.nan], id="what is not a number"),
        pytest.param("1e300 * 1e300", math.inf, id="doubles run into infinity"),
        pytest.param("'a' + 'b' + ''", "ab", id="text"),
        pytest.param("b'a' + b'b'", b"ab", id="bytes"),
        pytest.param("[1] + ['a'] + []", [1, "a"], id="lists"),
        pytest.param("-(-1) + -x", -1, id="signs"),
        pytest.param("-1.5 == -(1.5)", True, id="the sign of a double"),
        pytest.param("duration('1h') + duration('30m') - duration('1s')", cel.Duration(5399 * 10**9), id="durations"),
        pytest.param("timestamp(10) - timestamp(4)", cel.Duration(6 * 10**9), id="the time between"),
        pytest.param("timestamp(10) + duration('1s') == duration('1s') + timestamp(10)", True, id="time plus span"),
        pytest.param("timestamp(10) - duration('1s')", cel.Timestamp(9 * 10**9), id="time minus span"),
    ],
)
def test_arithmetic(expression: str, value: object) -> None:
    """Each operator computes inside one kind, as the language defines it."""
    assert exactly(value) == exactly(run(expression, {**ACTIVATION, "x": 2}))


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("9223372036854775807 + 1", "overflow", id="int sum"),
        pytest.param("-9223372036854775808 - 1", "overflow", id="int difference"),
        pytest.param("5000000000 * 5000000000", "overflow", id="int product"),
        pytest.param("-9223372036854775808 / -1", "overflow", id="int quotient"),
        pytest.param("-9223372036854775808 % -1", "overflow", id="int rest"),
        pytest.param("-(-9223372036854775808)", "overflow", id="int sign"),
        pytest.param("0u - 1u", "overflow", id="uint difference"),
        pytest.param("18446744073709551615u + 1u", "overflow", id="uint sum"),
        pytest.param("18446744073709551615u * 2u", "overflow", id="uint product"),
        pytest.param("1 / 0", "divide_by_zero", id="int by zero"),
        pytest.param("1u % 0u", "divide_by_zero", id="uint modulus zero"),
        pytest.param("dyn(1) + 1u", "no_such_overload", id="int and uint"),
        pytest.param("dyn(1) + 1.0", "no_such_overload", id="int and double"),
        pytest.param("dyn(true) + true", "no_such_overload", id="bools"),
        pytest.param("-dyn(1u)", "no_such_overload", id="the sign of a uint"),
        pytest.param("-dyn('a')", "no_such_overload", id="the sign of a text"),
        pytest.param("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "overflow", id="the end of time"),
        pytest.param("duration('2562047h') + duration('1h')", "overflow", id="the longest duration"),
    ],
)
def test_arithmetic_that_has_no_result(expression: str, kind: str) -> None:
    """Nothing wraps around, nothing is converted on the way."""
    assert kind == failure(expression)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("dyn(1) == 1u && dyn(1) == 1.0 && dyn(1u) == 1.0", True, id="numbers of three kinds"),
        pytest.param("dyn(1) == true || dyn(0) == false || dyn(1.0) == true", False, id="a bool is no number"),
        pytest.param("nan == nan || [nan] == [nan] || nan == dyn(1)", False, id="NaN equals nothing"),
        pytest.param("nan != nan", True, id="NaN differs from itself"),
        pytest.param("[1, 'a', [2]] == [1.0, 'a', [2u]]", True, id="lists by element"),
        pytest.param("[1] == [1, 2] || [1, 2] == [2, 1] || [1] == [true]", False, id="unequal lists"),
        pytest.param("{'a': 1, 2: [3]} == {2u: [3.0], 'a': 1}", True, id="maps by key and value"),
        pytest.param("{'a': 1} == {'a': 2} || {'a': 1} == {'b': 1} || {} == {'a': 1}", False, id="unequal maps"),
        pytest.param("{1: 'a'} == {true: 'a'}", False, id="a bool key is no number"),
        pytest.param("null == null && dyn(null) != 0 && dyn(null) != false", True, id="null"),
        pytest.param("dyn('1') == 1 || dyn(b'a') == 'a' || dyn([]) == {}", False, id="different kinds"),
        pytest.param("duration('60s') == duration('1m') && timestamp(0) != timestamp(1)", True, id="times"),
        pytest.param("type(1) == int && type(note) != type(1)", True, id="types"),
        pytest.param("note == note && note != {'text': 'hi'}", True, id="objects"),
        pytest.param("9007199254740993 == dyn(9007199254740992.0)", True, id="an int meets a double as a double"),
        pytest.param("dyn(9223372036854775807) < 9223372036854775808.0", False, id="in order as well"),
    ],
)
def test_equality(expression: str, value: bool) -> None:
    """Any two values compare; numbers by value, everything else only within its kind."""
    assert value is run(expression, ACTIVATION)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("dyn(1) < 1.5 && dyn(2u) > 1 && 2.0 >= dyn(2u) && dyn(-1) <= 0u", True, id="numbers across kinds"),
        pytest.param("nan < 1.0 || nan >= 1.0", False, id="NaN is in no order"),
        pytest.param("'a' < 'b' && 'Z' < 'a' && 'a' < 'aa' && '😀' > 'é'", True, id="text by code point"),
        pytest.param("b'a' < b'b' && b'' <= b''", True, id="bytes"),
        pytest.param("false < true && true >= true", True, id="bools"),
        pytest.param("timestamp(1) < timestamp(2) && duration('1s') > duration('1ms')", True, id="times"),
    ],
)
def test_order(expression: str, value: bool) -> None:
    """Numbers compare across kinds; text, bytes, bools and times within theirs."""
    assert value is run(expression, ACTIVATION)


@pytest.mark.parametrize(
    "expression", ["dyn(1) < 'a'", "dyn(true) > 0", "dyn([]) < []", "dyn(null) <= null", "dyn(1) >= timestamp(1)"]
)
def test_what_has_no_order(expression: str) -> None:
    """Other comparisons are errors, never an answer."""
    assert "no_such_overload" == failure(expression)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("note.text", "hi", id="a declared field"),
        pytest.param("note['text']", "hi", id="a declared field by key"),
        pytest.param("note.label", None, id="a field that is null"),
        pytest.param("has(note.text) && !has(note.label) && !has(note.extra)", True, id="null and UNSET are absent"),
        pytest.param("view.a + view['a']", 2, id="a view"),
        pytest.param("has(view.a) && !has(view.b) && 'a' in view && !('b' in view)", True, id="keys of a view"),
        pytest.param("has({'a': null}.a)", True, id="a key with null is there"),
        pytest.param("[5, 6][1] + [5, 6][dyn(0u)] + [5, 6][dyn(1.0)]", 17, id="positions of three kinds"),
        pytest.param("{1: 'a'}[dyn(1u)] + {2u: 'b'}[dyn(2.0)]", "ab", id="keys across numbers"),
        pytest.param("{true: 'a'}[true] + {0: 'b'}[0]", "ab", id="keys of one kind"),
        pytest.param(
            "(2 in [1, 2.0]) && !(true in [1]) && !(1 in [true])", True, id="membership of a list by equality"
        ),
        pytest.param("'a' in ['b', 'a'] && !('c' in ['b', 'a']) && !('1' in [1])", True, id="membership of a text"),
        pytest.param(
            "1 in {1u: 0} && 1.0 in {1: 0} && !(1 in {true: 0}) && !(2 in {1: 0})", True, id="membership of a map"
        ),
        pytest.param("1 in {2: 0, 1: 0} && true in {false: 0, true: 0}", True, id="membership among more"),
    ],
)
def test_access(expression: str, value: object) -> None:
    """Maps, views and objects are read by field and key, lists by position."""
    assert exactly(value) == exactly(run(expression, ACTIVATION))


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("note.nope", "no_such_field", id="an undeclared field"),
        pytest.param("note.secret", "no_such_field", id="a property"),
        pytest.param("note.__class__", "no_such_field", id="what Python has"),
        pytest.param("note.extra", "no_such_field", id="an UNSET field"),
        pytest.param("has(note.nope)", "no_such_field", id="has of an undeclared field"),
        pytest.param("{'a': 1}.b", "no_such_field", id="an absent key"),
        pytest.param("view.b", "no_such_field", id="an absent key of a view"),
        pytest.param("view['b']", "no_such_key", id="an absent key by index"),
        pytest.param("{true: 1}[dyn(1)]", "no_such_key", id="a number among bools"),
        pytest.param("big.real", "no_such_overload", id="a field of a number"),
        pytest.param("has(big.real)", "no_such_overload", id="has of a number"),
        pytest.param("[1][1]", "index_out_of_range", id="beyond the end"),
        pytest.param("[1][-1]", "index_out_of_range", id="before the start"),
        pytest.param("[1][0.5]", "index_out_of_range", id="between positions"),
        pytest.param("[1][nan]", "index_out_of_range", id="at no position"),
        pytest.param("[1][inf]", "index_out_of_range", id="at infinity"),
        pytest.param("[1][dyn(false)]", "no_such_overload", id="a bool as position"),
        pytest.param("[1]['0']", "no_such_overload", id="a text as position"),
        pytest.param("{'a': 1}[null]", "no_such_overload", id="null as key"),
        pytest.param("note[0]", "no_such_overload", id="a position in an object"),
        pytest.param("dyn('abc')[0]", "no_such_overload", id="a position in a text"),
        pytest.param("1 in dyn('abc')", "no_such_overload", id="membership of a text"),
        pytest.param("{1.0: 1}", "type", id="a double as map key"),
        pytest.param("{null: 1}", "type", id="null as map key"),
        pytest.param("{1: 1, 1u: 2}", "duplicate_key", id="a key twice"),
        pytest.param("big + 0", "overflow", id="an int the activation should not have"),
        pytest.param("big == 1.0", "no failure: False", id="which compares all the same"),
        pytest.param("big * 10000 < 1.0", "overflow", id="and overflows"),
    ],
)
def test_access_that_fails(expression: str, kind: str) -> None:
    """What is not there, or cannot be read that way, is an error of its own kind."""
    assert kind == failure(expression, ACTIVATION)


@pytest.mark.parametrize(
    ("expression", "least"),
    [
        pytest.param("(s + s) != ''", 2 * 6400 // 64, id="text is copied"),
        pytest.param("(l + l) != []", 2 * 800 // 8, id="a list is copied"),
        pytest.param("l == m", 800, id="lists are compared"),
        pytest.param("{'a': l} == {'a': m}", 801, id="maps are compared"),
        pytest.param("7 in l", 800, id="a list is searched"),
        pytest.param("'x' in l", 100, id="a list is searched for text"),
        pytest.param("big == big2", 10, id="long text is compared"),
        pytest.param("big < big2", 10, id="long text is ordered"),
        pytest.param("1 in keys", 100, id="keys are searched by kind"),
    ],
)
def test_work_is_charged(expression: str, least: int) -> None:
    """What takes time or room by the size of its operands is paid by their size."""
    numbers = [0] * 800
    activation = {
        "s": "x" * 6400,
        "l": numbers,
        "m": [0.0] * 800,
        "big": "x" * 40960,
        "big2": "x" * 40959 + "y",
        "keys": dict.fromkeys(range(800), 0),
    }

    assert units(expression, activation) >= least


INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(INTEGERS, INTEGERS.filter(bool))
def test_division_and_rest_belong_together(a: int, b: int) -> None:
    """a == a / b * b + a % b, with a rest smaller than the divisor and signed like the dividend."""
    if (a, b) == (-(2**63), -1):
        return

    value = run("[a / b, a % b]", {"a": a, "b": b})

    assert isinstance(value, list)
    quotient, rest = value
    assert a == quotient * b + rest
    assert abs(rest) < abs(b)
    assert rest == 0 or (rest < 0) == (a < 0)


SCALARS = st.none() | st.booleans() | INTEGERS | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)


@given(VALUES, VALUES)
def test_equality_is_symmetric_and_total(a: object, b: object) -> None:
    """Any two values compare, in either direction alike, and == is the opposite of !=."""
    there, back, differ = (run(text, {"a": a, "b": b}) for text in ("a == b", "b == a", "a != b"))

    assert there is back
    assert there is not differ


NUMBERS = INTEGERS | st.floats()
ORDERED = st.tuples(NUMBERS, NUMBERS) | st.tuples(st.text(max_size=3), st.text(max_size=3))


@given(ORDERED)
def test_order_agrees_with_equality(pair: tuple[object, object]) -> None:
    """Where two values have an order, exactly one of <, == and > holds, or none if one is NaN."""
    a, b = pair

    holds = [run(f"a {operator} b", {"a": a, "b": b}) for operator in ("<", "==", ">")]
    assert (a == a and b == b) is (1 == holds.count(True))
