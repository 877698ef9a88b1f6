"""Owns the step from source text to the tree as written.

The grammar and its LALR tables are cel-python's and lark's; tokens come from lexer.py, and nodes are made while the
parser reduces, so neither text nor nesting can make this step recurse.
In: source text. Out: nodes.Node. Never: an evaluation, a name looked up.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, cast

from lark import Lark, Token, Transformer
from lark.common import LexerConf
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer, PatternStr
from msgspec import structs

from .lexer import reject, tokenize
from .literals import READERS
from .nodes import Call, Choice, Index, ListOf, Literal, Logic, MapOf, Message, Name, Node, Operation, Select

OURS = {"and": "&&", "or": "||", "is": "=="}
"""What people write who come from other languages, and what CEL says instead."""


def parse(source: str) -> Node:
    """Return the tree of an expression, or raise CelSyntaxError where it stops making sense."""
    try:
        return cast(Node, _parser().parse(source))
    except UnexpectedToken as error:
        token = error.token
        if token.type == "$END":
            raise reject(source, len(source), "the expression ends too early") from None
        ours = OURS.get(str(token).lower())
        meant = f"; CEL writes {ours}" if ours else ""
        raise reject(source, token.start_pos or 0, f"unexpected '{token}'{meant}") from None
    except _Rejected as error:
        raise reject(source, error.offset, error.message) from None


@cache
def _parser() -> Lark:
    """Build lark's tables from cel-python's grammar, read as data: importing cel-python loads its evaluators."""
    package: Any = importlib.util.find_spec("celpy")
    grammar = package.loader.get_data(f"{package.submodule_search_locations[0]}/cel.lark")
    return Lark(
        grammar.decode(),
        parser="lalr",
        start="expr",
        lexer=_Lexer,
        transformer=_Build(),
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


class _Rejected(Exception):
    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


class _Lexer(Lexer):
    """Hand our tokens to lark under the names its grammar gave to punctuation."""

    def __init__(self, conf: LexerConf) -> None:
        self._names = {t.pattern.value: t.name for t in conf.terminals if isinstance(t.pattern, PatternStr)}

    def lex(self, text: str) -> Iterator[Token]:  # type: ignore[override]  # lark's interface for custom lexers
        for token in tokenize(text):
            token.type = self._names.get(token.type, token.type)
            yield token


def _start(child: Node | Token) -> int:
    return child.start if isinstance(child, Node) else child.start_pos or 0


def _end(child: Node | Token) -> int:
    return child.end if isinstance(child, Node) else child.end_pos or 0


class _Build(Transformer[Token, Any]):
    """Make nodes bottom-up: one method per grammar rule, given the rule's children with all their tokens."""

    def expr(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return cast(Node, children[0])
        test, _, then, _, otherwise = children
        return Choice(start=test.start, end=otherwise.end, test=test, then=then, otherwise=otherwise)

    def conditionalor(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return cast(Node, children[0])
        left, operator, right = children
        terms = left.terms if isinstance(left, Logic) and left.operator == operator else (left,)
        return Logic(start=left.start, end=right.end, operator=str(operator), terms=(*terms, right), kind="bool")

    conditionaland = conditionalor

    def relation(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return cast(Node, children[0])
        (left, operator), right = children
        return Operation(start=left.start, end=right.end, operator=str(operator), operands=(left, right))

    addition = multiplication = relation

    relation_lt = relation_le = relation_gt = relation_ge = relation_eq = relation_ne = relation_in = tuple
    addition_add = addition_sub = multiplication_mul = multiplication_div = multiplication_mod = tuple

    def unary(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return cast(Node, children[0])
        sign, operand = children
        return Operation(start=_start(sign), end=operand.end, operator=str(sign), operands=(operand,))

    unary_not = unary_neg = member = primary = staticmethod(lambda children: children[0])

    def member_dot(self, children: list[Any]) -> Node:
        operand, _, field = children
        return Select(start=operand.start, end=_end(field), operand=operand, field=_name(field))

    def member_dot_arg(self, children: list[Any]) -> Node:
        target, _, name, *rest = children
        if name.startswith("`"):
            raise _Rejected(_start(name), "a name in backticks selects a field, it cannot be called")
        return _call(target.start, target, name, rest)

    def member_index(self, children: list[Any]) -> Node:
        operand, _, key, close = children
        return Index(start=operand.start, end=_end(close), operand=operand, key=key)

    def member_object(self, children: list[Any]) -> Node:
        operand, brace, *inits, close = children
        names, values = inits[0] if inits else ((), ())
        fields = tuple(map(str, names))
        return Message(
            start=operand.start, end=_end(close), at=_start(brace), operand=operand, fields=fields, values=values
        )

    def dot_ident_arg(self, children: list[Any]) -> Node:
        dot, name, *rest = children
        return _call(_start(dot), None, name, rest)

    def dot_ident(self, children: list[Any]) -> Node:
        dot, name = children
        return Name(start=_start(dot), end=_end(name), name=str(name), absolute=True)

    def ident_arg(self, children: list[Any]) -> Node:
        name, *rest = children
        return _call(_start(name), None, name, rest)

    def ident(self, children: list[Any]) -> Node:
        return Name(start=_start(children[0]), end=_end(children[0]), name=str(children[0]))

    def paren_expr(self, children: list[Any]) -> Node:
        opened, node, closed = children
        return cast(Node, structs.replace(node, start=_start(opened), end=_end(closed)))

    def list_lit(self, children: list[Any]) -> Node:
        items = children[1] if len(children) == 3 else ()
        return ListOf(start=_start(children[0]), end=_end(children[-1]), items=items, kind="list")

    def map_lit(self, children: list[Any]) -> Node:
        keys, values = children[1] if len(children) == 3 else ((), ())
        return MapOf(start=_start(children[0]), end=_end(children[-1]), keys=keys, values=values, kind="map")

    def exprlist(self, children: list[Any]) -> tuple[Node, ...]:
        return tuple(children[::2])

    def mapinits(self, children: list[Any]) -> tuple[tuple[Any, ...], tuple[Node, ...]]:
        return tuple(children[::4]), tuple(children[2::4])

    fieldinits = mapinits

    def literal(self, children: list[Token]) -> Node:
        token = children[0]
        read, kind = READERS[token.type]
        try:
            return Literal(start=_start(token), end=_end(token), kind=kind, value=read(str(token)))
        except ValueError as error:
            raise _Rejected(_start(token), str(error)) from None


def _name(token: Token) -> str:
    return token.strip("`")


def _call(start: int, target: Node | None, name: Token, rest: Sequence[Any]) -> Call:
    """Make a call of what follows a name: the bracket, perhaps the arguments, the other bracket."""
    arguments = rest[1] if len(rest) == 3 else ()
    return Call(start=start, end=_end(rest[-1]), at=_start(name), name=_name(name), target=target, arguments=arguments)
