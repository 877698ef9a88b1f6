"""Owns the proof of the door: compile, evaluate, explain, and that nothing but the two errors ever comes out."""

import collections
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.cel_fuzz import Writer
from bench.cel_fuzz import activation as random_activation
from proxy import cel
from tests.cel.running import PLENTY, failure, run


def test_a_program_says_what_it_was_made_of() -> None:
    """The source, what it reads and what it calls can be seen."""
    program = cel.compile("request.user == pii(request.text)", functions={"pii": cel.Function(call=len, least=1)})

    assert "request.user == pii(request.text)" == program.source
    assert {("request", "user"), ("request", "text")} == program.references
    assert {"pii"} == program.calls


def test_a_program_cannot_be_changed() -> None:
    """What was compiled is what is evaluated."""
    with pytest.raises(AttributeError):
        cel.compile("1").source = "2"  # type: ignore[misc]  # that is what must fail


def test_a_program_serves_many_threads() -> None:
    """Evaluations share nothing but the program."""
    program = cel.compile("l.map(x, x + n).filter(x, x > 0).size() == n || missing")
    results: list[object] = []

    def work(number: int) -> None:
        values = {program.evaluate({"l": [0] * number, "n": number}, cel.Budget(PLENTY)) for _ in range(200)}
        results.extend(values)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 4 == results


def loud(text: object) -> str:
    """Stand for a policy's own function."""
    if not isinstance(text, str):
        raise cel.CelError("no_such_overload", "loud() takes a text")
    return text.upper()


OWN = {
    "loud": cel.Function(call=loud, least=1, charge=5, method=True, kind="string"),
    "quiet": cel.Function(call=str.lower, least=1, plain=False, method=True),
    "first": cel.Function(call=lambda budget, *thunks: thunks[0](), least=1, most=3, lazy=True, metered=True),
    "size": cel.Function(call=lambda value: 42, least=1),
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("loud('a') + 'b'.loud()", "AB", id="plain and as a method"),
        pytest.param("'A'.quiet()", "a", id="only as a method"),
        pytest.param("first(1, 1 / 0, missing)", 1, id="lazy"),
        pytest.param("default(loud(1), 'none')", "none", id="its error is absorbed"),
        pytest.param("[1].exists(x, first(x / 0 == 1 || x == 1))", True, id="a lazy argument is exact code"),
        pytest.param("size('a')", 42, id="a function of the policy's takes the place of a standard one"),
    ],
)
def test_a_policy_brings_functions(expression: str, value: object) -> None:
    """Registered functions come on top of the standard ones."""
    assert value == cel.compile(expression, functions=OWN).evaluate({}, cel.Budget(100))


def test_a_function_of_the_policy_is_charged() -> None:
    """Its charge is taken for every call."""
    budget = cel.Budget(12)
    program = cel.compile("loud('a') == 'A'", functions=OWN)

    program.evaluate({}, budget)
    program.evaluate({}, budget)

    with pytest.raises(cel.CelError, match="budget"):
        program.evaluate({}, budget)


def test_a_function_that_breaks_is_an_error_of_the_expression() -> None:
    """Whatever a function raises, the policy sees a CelError with the cause attached."""
    program = cel.compile("quiet(1)", functions={"quiet": cel.Function(call=str.lower, least=1)})

    with pytest.raises(cel.CelError, match="TypeError") as caught:
        program.evaluate({}, cel.Budget(10))
    assert ("type", TypeError) == (caught.value.kind, type(caught.value.__cause__))


def test_an_explanation_shows_every_value_outermost_first() -> None:
    """Each sub-expression that stands on its own comes with its text and value; constants and loop bodies do not."""
    program = cel.compile("request.messages.exists(m, m.n > limit) && (size(name) == 2 || !flag)")
    activation = {"request": {"messages": [{"n": 1}]}, "limit": 0, "name": "ab"}

    explained = program.explain(activation, cel.Budget(1000))

    assert [
        ("request.messages.exists(m, m.n > limit) && (size(name) == 2 || !flag)", True),
        ("request.messages.exists(m, m.n > limit)", True),
        ("request.messages", [{"n": 1}]),
        ("request", {"messages": [{"n": 1}]}),
        ("limit", 0),
        ("(size(name) == 2 || !flag)", True),
        ("size(name) == 2", True),
        ("size(name)", 2),
        ("name", "ab"),
    ] == explained[:9]
    assert ["!flag", "flag"] == [text for text, _ in explained[9:]]
    assert ["no_such_variable"] * 2 == [value.kind for _, value in explained[9:] if isinstance(value, cel.CelError)]


