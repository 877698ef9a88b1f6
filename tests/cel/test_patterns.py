"""Owns the proof of matches and glob."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from tests.cel.running import failure, rejection, run, units


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("'foobar'.matches('o+b')", True, id="somewhere"),
        pytest.param("matches('foobar', '^foo$')", False, id="as a function"),
        pytest.param("'é😀'.matches('^..$')", True, id="characters, not bytes"),
        pytest.param("'FOO'.matches('(?i)foo') && 'a\\nb'.matches('(?m)^b$')", True, id="flags"),
        pytest.param("'Straße'.matches('\\\\pL+$')", True, id="Unicode classes"),
        pytest.param("'foo'.matches(p + 'o')", True, id="computed"),
        pytest.param("'report-2026.csv'.glob('report-*.csv') && glob('a.b', 'a?b')", True, id="glob"),
        pytest.param("'x\\ny'.glob('x*y') && ''.glob('*')", True, id="a star takes anything"),
        pytest.param(
            "'ab'.glob('a') || 'aXb'.glob('a.b') || 'A'.glob('a') || 'a+'.glob('[a]+')", False, id="the rest is itself"
        ),
        pytest.param("'a*b'.glob(q)", True, id="a computed glob"),
    ],
)
def test_patterns(expression: str, value: bool) -> None:
    """matches searches anywhere, glob takes the whole text."""
    assert value is run(expression, {"p": "o", "q": "a*b"})


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("'a'.matches(p)", "invalid_argument", id="a bad pattern"),
        pytest.param("'a'.matches('(?=a)')", "invalid_argument", id="what only backtracking can do"),
        pytest.param("'a'.matches('a{1001}')", "invalid_argument", id="too many repetitions"),
        pytest.param(
            "'a'.matches(((h + h) + (h + h)) + ((h + h) + (h + h)))",
            "invalid_argument",
            id="a computed pattern too large",
        ),
        pytest.param("dyn(1).matches('a')", "no_such_overload", id="a number searched"),
        pytest.param("'a'.matches(1)", "no_such_overload", id="a number as pattern"),
        pytest.param("dyn(1).glob('*')", "no_such_overload", id="a number in a glob"),
        pytest.param("s.matches('a')", "type", id="text that UTF-8 cannot hold"),
    ],
)
def test_patterns_that_fail(expression: str, kind: str) -> None:
    """What RE2 refuses is an error of the expression, not of the process."""
    assert kind == failure(expression, {"p": "(", "h": "(x{9}){100}|\\pL{99}", "s": "\ud800"})


def test_a_constant_pattern_is_refused_at_load() -> None:
    """The author of a rule hears of a bad pattern before any traffic does."""
    assert "1:13: bad regular expression: 'missing ]: [a'" == rejection("'a'.matches('[a')")


@pytest.mark.parametrize(
    ("expression", "least"),
    [
        pytest.param("s.matches('zz')", 16_000 // 64, id="the text"),
        pytest.param("s.matches('z.{99}')", 16_000 * 4, id="the pattern"),
        pytest.param("u.matches('zz')", 3 * 16_000 // 64, id="bytes, not characters"),
        pytest.param("'a'.matches(p)", 500, id="the compilation of a computed pattern"),
    ],
)
def test_searching_is_charged(expression: str, least: int) -> None:
    """Text times pattern is paid for, and so is a pattern made on the way."""
    assert units(expression, {"s": "x" * 16_000, "u": "€" * 16_000, "p": "b"}) >= least


@given(st.text(max_size=20), st.text(alphabet="ab*?.[]()\\^$", max_size=12))
def test_a_glob_without_wildcards_is_the_text_itself(text: str, pattern: str) -> None:
    """Only * and ? mean anything else than themselves."""
    plain = pattern.replace("*", "").replace("?", "")

    assert run("p.glob(p) && t.glob(t.replace('*', '?'))", {"p": plain, "t": text}) is True
    assert run("t.glob(p)", {"t": text, "p": plain}) is (text == plain)


def test_a_compiled_program_keeps_its_pattern() -> None:
    """Evaluating again compiles nothing: only the search is charged."""
    program, budget = cel.compile("'a'.matches('a')"), cel.Budget(100)

    program.evaluate({}, budget)

    assert budget.left > 90
