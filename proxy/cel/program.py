"""Owns a compiled expression: made once at load, evaluated any number of times, from any thread.

In: an activation (any Mapping of names to values) and a Budget. Out: a value, or CelError and nothing else.
"""

from collections.abc import Container, Iterator, Mapping

import msgspec

from . import emit
from .errors import Budget, CelError, CelSyntaxError, as_cel_error
from .functions import Function
from .library import FUNCTIONS
from .nodes import Bind, Literal, Local, Loop, Node, children
from .parse import parse
from .resolve import Resolver


class Program(msgspec.Struct, frozen=True, eq=False):
    """Evaluate one expression; see compile().

    `references` holds each root the expression reads with the dotted path read from it as far as that is static;
    `calls` the names of the functions it calls.
    """

    source: str
    references: frozenset[tuple[str, ...]]
    calls: frozenset[str]
    _tree: Node
    _fast: emit.Evaluator
    _exact: emit.Evaluator

    def evaluate(self, activation: Mapping[str, object], budget: Budget) -> object:
        """Return the value: of the fast code if it ends without an exception, else of the exact code."""
        try:
            return self._fast(activation, budget)
        except Exception as error:  # whatever a value's own code raises, an expression may absorb
            if isinstance(error, CelError) and error.kind == "budget":
                raise
        try:
            return self._exact(activation, budget)
        except CelError:
            raise
        except Exception as error:  # one face for every failure
            raise as_cel_error(error) from error

    def explain(self, activation: Mapping[str, object], budget: Budget) -> list[tuple[str, object | CelError]]:
        """Return each sub-expression that stands on its own (no loop variable) with its value, outermost first."""
        return [
            (self.source[node.start : node.end], _outcome(node, activation, budget)) for node in _standing(self._tree)
        ]


def compile(  # noqa: A001  # the door is used as cel.compile(...)
    source: str,
    *,
    variables: Container[str] | None = None,
    functions: Mapping[str, Function] = FUNCTIONS,
    check: bool = True,
) -> Program:
    """Compile an expression or raise CelSyntaxError with its place.

    With `variables`, any other root is an error. `functions` come on top of the standard and extension ones. `check`
    reports what no activation could make right (wrong arity, 1 + "a", an unknown function); without it that is a
    CelError in evaluation, as in CEL without its type checker.
    """
    known = {**FUNCTIONS, **functions}
    try:
        resolver = Resolver(source, variables, known, check)
        tree = resolver.value(parse(source))
        return Program(
            source,
            frozenset(resolver.references),
            frozenset(resolver.called),
            tree,
            emit.fast(tree),
            emit.exact(tree),
        )
    except (RecursionError, MemoryError):
        raise CelSyntaxError("the expression is nested too deeply", 1, 1) from None


def _outcome(node: Node, activation: Mapping[str, object], budget: Budget) -> object | CelError:
    try:
        return emit.exact(node)(activation, budget)
    except Exception as error:  # noqa: BLE001  # shown to a person, as evaluate() would raise it
        return as_cel_error(error)


def _standing(node: Node) -> Iterator[Node]:
    """Yield the nodes that no loop variable reaches, outermost first, constants left out."""
    if not isinstance(node, Literal) and not _unbound(node):
        yield node
    for child in children(node):
        yield from _standing(child)


def _unbound(node: Node) -> set[int]:
    """Return the loop variables read inside a node that it does not bring itself."""
    inner: set[int] = {node.number} if isinstance(node, Local) else set()
    inner = inner.union(*map(_unbound, children(node)))
    if isinstance(node, Loop):
        return inner.difference(node.variables)
    return inner - {node.variable} if isinstance(node, Bind) else inner
