"""Owns the step from a resolved tree to Python code objects.

Python's `ast` is built node by node and compiled once: a literal becomes a constant or a bound object, a loop variable
a numbered name, so policy text never becomes source text, and the code's globals hold only what it calls.
In: nodes.Node. Out: a function of (activation, budget). Never: `__builtins__`, a name taken from the policy.
"""

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, cast

from . import logic, operators
from .errors import Budget, CelError
from .functions import charged
from .nodes import (
    Bind,
    Choice,
    Fail,
    Has,
    Index,
    Invoke,
    ListOf,
    Literal,
    Local,
    Logic,
    Loop,
    MapOf,
    Node,
    Operation,
    Root,
    Select,
)

Evaluator = Callable[[Mapping[str, object], Budget], object]
_AT: Any = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}
# With text on one side, Python's equality is CEL's and its cost is bounded by the literal.
_EQUALITY: dict[str, ast.cmpop] = {"==": ast.Eq(), "!=": ast.NotEq()}
_CONSTANTS = (str, int, float, bool, bytes, type(None))


def fast(node: Node) -> Evaluator:
    """Compile with Python's own and, or, any and all: exact unless it raises."""
    return _Fast().compile(node)


def exact(node: Node) -> Evaluator:
    """Compile with logic that absorbs errors in any order, as CEL has it."""
    return _Exact().compile(node)


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load(), **_AT)


def _constant(value: Any) -> ast.expr:
    return ast.Constant(value, **_AT)


def _is_text(node: Node) -> bool:
    return isinstance(node, Literal) and node.kind == "string"


def _tuple(elements: Iterable[ast.expr]) -> ast.expr:
    return ast.Tuple(list(elements), ast.Load(), **_AT)


def _lambda(parameters: tuple[str, ...], body: ast.expr) -> ast.expr:
    names = [ast.arg(name, **_AT) for name in parameters]
    return ast.Lambda(ast.arguments([], names, None, [], [], None, []), body, **_AT)


_ACTIVATION, _BUDGET = _name("activation"), _name("budget")


