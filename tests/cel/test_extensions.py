"""Owns the proof of the functions for values: default, num, json, sum."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from tests.cel.running import exactly, failure, run, units


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("default(x.a, 5)", 1, id="a value"),
        pytest.param("default(x.b, 5)", 5, id="an absent field"),
        pytest.param("default(y.z, 5)", 5, id="an absent variable"),
        pytest.param("default(x.n, 5)", 5, id="null"),
        pytest.param("default(1 / 0, 5)", 5, id="any error"),
        pytest.param("default(1, 1 / 0)", 1, id="what is not needed is not evaluated"),
        pytest.param("default(y.a, default(y.b, 7))", 7, id="one in another"),
        pytest.param("num(1) + num(2u) + num(0.5) + num('12.5e1') + num('-.5') + num('+3')", 131.0, id="num"),
        pytest.param("sum([1, 2, 3])", 6, id="a sum of ints"),
        pytest.param("sum([1u, 2u])", cel.UInt(3), id="a sum of uints"),
        pytest.param("sum([1, 2.5])", 3.5, id="a sum with doubles"),
        pytest.param("sum([])", 0, id="a sum of nothing"),
    ],
)
def test_values(expression: str, value: object) -> None:
    """What a policy needs to read loose data."""
    assert exactly(value) == exactly(run(expression, {"x": {"a": 1, "n": None}}))


class TwoReadings(dict[str, object]):
    """A map of which nobody can say what it holds."""

    def __getitem__(self, key: str) -> object:
        raise cel.CelError(cel.UNREADABLE, key)


def test_what_has_two_readings_is_not_absent() -> None:
    """A default would hide it from the rule that asks, and somebody else would read it."""
    assert cel.UNREADABLE == failure("default(x.a, 5)", {"x": TwoReadings()})


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("default(1 / 0, y)", "no_such_variable", id="a default that fails as well"),
        pytest.param("num('1,5')", "invalid_argument", id="a comma"),
        pytest.param("num(' 1')", "invalid_argument", id="a space"),
        pytest.param("num('1e999')", "invalid_argument", id="beyond a double"),
        pytest.param("num('Infinity')", "invalid_argument", id="infinity in words"),
        pytest.param("num('" + "1" * 401 + "')", "invalid_argument", id="a long text"),
        pytest.param("num(true)", "no_such_overload", id="a bool"),
        pytest.param("num(null)", "no_such_overload", id="null"),
        pytest.param("sum([9223372036854775807, 1])", "overflow", id="a sum too large"),
        pytest.param("sum([18446744073709551615u, 1u])", "overflow", id="a sum of uints too large"),
        pytest.param("sum([1, 1u])", "no_such_overload", id="ints and uints"),
        pytest.param("sum([1, '1'])", "no_such_overload", id="a text in a sum"),
        pytest.param("sum('1')", "no_such_overload", id="no list"),
    ],
)
def test_values_that_are_none(expression: str, kind: str) -> None:
    """Nothing is guessed."""
    assert kind == failure(expression)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(
            '{"a": [1, -2.5, "é", true, null], "b": {}}', {"a": [1, -2.5, "é", True, None], "b": {}}, id="every kind"
        ),
        pytest.param('"\\ud83d\\ude00"', "😀", id="a surrogate pair"),
        pytest.param("9223372036854775807", 2**63 - 1, id="the greatest int"),
        pytest.param("1.0", 1.0, id="a double stays one"),
    ],
)
def test_json(text: str, value: object) -> None:
    """An int stays an int and a double a double."""
    assert exactly(value) == exactly(run("json(t)", {"t": text}))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{'a': 1}", id="other quotes"),
        pytest.param('{"a": 1, "a": 2}', id="a key twice"),
        pytest.param('{"a": {"b": 1, "b": 1}}', id="a key twice, further in"),
        pytest.param("NaN", id="NaN"),
        pytest.param("-Infinity", id="infinity"),
        pytest.param("9223372036854775808", id="an int too large"),
        pytest.param("1" * 5000, id="an int far too large"),
        pytest.param("1e999", id="a double too large"),
        pytest.param('"\\ud800"', id="half a surrogate pair"),
        pytest.param("\ud800", id="text that UTF-8 cannot hold"),
        pytest.param('"\ud800"', id="a string that UTF-8 cannot hold"),
        pytest.param("1 2", id="two values"),
    ],
)
def test_json_is_strict(text: str) -> None:
    """What two readers could read differently is refused."""
    assert "invalid_argument" == failure("json(t)", {"t": text})


def test_json_that_is_too_deep_is_an_error() -> None:
    """Nesting ends in an error, not in the process."""
    assert "budget" == failure("json(t)", {"t": "[" * 100_000})


def test_json_of_something_else_is_an_error() -> None:
    """Only text is parsed."""
    assert "no_such_overload" == failure("json(1)")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(JSON)
def test_json_reads_what_json_writes(value: object) -> None:
    """Nothing changes on the way through text."""
    assert exactly(value) == exactly(run("json(t)", {"t": json.dumps(value)}))


def test_the_length_of_json_is_charged() -> None:
    """Parsing is paid by the character."""
    assert units("json(t)", {"t": "[" + "1," * 999 + "1]"}) >= 500
