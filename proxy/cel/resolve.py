"""Owns what names mean: loop variables, roots, types, functions, macros; and the type errors that are certain.

In: the tree as written. Out: the resolved tree, the static references, the functions called; or CelSyntaxError.
Never: an evaluation, a guess (a type error is reported only if no activation could avoid it).
"""

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from .errors import CelError, CelSyntaxError
from .functions import Function
from .lexer import reject
from .nodes import (
    Bind,
    Call,
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
    Message,
    Name,
    Node,
    Operation,
    Root,
    Select,
)
from .operators import ARITHMETIC, result_kind
from .values import TYPES
from .wrappers import WRAPPERS

MAX_DEPTH = 128
_CALL_WORK, _ENTRY_WORK, _ARITHMETIC_WORK = 24, 8, 2
# (name, arguments) -> (how rows are joined, number of loop variables).
_MACROS = {
    (name, variables + 1): (macro, variables)
    for name, macro in (("exists", "exists"), ("all", "all"), ("exists_one", "exists_one"), ("existsOne", "exists_one"))
    for variables in (1, 2)
} | {
    ("filter", 2): ("list", 1),
    ("map", 2): ("list", 1),
    ("map", 3): ("list", 1),
    ("transformList", 3): ("list", 2),
    ("transformList", 4): ("list", 2),
    ("transformMap", 3): ("map", 2),
    ("transformMap", 4): ("map", 2),
}


