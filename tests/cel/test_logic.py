"""Owns the proof that errors are absorbed whatever the order of operands, and a used-up budget never is."""

import itertools
from collections.abc import Iterator, Mapping

import pytest

from proxy import cel
from proxy.cel.logic import absorbed
from tests.cel.running import failure, run

# What each operand stands for: true, false, an error, and a value that is no condition.
OPERANDS = {"t": True, "f": False, "e": "error", "n": "error"}


def expected(values: tuple[object, ...], decisive: bool) -> object:
    """Return what || (True decides) or && (False decides) makes of its operands."""
    return decisive if decisive in values else "error" if "error" in values else not decisive


def shown(expression: str) -> object:
    """Return the value, or "error"."""
    kind = failure(expression, {"t": True, "f": False, "n": 1})
    return run(expression, {"t": True, "f": False, "n": 1}) if kind.startswith("no failure") else "error"


@pytest.mark.parametrize(("operator", "decisive"), [("||", True), ("&&", False)])
def test_operands_commute(operator: str, decisive: bool) -> None:
    """The deciding operand wins over errors and non-conditions on either side of it."""
    for names in itertools.product(OPERANDS, repeat=3):
        values = tuple(OPERANDS[name] for name in names)
        written = f" {operator} ".join(f"({name})" for name in names)

        assert (written, expected(values, decisive)) == (written, shown(written))


@pytest.mark.parametrize(("macro", "decisive"), [("exists", True), ("all", False)])
def test_rows_commute(macro: str, decisive: bool) -> None:
    """exists and all are || and && over the rows."""
    for names in itertools.product(("true", "false", "1/0 > 0"), repeat=3):
        values = tuple({"true": True, "false": False}.get(name, "error") for name in names)
        rows = " : ".join(f"x == {row} ? {name}" for row, name in enumerate(names))

        assert (names, expected(values, decisive)) == (names, shown(f"[0, 1, 2].{macro}(x, {rows} : false)"))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("[].exists(x, x) || ![].all(x, x)", False, id="no rows"),
        pytest.param("[1, 2, 3].exists_one(x, x > 2) && [1].existsOne(x, true)", True, id="exactly one"),
        pytest.param("[1, 2, 3].exists_one(x, x > 1) || [].exists_one(x, true)", False, id="two, or none"),
        pytest.param("{'a': 1}.exists(k, k == 'a') && {'a': 1}.all(k, v, k == 'a' && v == 1)", True, id="maps"),
        pytest.param("[3, 4].exists(i, v, i == 1 && v == 4)", True, id="index and element"),
        pytest.param("[3, 4].transformList(i, v, i + v)", [3, 5], id="a list of both"),
        pytest.param("[3, 4].transformList(i, v, i > 0, v)", [4], id="filtered"),
        pytest.param("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", {"b": 20}, id="a map of both"),
        pytest.param("[3].transformMap(i, v, v)", {0: 3}, id="a map of a list"),
        pytest.param("[1, 2, 3, 4].filter(x, x % 2 == 0).map(x, x * x)", [4, 16], id="a chain"),
        pytest.param("{'a': 1}.map(k, k) + {'b': 1}.filter(k, true)", ["a", "b"], id="keys"),
        pytest.param("true ? 1 : 1 / 0", 1, id="the branch not taken"),
    ],
)
def test_loops(expression: str, value: object) -> None:
    """Loops walk list elements and map keys, or two variables over both."""
    assert value == run(expression)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("[1, 0].exists_one(x, 1 / x > 0)", "divide_by_zero", id="exists_one absorbs nothing"),
        pytest.param("[0].map(x, 1 / x)", "divide_by_zero", id="nor does map"),
        pytest.param("[1].filter(x, dyn(x))", "no_such_overload", id="a filter that is no condition"),
        pytest.param("dyn('abc').exists(x, true)", "no_such_overload", id="a loop over text"),
        pytest.param("dyn(1) ? 2 : 3", "no_such_overload", id="a test that is no condition"),
        pytest.param("1 / 0 > 0 ? true : true", "divide_by_zero", id="a failing test"),
    ],
)
def test_what_is_not_absorbed(expression: str, kind: str) -> None:
    """Only ||, &&, exists and all absorb an error."""
    assert kind == failure(expression)


def test_the_first_error_is_the_one_reported() -> None:
    """Of several errors that nothing outweighs, the first is shown."""
    assert "divide_by_zero" == failure("1 / 0 > 0 || missing")


class Broken(Mapping[str, object]):
    """Raise what no view should raise."""

    def __getitem__(self, key: str) -> object:
        raise OSError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError("iteration")

    def __len__(self) -> int:
        return 3


def test_a_view_that_breaks_is_an_operand_that_fails() -> None:
    """Whatever a value's own code raises is absorbed, or shown, like any other error."""
    activation = {"b": Broken()}

    assert run("b.a == 1 || b.exists(x, true) || true", activation) is True
    assert ["type", "type"] == [failure("b.a == 1", activation), failure("b.map(x, x)", activation)]


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("l.all(x, x > 0) || true", id="or"),
        pytest.param("[1].exists(x, l.all(y, y > 0) || true)", id="exists"),
        pytest.param("default(l.all(x, x > 0), true)", id="default"),
        pytest.param("missing == l.map(x, x) || l.all(x, x > 0) || true", id="exact code"),
    ],
)
def test_a_used_up_budget_is_never_absorbed(expression: str) -> None:
    """Work without an end cannot be hidden behind an alternative."""
    program = cel.compile(expression)

    with pytest.raises(cel.CelError) as caught:
        program.evaluate({"l": list(range(1000))}, cel.Budget(500))
    assert "budget" == caught.value.kind


def test_absorbed_passes_a_used_up_budget_on() -> None:
    """Running out of stack counts as well."""
    with pytest.raises(cel.CelError, match="RecursionError"):
        absorbed(RecursionError())


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        pytest.param("l.all(x, true)", 100, id="a loop"),
        pytest.param("l.all(x, k.all(y, true))", 100 * 10, id="a loop in a loop"),
        pytest.param("l.exists(x, true)", 100, id="a loop that could end early"),
    ],
)
def test_every_row_is_charged(expression: str, rows: int) -> None:
    """A loop's rows are paid before it starts, those of an inner loop for each outer row."""
    budget = cel.Budget(rows - 1)

    with pytest.raises(cel.CelError, match="budget"):
        cel.compile(expression).evaluate({"l": [0] * 100, "k": [0] * 10}, budget)
