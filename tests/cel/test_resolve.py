"""Owns the proof of what names mean, what is collected on the way, and which errors are certain before evaluation."""

import pytest

from proxy import cel
from tests.cel.running import exactly, failure, rejection, run

ACTIVATION = {"request": {"messages": [{"role": "user"}], "a": {"b": 1}}, "x": 5, "i": 0}


@pytest.mark.parametrize(
    ("expression", "references"),
    [
        pytest.param("request.a.b > 1", {("request", "a", "b")}, id="fields"),
        pytest.param("request['a'].b", {("request", "a", "b")}, id="a constant key is a field"),
        pytest.param("request.messages[0].role", {("request", "messages")}, id="a position ends the path"),
        pytest.param("request.a[x]", {("request", "a"), ("x",)}, id="a computed key ends the path and is read"),
        pytest.param("has(request.a.b)", {("request", "a", "b")}, id="has"),
        pytest.param("request.messages.exists(m, m.role == x.y)", {("request", "messages"), ("x", "y")}, id="a loop"),
        pytest.param("[1].all(x, x > 0) || x", {("x",)}, id="a loop variable is none, the root of its name is"),
        pytest.param("[1].all(x, .x.y > 0)", {("x", "y")}, id="an absolute name"),
        pytest.param("cel.bind(v, request.a, v.b + v.c)", {("request", "a")}, id="a bound value"),
        pytest.param("default(request.a.c, request)", {("request", "a", "c"), ("request",)}, id="lazy arguments"),
        pytest.param("x.a.contains('b')", {("x", "a")}, id="a receiver"),
        pytest.param("{request.k: [x ? y : z]}", {("request", "k"), ("x",), ("y",), ("z",)}, id="inside literals"),
        pytest.param("f.g || !h", {("f", "g"), ("h",)}, id="both sides, evaluated or not"),
        pytest.param("int == type(1) && math.abs(1) == 1", set(), id="types and namespaces are no variables"),
        pytest.param("has({'a': 1}.a) && [1][0] == 1 && has([{}][0].b)", set(), id="what hangs on no root"),
    ],
)
def test_static_references_are_collected(expression: str, references: set[tuple[str, ...]]) -> None:
    """Every root read is listed with the path read from it, as far as that is known before evaluation."""
    assert references == cel.compile(expression).references


def test_called_functions_are_collected() -> None:
    """A program lists the functions it calls; macros are syntax and none of them."""
    program = cel.compile("[1].exists(x, math.abs(x) > 0) && x.matches('a') && has(x.y)")

    assert {"math.abs", "matches"} == program.calls


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("[7].map(x, x)", [7], id="a loop variable hides a root"),
        pytest.param("[7].map(x, .x)", [5], id="an absolute name reaches past it"),
        pytest.param("[7].map(y, [y].map(x, x + y))", [[14]], id="loops nest"),
        pytest.param("[1].map(x, [2].map(x, x))[0] + [x]", [2, 5], id="an inner variable ends with its loop"),
        pytest.param("cel.bind(x, x + 1, x * 2)", 12, id="a bound name sees the outer one in its value"),
        pytest.param("int", cel.CelType("int"), id="a type"),
        pytest.param("google.protobuf.Timestamp", cel.CelType("google.protobuf.Timestamp"), id="a type with dots"),
        pytest.param("[{'abs': 3}].map(math, math.abs)", [3], id="a loop variable called like a namespace"),
    ],
)
def test_a_name_means_the_nearest(expression: str, value: object) -> None:
    """Scopes nest as they are written."""
    assert exactly(value) == exactly(run(expression, ACTIVATION))


def test_declared_variables_may_have_dots_and_type_names() -> None:
    """The longest declared name wins, also over a type of the same name."""
    program = cel.compile("[a.b.c, int]", variables=("a.b", "int"))

    value: object = program.evaluate({"a.b": {"c": 1}, "int": 2}, cel.Budget(10))

    assert [1, 2] == value
    assert {("a.b", "c"), ("int",)} == program.references


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        pytest.param("reqest.a", "1:1: unknown variable 'reqest'; did you mean 'request'?", id="a near miss"),
        pytest.param("true && zzz", "1:9: unknown variable 'zzz'", id="nothing near"),
    ],
)
def test_an_undeclared_variable_is_refused(expression: str, message: str) -> None:
    """With variables declared, any other root is a mistake, and a near one is suggested."""
    with pytest.raises(cel.CelSyntaxError) as caught:
        cel.compile(expression, variables={"request", "agent"})

    assert message == str(caught.value)


class Anything:
    """Contain every name but one, and not be iterable."""

    def __contains__(self, name: object) -> bool:
        return name != "nothing"