class _Fast:
    def __init__(self) -> None:
        self._globals: dict[str, object] = {"__builtins__": {}}

    def compile(self, node: Node) -> Evaluator:
        """Return the function that evaluates a tree."""
        function = _lambda(("activation", "budget"), self.visit(node))
        code = compile(ast.Expression(function), "<cel>", "eval")
        return cast(Evaluator, eval(code, self._globals))  # noqa: S307  # made above, without any policy text

    def bound(self, value: object) -> ast.expr:
        """Return a name for an object; the same object always gets the same name."""
        name = f"g{id(value)}"
        self._globals[name] = value
        return _name(name)

    def call(self, function: object, *arguments: ast.expr) -> ast.expr:
        """Return a call of an object of ours."""
        return ast.Call(self.bound(function), list(arguments), [], **_AT)

    def visit(self, node: Node) -> ast.expr:
        """Return the code of a node: one method per kind of node."""
        return cast(ast.expr, getattr(self, f"visit_{type(node).__name__.lower()}")(node))

    def condition(self, node: Node) -> ast.expr:
        """Return code whose value is True or False; only what is certain to be a bool goes unchecked."""
        code = self.visit(node)
        return code if node.kind == "bool" else self.call(operators.truth, code)

    # Values

    def visit_literal(self, node: Literal) -> ast.expr:
        return _constant(node.value) if type(node.value) in _CONSTANTS else self.bound(node.value)

    def visit_root(self, node: Root) -> ast.expr:
        return ast.Subscript(_ACTIVATION, _constant(node.name), ast.Load(), **_AT)

    def visit_local(self, node: Local) -> ast.expr:
        return _name(f"v{node.number}")

    def visit_listof(self, node: ListOf) -> ast.expr:
        return ast.List([self.visit(item) for item in node.items], ast.Load(), **_AT)

    def visit_mapof(self, node: MapOf) -> ast.expr:
        pairs = zip(node.keys, node.values, strict=True)
        entries = (_tuple((self.visit(key), self.visit(value))) for key, value in pairs)
        return self.call(operators.new_map, _tuple(entries))

    # Access

    def visit_select(self, node: Select) -> ast.expr:
        """Return a read that needs no call where a loop variable holds a plain dict."""
        read = self.selection(node)
        if not isinstance(node.operand, Local):
            return read
        row = self.visit(node.operand)
        plain = ast.Compare(self.call(type, row), [ast.Is()], [self.bound(dict)], **_AT)
        return ast.IfExp(plain, ast.Subscript(row, _constant(node.field), ast.Load(), **_AT), read, **_AT)

    def selection(self, node: Select) -> ast.expr:
        """Return a read of a field of anything."""
        return self.call(operators.select, self.visit(node.operand), _constant(node.field))

    def visit_has(self, node: Has) -> ast.expr:
        return self.call(operators.has, self.visit(node.operand), _constant(node.field))

    def visit_index(self, node: Index) -> ast.expr:
        return self.call(operators.index, _BUDGET, self.visit(node.operand), self.visit(node.key))

    # Operators and calls

    def visit_operation(self, node: Operation) -> ast.expr:
        if node.operator == "!":
            return ast.UnaryOp(ast.Not(), self.condition(node.operands[0]), **_AT)
        operands = [self.visit(operand) for operand in node.operands]
        if node.operator in _EQUALITY and any(_is_text(operand) for operand in node.operands):
            return ast.Compare(operands[0], [_EQUALITY[node.operator]], operands[1:], **_AT)
        operate = operators.BINARY[node.operator] if len(operands) == 2 else operators.negative
        return self.call(operate, _BUDGET, *operands)

    def visit_invoke(self, node: Invoke) -> ast.expr:
        function = node.function
        arguments = [self.thunk(node) if function.lazy else self.visit(node) for node in node.arguments]
        if function.metered:
            return self.call(function.call, _BUDGET, *arguments)
        return self.call(charged, _BUDGET, _constant(function.charge), self.bound(function.call), *arguments)

    def visit_fail(self, node: Fail) -> ast.expr:
        return self.call(fail, _constant(node.error), _constant(node.message))

    def thunk(self, node: Node) -> ast.expr:
        """Return code to be run later, perhaps where its errors are absorbed: so it is exact."""
        emitter = _Exact()
        emitter._globals = self._globals
        return emitter.thunk(node)

    # Logic and loops

    def visit_logic(self, node: Logic) -> ast.expr:
        operator = ast.Or() if node.operator == "||" else ast.And()
        return ast.BoolOp(operator, [self.condition(term) for term in node.terms], **_AT)

    def visit_choice(self, node: Choice) -> ast.expr:
        return ast.IfExp(self.condition(node.test), self.visit(node.then), self.visit(node.otherwise), **_AT)

    def visit_bind(self, node: Bind) -> ast.expr:
        return ast.Call(_lambda((f"v{node.variable}",), self.visit(node.body)), [self.visit(node.value)], [], **_AT)

    def visit_loop(self, node: Loop) -> ast.expr:
        """Return a loop as a generator: list and dict comprehensions, nested some twenty deep, crash CPython 3.12."""
        match node.macro:
            case "exists" | "all":
                return self.quantified(node)
            case "exists_one":
                return self.call(logic.exactly_one, self.generator(node, self.condition(node.element)))
            case "list":
                return self.call(list, self.generator(node, self.visit(node.element)))
        entry = _tuple((_name(f"v{node.variables[0]}"), self.visit(node.element)))
        return self.call(dict, self.generator(node, entry))

    def quantified(self, node: Loop) -> ast.expr:
        """Return `exists` or `all`."""
        return self.call(any if node.macro == "exists" else all, self.generator(node, self.condition(node.element)))

    def generator(self, node: Loop, element: ast.expr) -> ast.expr:
        """Return the rows of a loop as a generator of something."""
        return ast.GeneratorExp(element, [self.rows(node)], **_AT)

    def rows(self, node: Loop) -> ast.comprehension:
        """Return the `for ... in ... if ...` of a loop."""
        targets: list[ast.expr] = [ast.Name(f"v{variable}", ast.Store(), **_AT) for variable in node.variables]
        walk, target = logic.items, targets[0]
        if len(targets) == 2:
            walk, target = logic.pairs, ast.Tuple(targets, ast.Store(), **_AT)
        source = self.call(walk, _BUDGET, self.visit(node.source), _constant(node.weight))
        return ast.comprehension(target, source, [self.condition(node.test)] if node.test else [], 0)


class _Exact(_Fast):
    def visit_root(self, node: Root) -> ast.expr:
        return self.call(variable, _ACTIVATION, _constant(node.name))

    def visit_select(self, node: Select) -> ast.expr:
        return self.selection(node)

    def visit_logic(self, node: Logic) -> ast.expr:
        decide = logic.any_of if node.operator == "||" else logic.all_of
        return self.call(decide, _BUDGET, _tuple(map(self.thunk, node.terms)))

    def quantified(self, node: Loop) -> ast.expr:
        decide = logic.any_of if node.macro == "exists" else logic.all_of
        return self.call(decide, _BUDGET, self.generator(node, self.thunk(node.element)))

    def thunk(self, node: Node) -> ast.expr:
        return _lambda((), self.visit(node))


def variable(activation: Mapping[str, object], name: str) -> object:
    """Read a root, or fail as an expression does."""
    try:
        return activation[name]
    except KeyError:
        raise CelError("no_such_variable", f"there is no variable '{name}'") from None


def fail(kind: str, message: str) -> NoReturn:
    """Raise what an unchecked expression earned."""
    raise CelError(kind, message)