def test_an_explanation_leaves_bound_names_out() -> None:
    """A body that needs its bound value does not stand on its own, the value does."""
    explained = cel.compile("cel.bind(v, a + 1, v * b)").explain({"a": 1, "b": 2}, cel.Budget(100))

    assert [("cel.bind(v, a + 1, v * b)", 4), ("a + 1", 2), ("a", 1), ("b", 2)] == explained


def test_an_explanation_survives_a_used_up_budget() -> None:
    """A sub-expression that could not be paid shows that as its value."""
    (_, value), *_ = cel.compile("l.all(x, true)").explain({"l": [0] * 100}, cel.Budget(10))

    assert isinstance(value, cel.CelError)
    assert "budget" == value.kind


class Hostile(Mapping[str, object]):
    """Answer every question with the exception it was made with."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, key: str) -> object:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error

    def __len__(self) -> int:
        raise self.error

    def __contains__(self, key: object) -> bool:
        raise self.error

    def __eq__(self, other: object) -> bool:
        raise self.error

    def __hash__(self) -> int:
        raise self.error


def cycle() -> list[Any]:
    """Return a list that contains itself."""
    items: list[Any] = [1]
    items.append(items)
    return items


ERRORS = (StopIteration("s"), KeyError("k"), RecursionError("r"), MemoryError(), OSError("o"), cel.CelError("own", "x"))
HOSTILE_VALUES: tuple[object, ...] = (
    *map(Hostile, ERRORS),
    cycle(),
    object(),
    object,
    {1, 2},
    range(3),
    1j,
    2**5000,
    -(2**200),
    "\ud800",
    "x" * 300_000,
    [[]] * 5000,
    {None: 1, 1.5: 2, (): 3},
    collections.defaultdict(list),
    memoryview(b"x"),
    float("nan"),
)
HOSTILE_EXPRESSIONS = (
    "x",
    "x == x",
    "x != y",
    "x < y || x >= y",
    "x + y",
    "-x",
    "!x",
    "x.a.b",
    "x['a']",
    "x[0]",
    "has(x.a)",
    "x in y",
    "y in x",
    "{'k': x}.k",
    "{x: y}",
    "[x, y].map(z, z == x)",
    "x.exists(z, z == y)",
    "x.all(k, v, v == y)",
    "x.map(z, z)",
    "x.transformMap(k, v, v)",
    "x ? y : x",
    "x && y",
    "x || y",
    "size(x)",
    "type(x)",
    "string(x)",
    "int(x)",
    "double(x)",
    "timestamp(x)",
    "duration(x)",
    "x.contains(y)",
    "x.matches(y)",
    "x.matches('(a|b)*c{10}')",
    "x.glob(y)",
    "x.replace('x', y)",
    "x.split(y)",
    "[x, y].join()",
    "x.join(y)",
    "'%s %d'.format([x, y])",
    "strings.quote(x)",
    "math.greatest(x, y)",
    "math.greatest(x)",
    "math.abs(x)",
    "math.bitShiftLeft(x, y)",
    "sets.contains(x, y)",
    "sum(x)",
    "num(x)",
    "json(x)",
    "hash(x)",
    "urls(x)",
    "hostIn(x, y)",
    "hostIn('a.com', x)",
    "containsWord(x, y)",
    "containsAny(x, y)",
    "similar(x, y)",
    "default(x, y)",
    "default(x.a, y.b)",
    "x.getHours(y)",
    "timestamp(0).getHours(x)",
    "base == x && x == 'text'",
)


@pytest.mark.parametrize("expression", HOSTILE_EXPRESSIONS)
def test_any_value_ends_in_a_value_or_a_cel_error(expression: str) -> None:
    """Whatever an activation holds, an evaluation raises CelError or nothing, and stays inside its budget."""
    program, broken = cel.compile(expression, check=False), []

    for x in HOSTILE_VALUES:
        for y in (x, "x", [1], None):
            try:
                program.evaluate({"x": x, "y": y}, cel.Budget(20_000))
            except cel.CelError:
                continue
            except Exception as error:  # noqa: BLE001  # the defect this test looks for
                broken.append((type(x), type(y), error))
    assert [] == broken


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_activation_that_breaks_is_an_error(error: Exception) -> None:
    """The activation itself may fail as well."""
    with pytest.raises(cel.CelError):
        cel.compile("a.b").evaluate(Hostile(error), cel.Budget(10))


TOKENS = (
    *(
        "a",
        "b.c",
        "f(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        ".",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "<",
    ),
    *(
        "==",
        "in",
        "1",
        "2u",
        "0.5",
        "'s'",
        "b'b'",
        "null",
        "true",
        ".map(x,",
        ".exists(",
        "has(",
        "cel.bind(v,",
        "x",
        "v",
    ),
    *("'''", '"', "\\", "r'", "`", "//", "\n", "\x00", "é", "\ud800", "9" * 400, "e9", "0x"),
)


def refused(source: str, *, check: bool = True) -> cel.CelSyntaxError | None:
    """Return what compiling ends with, if it is refused."""
    try:
        cel.compile(source, check=check)
    except cel.CelSyntaxError as error:
        return error
    return None


@given(st.lists(st.sampled_from(TOKENS), max_size=30).map("".join) | st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_compiled_or_refused(source: str) -> None:
    """Compiling raises CelSyntaxError or nothing, and what compiles ends in a value or a CelError."""
    error = refused(source, check=False)

    assert (error.line, error.column) >= (1, 1) if error else failure(source, {"a": 1, "b": {"c": [1, 2]}})


@given(st.randoms(use_true_random=True))
@settings(max_examples=200)
def test_checking_refuses_nothing_that_must_succeed(chance: random.Random) -> None:
    """An expression whose every part is evaluated, and which has a value, is never rejected as certain to fail."""
    expression = Writer(chance).expression()
    assume(not any(lazy in expression for lazy in ("&&", "||", "?", "exists", "all", "filter", "map", "bind")))
    activation, _ = random_activation(chance)

    assert failure(expression, activation).startswith("no failure") <= (refused(expression) is None)


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("(" * 64 + "1" + ")" * 64, id="brackets"),
        pytest.param("[1]" + ".map(x, [x]" * 60 + ")" * 60, id="loops in loops"),
        pytest.param("".join(f"[1].exists(x{n}, " for n in range(60)) + "true" + ")" * 60, id="exists in exists"),
        pytest.param("".join(f"(x{n} || " for n in range(60)) + "true" + ")" * 60, id="alternatives in alternatives"),
        pytest.param("default(" * 60 + "z" + ", 1)" * 60, id="defaults in defaults"),
        pytest.param("false ? 1 : " * 100 + "2", id="choices"),
        pytest.param("{1: " * 60 + "1" + "}" * 60, id="maps in maps"),
        pytest.param("'" + "a" * 4000 + "' == ''", id="a long string"),
        pytest.param("[" + ",".join("1" * 1 for _ in range(2000)) + "].size()", id="a long list"),
    ],
)
def test_the_largest_expressions_evaluate(expression: str) -> None:
    """Inside the limits an expression never runs out of stack."""
    assert failure(expression).startswith("no failure")


def dig(left: int, run_there: Callable[[], object]) -> object:
    """Run something at the bottom of a deep call."""
    return dig(left - 1, run_there) if left else run_there()


def deeper_and_deeper(run_there: Callable[[], object]) -> None:
    """Run something with less and less of the stack left."""
    for depth in range(600, 1000, 5):
        dig(depth, run_there)


def test_too_little_stack_is_a_syntax_error() -> None:
    """Compiled where little stack is left, an expression is refused rather than the process broken."""
    with pytest.raises(cel.CelSyntaxError, match="nested too deeply"):
        deeper_and_deeper(lambda: cel.compile("(" * 60 + "1" + " + 1)" * 60))


def test_an_evaluation_with_too_little_stack_is_a_cel_error() -> None:
    """Evaluated where little stack is left, an expression fails like one that used its budget up."""
    program = cel.compile("[1]" + ".map(x, [x]" * 60 + ")" * 60)

    with pytest.raises(cel.CelError, match="ran out of room") as caught:
        deeper_and_deeper(lambda: program.evaluate({}, cel.Budget(PLENTY)))
    assert "budget" == caught.value.kind


def test_an_expression_over_nothing_needs_no_activation() -> None:
    """Constants are values."""
    assert 3 == run("1 + 2")