def test_variables_need_only_answer_in() -> None:
    """A container that cannot list its names declares them as well, without suggestions."""
    assert cel.compile("anything.at.all", variables=Anything()).references
    with pytest.raises(cel.CelSyntaxError, match=r"unknown variable 'nothing'$"):
        cel.compile("nothing", variables=Anything())


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        pytest.param("1 + 'a'", "1:1: '+' does not take (int, string)", id="arithmetic of two kinds"),
        pytest.param("x + true", "1:1: '+' does not take (any, bool)", id="an operand that never fits"),
        pytest.param("-'a'", "1:1: '-' does not take (string)", id="a sign"),
        pytest.param("!size(x)", "1:1: '!' does not take (int)", id="not a bool"),
        pytest.param("1 < 'a'", "1:1: '<' does not take (int, string)", id="order of two kinds"),
        pytest.param("[1] < [2]", "1:1: '<' does not take (list, list)", id="order of lists"),
        pytest.param("x in 'abc'", "1:1: 'in' does not take (any, string)", id="membership of a string"),
        pytest.param("x && 'a'", "1:6: a condition is true or false, not a string", id="an operand of and"),
        pytest.param("1 ? 2 : 3", "1:1: a condition is true or false, not a int", id="a test"),
        pytest.param("(x > 1 ? 1 : 2) + 'a'", "1:1: '+' does not take (int, string)", id="both branches of a choice"),
        pytest.param("[1].exists(x, 'a')", "1:15: a condition is true or false, not a string", id="a predicate"),
        pytest.param("[1].filter(x, 1)", "1:15: a condition is true or false, not a int", id="a filter"),
        pytest.param("'abc'.map(c, c)", "1:7: 'map' walks a list or a map, not a string", id="a loop over a string"),
        pytest.param("f(1)", "1:1: unknown function 'f'", id="an unknown function"),
        pytest.param(
            "x.startWith('a')", "1:3: unknown function 'startWith'; did you mean 'startsWith'?", id="a near miss"
        ),
        pytest.param(
            "math.flor(1.0)", "1:6: unknown function 'math.flor'; did you mean 'math.floor'?", id="in a namespace"
        ),
        pytest.param("contains('a', 'b')", "1:1: 'contains' is written x.contains()", id="only a method"),
        pytest.param("x.hash()", "1:3: 'hash' is written hash(x)", id="no method"),
        pytest.param("size()", "1:1: 'size' takes 1 argument", id="too few arguments"),
        pytest.param("x.contains()", "1:3: 'contains' takes 1 argument", id="a receiver is not counted"),
        pytest.param("x.replace('a')", "1:3: 'replace' takes 2 to 3 arguments", id="a range"),
        pytest.param("math.bitAnd(1, 2, 3)", "1:6: 'math.bitAnd' takes 2 arguments", id="too many arguments"),
        pytest.param("x.matches('(')", "1:11: bad regular expression: 'missing ): ('", id="a constant pattern"),
        pytest.param(
            "duration('1 hour')",
            "1:10: cannot read this as a duration, such as '1h30m' or '2.5s': '1 hour'",
            id="a constant duration",
        ),
        pytest.param("T{a: 1}", "1:2: messages cannot be built here; a map literal is {'key': value}", id="a message"),
        pytest.param(
            "-1 + a.T{}", "1:9: messages cannot be built here; a map literal is {'key': value}", id="no fields"
        ),
        pytest.param("has(x)", "1:5: has() takes a field selection, such as has(a.b)", id="has of no field"),
        pytest.param("[1].all(x.y, true)", "1:9: a loop variable is a simple name", id="a path as loop variable"),
        pytest.param("[1].all(.x, true)", "1:9: a loop variable is a simple name", id="an absolute loop variable"),
        pytest.param("[1].all(x, x, true)", "1:12: the two loop variables have the same name", id="one name twice"),
        pytest.param(
            "[1].exists(x)",
            "1:5: 'exists' does not take these arguments; it is used as in list.exists(x, ...)",
            id="a macro without its condition",
        ),
        pytest.param(
            "[1].\nmap(1)",
            "2:1: 'map' does not take these arguments; it is used as in list.map(x, ...)",
            id="on line 2",
        ),
    ],
)
def test_what_must_fail_is_refused_at_load(expression: str, message: str) -> None:
    """A mistake no activation can make good is reported with its place, before anything is evaluated."""
    assert message == rejection(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "x + 1",
        "x && y",
        "x < y",
        "dyn(1) + 'a'",
        "size(x) + size(y)",
        "x in y",
        "-x",
        "(x > 1 ? 1 : 'a') + 'a'",
        "x.map(y, y)",
    ],
)
def test_what_may_succeed_is_not_refused(expression: str) -> None:
    """A kind that only evaluation knows proves nothing."""
    assert "not rejected" == rejection(expression)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("1 + 'a'", "no_such_overload", id="operands"),
        pytest.param("zzz()", "no_such_function", id="a function"),
        pytest.param("size()", "no_such_overload", id="arguments"),
        pytest.param("'a'.matches('(')", "invalid_argument", id="a pattern"),
        pytest.param("'abc'.map(c, c)", "no_such_overload", id="a loop"),
        pytest.param("'a' && true", "no_such_overload", id="a condition"),
    ],
)
def test_without_checks_a_mistake_waits_for_evaluation(expression: str, kind: str) -> None:
    """CEL without its type checker lets a mistake pass, and another operand may outweigh it."""
    assert (kind, True) == (failure(expression), run(f"({expression}) == 1 || true", check=False))


def test_an_undeclared_variable_waits_as_well_without_checks() -> None:
    """Unchecked, an unknown root is an error of the evaluation that reaches it."""
    program = cel.compile("zzz || true", variables=(), check=False)

    assert program.evaluate({}, cel.Budget(100)) is True


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("!" * 200 + "true", id="signs"),
        pytest.param("1" + " + 1" * 200, id="a sum"),
        pytest.param("a" + ".b" * 200, id="fields"),
        pytest.param("a ? b : " * 200 + "c", id="choices"),
    ],
)
def test_depth_without_brackets_is_bounded(expression: str) -> None:
    """What nests without a bracket is refused beyond 128 levels, by a message and not by the stack."""
    assert "nested deeper than 128" in rejection(expression)


def test_a_long_chain_of_conditions_is_not_deep() -> None:
    """Hundreds of alternatives are one level."""
    assert run(" || ".join(["x == 1"] * 400), {"x": 2}) is False
