"""Owns the proof of format() and strings.quote()."""

import math

import pytest

from tests.cel.running import failure, run, units

ACTIVATION = {"nan": math.nan, "inf": math.inf}


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        pytest.param("'no clause'.format([])", "no clause", id="no clause"),
        pytest.param("'%s is 100%%'.format(['it'])", "it is 100%", id="a percent sign"),
        pytest.param("'%s %s %s %s'.format([1, 2u, 1.5, true])", "1 2 1.5 true", id="scalars"),
        pytest.param("'%s %s %s'.format([null, b'x', type(1)])", "null x int", id="null, bytes, a type"),
        pytest.param("'%s %s'.format([timestamp(0), duration('1.5s')])", "1970-01-01T00:00:00Z 1.500s", id="times"),
        pytest.param("'%s'.format([[1, 'a', [null]]])", "[1, a, [null]]", id="a list"),
        pytest.param("'%s'.format([{'b': 1, 'a': {2: 3}}])", "{a: {2: 3}, b: 1}", id="a map in the order of its text"),
        pytest.param("'%s %s %s'.format([nan, inf, -inf])", "NaN Infinity -Infinity", id="no finite number"),
        pytest.param("'%d %d %d %d'.format([7, -7, 7u, inf])", "7 -7 7 Infinity", id="decimal"),
        pytest.param("'%f %.2f %.0f %f'.format([1.5, 2.345, 2.5, 3])", "1.500000 2.35 2 3.000000", id="fixed point"),
        pytest.param("'%e %.1e %f'.format([1234.5, -0.05, nan])", "1.234500e+03 -5.0e-02 NaN", id="scientific"),
        pytest.param("'%b %b %b'.format([5, true, -5])", "101 1 -101", id="binary"),
        pytest.param("'%o %o'.format([8, 9u])", "10 11", id="octal"),
        pytest.param("'%x %X %x %X'.format([255, 255u, 'az', b'\\xff'])", "ff FF 617a FF", id="hexadecimal"),
        pytest.param("strings.quote('a\"b\\\\\\n\\t\\a😀')", r'"a\"b\\\n\t\a😀"', id="quote"),
    ],
)
def test_a_value_is_written(expression: str, text: str) -> None:
    """Each clause writes its value as the strings extension defines."""
    assert text == run(expression, ACTIVATION)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("'%a'.format([1])", "invalid_argument", id="an unknown clause"),
        pytest.param("'%'.format([1])", "invalid_argument", id="a clause cut short"),
        pytest.param("'%5d'.format([1])", "invalid_argument", id="a width"),
        pytest.param("'%s %s'.format([1])", "invalid_argument", id="a value too few"),
        pytest.param("'%.1001f'.format([1.0])", "invalid_argument", id="too many decimals"),
        pytest.param("'%d'.format([1.5])", "no_such_overload", id="a double as decimal"),
        pytest.param("'%d'.format(['1'])", "no_such_overload", id="a text as decimal"),
        pytest.param("'%f'.format(['1'])", "no_such_overload", id="a text as fixed point"),
        pytest.param("'%b'.format([1.0])", "no_such_overload", id="a double in binary"),
        pytest.param("'%o'.format([true])", "no_such_overload", id="a bool in octal"),
        pytest.param("'%x'.format([1.0])", "no_such_overload", id="a double in hexadecimal"),
        pytest.param("'%s'.format([o])", "no_such_overload", id="an object"),
        pytest.param("'%s'.format('a')", "no_such_overload", id="no list"),
        pytest.param("strings.quote(1)", "no_such_overload", id="a number quoted"),
    ],
)
def test_a_value_that_cannot_be_written(expression: str, kind: str) -> None:
    """A clause that does not fit its value is an error, never an empty text."""
    assert kind == failure(expression, {"o": object()})


def test_what_is_written_is_charged() -> None:
    """Every element and every character written is paid for."""
    assert units("'%s%x'.format([l, s]) == ''", {"l": [1] * 100, "s": "x" * 6400}) >= 100 + 6400 // 64