class Resolver:
    """Walk one expression's tree once; `references` and `called` fill on the way."""

    def __init__(
        self, source: str, variables: Container[str] | None, functions: Mapping[str, Function], check: bool
    ) -> None:
        self.references: set[tuple[str, ...]] = set()
        self.called: set[str] = set()
        self._source = source
        self._variables = variables
        self._functions = functions
        self._check = check
        self._locals: dict[str, int] = {}
        self._loops = 0
        # What running the tree once costs, in halves of a budget unit.
        self._work = 0
        self._depth = 0

    def value(self, node: Node) -> Any:
        """Resolve a node whose value is used as a whole: its static path, if it has one, is a reference."""
        resolved = self._visit(node)
        path: tuple[str, ...] = getattr(resolved, "path", ())
        if path:
            self.references.add(path)
        return resolved

    def _visit(self, node: Node) -> Any:
        self._work += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._reject(node, f"the expression is nested deeper than {MAX_DEPTH}")
        resolved = getattr(self, f"_{type(node).__name__.lower()}")(node)
        self._depth -= 1
        return resolved

    def _all(self, nodes: Iterable[Node]) -> tuple[Any, ...]:
        return tuple(map(self.value, nodes))

    def _reject(self, node: Node, message: str) -> CelSyntaxError:
        return reject(self._source, node.at if isinstance(node, Call | Message) else node.start, message)

    def _wrong(self, node: Node, kind: str, message: str) -> Node:
        """Report a certain error now, or leave it for evaluation when the caller asked for no checks."""
        if self._check:
            raise self._reject(node, message)
        return Fail(start=node.start, end=node.end, error=kind, message=message)

    # Names

    def _literal(self, node: Literal) -> Node:
        return node

    def _name(self, node: Name) -> Node:
        if node.name in self._locals and not node.absolute:
            return Local(start=node.start, end=node.end, number=self._locals[node.name])
        return self._global(node, node.name)

    def _global(self, node: Node, name: str) -> Node:
        declared = self._variables is not None and name in self._variables
        if name in TYPES and not declared:
            return Literal(start=node.start, end=node.end, kind="type", value=TYPES[name])
        if self._variables is not None and not declared:
            return self._wrong(node, "no_such_variable", f"unknown variable '{name}'{_meant(name, self._variables)}")
        return Root(start=node.start, end=node.end, name=name)

    def _dotted(self, node: Select) -> Node | None:
        """Take `a.b` for one name if a type or a declared variable is called that, and no loop variable hides it."""
        name = _dotted_name(node)
        declared = self._variables is not None and name in self._variables
        hidden = name.partition(".")[0] in self._locals
        return self._global(node, name) if (declared or name in TYPES) and not hidden else None

    # Access

    def _select(self, node: Select) -> Node:
        whole = self._dotted(node)
        if whole:
            return whole
        operand = self._visit(node.operand)
        path: tuple[str, ...] = getattr(operand, "path", ())
        return structs.replace(node, operand=operand, path=(*path, node.field) if path else ())

    def _index(self, node: Index) -> Node:
        operand, key = self._visit(node.operand), self.value(node.key)
        path: tuple[str, ...] = getattr(operand, "path", ())
        if isinstance(key, Literal) and isinstance(key.value, str) and path:
            return structs.replace(node, operand=operand, key=key, path=(*path, key.value))
        if path:
            self.references.add(path)
        return structs.replace(node, operand=operand, key=key)

    def _has(self, node: Call) -> Node:
        field = node.arguments[0]
        if not isinstance(field, Select):
            raise self._reject(field, "has() takes a field selection, such as has(a.b)")
        operand = self._visit(field.operand)
        path: tuple[str, ...] = getattr(operand, "path", ())
        if path:
            self.references.add((*path, field.field))
        return Has(start=node.start, end=node.end, kind="bool", operand=operand, field=field.field)

    # Operators

    def _operation(self, node: Operation) -> Node:
        operands = self._all(node.operands)
        self._work += _ARITHMETIC_WORK if node.operator in ARITHMETIC else 0
        kinds = tuple(operand.kind for operand in operands)
        kind = result_kind(node.operator, kinds)
        if kind is None:
            given = ", ".join(kind or "any" for kind in kinds)
            self._certain(node, f"'{node.operator}' does not take ({given})")
        return structs.replace(node, operands=operands, kind=kind or "")

    def _certain(self, node: Node, message: str) -> None:
        if self._check:
            raise self._reject(node, message)

    def _condition(self, node: Node) -> Any:
        resolved = self.value(node)
        if resolved.kind not in ("", "bool"):
            self._certain(node, f"a condition is true or false, not a {resolved.kind}")
        return resolved

    def _logic(self, node: Logic) -> Node:
        return structs.replace(node, terms=tuple(map(self._condition, node.terms)))

    def _choice(self, node: Choice) -> Node:
        test, then, otherwise = self._condition(node.test), self.value(node.then), self.value(node.otherwise)
        kind = then.kind if then.kind == otherwise.kind else ""
        return structs.replace(node, test=test, then=then, otherwise=otherwise, kind=kind)

    def _listof(self, node: ListOf) -> Node:
        return structs.replace(node, items=self._all(node.items))

    def _mapof(self, node: MapOf) -> Node:
        self._work += _ENTRY_WORK * len(node.keys)
        return structs.replace(node, keys=self._all(node.keys), values=self._all(node.values))

    def _message(self, node: Message) -> Node:
        """Take a wrapper message for the value in it; there are no others."""
        name = _dotted_name(node.operand)
        if name not in WRAPPERS:
            raise self._reject(node, "messages cannot be built here; a map literal is {'key': value}")
        empty, function = WRAPPERS[name]
        if not node.fields:
            return Literal(start=node.start, end=node.end, kind=function.kind, value=empty)
        if node.fields != ("value",):
            return self._wrong(node, "no_such_field", f"{name} has one field, value")
        arguments = self._all(node.values)
        return Invoke(
            start=node.start, end=node.end, kind=function.kind, name=name, function=function, arguments=arguments
        )

    # Calls and macros

    def _call(self, node: Call) -> Node:
        arity = len(node.arguments)
        if node.target is None:
            return self._has(node) if (node.name, arity) == ("has", 1) else self._function(node)
        if (node.name, arity) == ("bind", 3) and _dotted_name(node.target) == "cel":
            return self._bind(node)
        macro = _MACROS.get((node.name, arity))
        return self._loop(node, node.target, *macro) if macro else self._function(node)

    def _bind(self, node: Call) -> Node:
        name, bound, body = node.arguments
        value, outer = self.value(bound), self._locals
        (number,) = self._enter((name,))
        result = self.value(body)
        self._locals = outer
        return Bind(start=node.start, end=node.end, kind=result.kind, variable=number, value=value, body=result)

    def _loop(self, node: Call, target: Node, macro: str, names: int) -> Node:
        source, outer, before = self.value(target), self._locals, self._work
        if source.kind not in ("", "list", "map"):
            self._certain(node, f"'{node.name}' walks a list or a map, not a {source.kind}")
        variables = self._enter(node.arguments[:names])
        *tests, element = node.arguments[names:]
        if node.name == "filter":
            tests, element = [element], node.arguments[0]
        quantifier = macro in ("exists", "all", "exists_one")
        test = self._condition(tests[0]) if tests else None
        resolved = self._condition(element) if quantifier else self.value(element)
        self._locals = outer
        return Loop(
            start=node.start,
            end=node.end,
            kind="bool" if quantifier else macro,
            macro=macro,
            source=source,
            variables=variables,
            element=resolved,
            test=test,
            weight=1 + (self._work - before) // 2,
        )

    def _enter(self, names: Sequence[Node]) -> tuple[int, ...]:
        """Bring loop variables into scope and return their numbers."""
        first = self._loops
        self._locals = dict(self._locals)
        for name in names:
            if not isinstance(name, Name) or name.absolute:
                raise self._reject(name, "a loop variable is a simple name")
            if self._locals.get(name.name, -1) >= first:
                raise self._reject(name, "the two loop variables have the same name")
            self._locals[name.name] = self._loops
            self._loops += 1
        return tuple(range(first, self._loops))

    def _function(self, node: Call) -> Node:
        name, written = node.name, node.arguments
        if node.target is not None:
            name, written = self._callee(node, node.target)
        function = self._functions.get(name)
        receiver = len(written) > len(node.arguments)
        if function is None or not (function.method if receiver else function.plain):
            return self._wrong(node, "no_such_function", self._unknown(name, receiver))
        least, most = function.arity()
        if not least <= len(written) <= most:
            return self._wrong(node, "no_such_overload", f"'{name}' {_takes(least - receiver, most - receiver)}")
        self.called.add(name)
        self._work += _CALL_WORK
        arguments = self._prepared(function, self._all(written))
        return Invoke(
            start=node.start, end=node.end, kind=function.kind, name=name, function=function, arguments=arguments
        )

    def _callee(self, node: Call, target: Node) -> tuple[str, tuple[Node, ...]]:
        """Tell a namespace from a receiver: `math.abs(x)` calls "math.abs" with x, `x.size()` calls "size" with x."""
        prefix = f"{_dotted_name(target)}."
        namespace = prefix[:-1] not in self._locals and any(name.startswith(prefix) for name in self._functions)
        return (prefix + node.name, node.arguments) if namespace else (node.name, (target, *node.arguments))

    def _unknown(self, name: str, receiver: bool) -> str:
        """Say what is wrong with a call that no function answers."""
        if name in self._functions:
            return f"'{name}' is written {f'{name}(x)' if receiver else f'x.{name}()'}"
        if any(name == macro for macro, _ in _MACROS):
            return f"'{name}' does not take these arguments; it is used as in list.{name}(x, ...)"
        return f"unknown function '{name}'{_meant(name, self._functions)}"

    def _prepared(self, function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        last = arguments[-1] if arguments else None
        if function.prepare is None or not isinstance(last, Literal):
            return arguments
        try:
            return (*arguments[:-1], structs.replace(last, value=function.prepare(last.value)))
        except (ValueError, CelError) as error:
            self._certain(last, str(error))
            return arguments


def _dotted_name(node: Node) -> str:
    """Return `a.b.c` for a chain of plain selections, else nothing."""
    if isinstance(node, Select):
        prefix = _dotted_name(node.operand)
        return f"{prefix}.{node.field}" if prefix else ""
    return node.name if isinstance(node, Name) and not node.absolute else ""


def _meant(name: str, known: Container[str]) -> str:
    """Return a suggestion for a name that is not known."""
    close = difflib.get_close_matches(name, known, 1) if isinstance(known, Iterable) else ()
    return f"; did you mean '{close[0]}'?" if close else ""


def _takes(least: int, most: int) -> str:
    count = str(least) if least == most else f"{least} to {most}"
    return f"takes {count} argument{'' if count == '1' else 's'}"
