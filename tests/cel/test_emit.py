"""Owns the proof of the code objects: fast and exact agree, and neither holds any policy text as a name."""

from types import CodeType, FunctionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from proxy.cel import emit
from proxy.cel.library import FUNCTIONS
from proxy.cel.parse import parse
from proxy.cel.resolve import Resolver
from tests.cel.running import exactly

ACTIVATION = {
    "t": True,
    "f": False,
    "n": 1,
    "s": "text",
    "l": [0, 1, 2],
    "m": {"a": 1, "b": {"c": "d"}},
    "rows": [{"k": "v", "n": 1}, {"n": 2}],
}
# Every kind of node, and every place where fast and exact code differ.
EXPRESSIONS = (
    "t && (f || t)",
    "t && n",
    "n || t",
    "missing || t",
    "t || missing",
    "missing && f",
    "f && missing",
    "missing && t",
    "!t",
    "!n",
    "t ? n : missing",
    "missing ? n : s",
    "n ? n : s",
    "n + 1 == 2 && -n < 0",
    "s == 'text' && 'x' != s",
    "n == 'text'",
    "m.a + m['a']",
    "m.b.c",
    "has(m.b) && !has(m.c)",
    "has(n.x)",
    "{s: n, 'k': [n, s, null, 1u, b'x', 1.5, duration('1s')]}",
    "l.exists(x, 1 / x == 1)",
    "l.exists(x, 1 / x == 7)",
    "l.all(x, 1 / x == 7)",
    "l.all(x, 1 / x == 1)",
    "l.exists(x, x)",
    "l.exists_one(x, x == 1)",
    "l.exists_one(x, 1 / x == 1)",
    "l.filter(x, x > 0).map(x, x * 2)",
    "l.map(x, x > 0, x + 1)",
    "l.exists(i, v, i == v)",
    "m.transformMap(k, v, k == 'a', v)",
    "l.transformList(i, v, i * v)",
    "rows.exists(r, r.k == 'v')",
    "rows.all(r, r.k == 'v' || r.n == 2)",
    "rows.map(r, r.n)",
    "[rows].map(r, r.n)",
    "cel.bind(v, n + 1, v * v)",
    "default(missing == 1 || t, f)",
    "default(l.all(x, x < y), s)",
    "[1].exists(x, default(missing || x == 1, false))",
    "size(s) + s.size()",
    "unknown(1)",
)


def outcome(evaluator: emit.Evaluator) -> object:
    """Return a value by kind, or that there is none."""
    try:
        return exactly(evaluator(ACTIVATION, cel.Budget(10_000)))
    except Exception as error:  # noqa: BLE001  # fast code may raise anything; that is what exact code is for
        return type(error)


def resolved(expression: str) -> Any:
    """Return the tree that both kinds of code are made of."""
    return Resolver(expression, None, FUNCTIONS, check=False).value(parse(expression))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_fast_code_that_ends_is_exact(expression: str) -> None:
    """If the fast code ends without an exception, the exact code has the same value."""
    tree = resolved(expression)
    fast, exact = outcome(emit.fast(tree)), outcome(emit.exact(tree))

    assert exact == fast or isinstance(fast, type)
    assert not isinstance(exact, type) or exact is cel.CelError


def test_most_of_these_need_the_fast_code_only() -> None:
    """The comparison above compares values, not failures."""
    values = [
        expression for expression in EXPRESSIONS if not isinstance(outcome(emit.fast(resolved(expression))), type)
    ]

    assert len(values) > len(EXPRESSIONS) / 2


def names(code: CodeType) -> set[str]:
    """Return every name in a code object and in those inside it."""
    inner = [names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *code.co_varnames, *code.co_freevars}.union(*inner)


@pytest.mark.parametrize("make", [pytest.param(emit.fast, id="fast"), pytest.param(emit.exact, id="exact")])
def test_no_name_in_the_code_comes_from_the_policy(make: Any) -> None:
    """Names are ours and numbered; the globals hold only what is called, and no builtins."""
    policy = "__import__.map(__builtins__, eval.exec == __builtins__.open && default(globals.x, 'os'))"

    function = make(resolved(policy))

    assert isinstance(function, FunctionType)
    ours = {"activation", "budget", ".0"}
    assert all(name in ours or (name[0] in "gv" and name[1:].isdigit()) for name in names(function.__code__))
    assert {} == function.__globals__["__builtins__"]
    assert all(name == "__builtins__" or name[0] == "g" for name in function.__globals__)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_only_data(text: str, field: str) -> None:
    """Whatever a string literal or a key holds comes back as it is."""
    quoted = ["".join(f"\\U{ord(character):08x}" for character in part) for part in (text, field)]
    program = cel.compile(f"{{'{quoted[1]}': '{quoted[0]}'}}['{quoted[1]}']")

    assert text == program.evaluate({}, cel.Budget(100))


def test_the_same_object_is_bound_once() -> None:
    """A helper used many times is one entry of the globals."""
    function = emit.fast(resolved("n + n + n + n"))

    assert isinstance(function, FunctionType)
    assert 2 == len(function.__globals__)
