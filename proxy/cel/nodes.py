"""Owns the two trees of an expression: as written (parse.py makes it), and resolved (resolve.py makes it)."""

from collections.abc import Iterator

import msgspec

from .functions import Function


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """Span source[start:end]; `kind` is the value's CEL kind where it is certain before evaluation, else empty."""

    start: int
    end: int
    kind: str = ""


class Literal(Node, frozen=True, kw_only=True):
    """Hold a constant."""

    value: object


class Select(Node, frozen=True, kw_only=True):
    """Read a field; `path` is the static path from a root that ends here, else empty."""

    operand: Node
    field: str
    path: tuple[str, ...] = ()


class Index(Node, frozen=True, kw_only=True):
    """Read an element; a constant string key continues the path."""

    operand: Node
    key: Node
    path: tuple[str, ...] = ()


class Operation(Node, frozen=True, kw_only=True):
    """Apply an operator that always needs all its operands."""

    operator: str
    operands: tuple[Node, ...]


class Logic(Node, frozen=True, kw_only=True):
    """Join terms by `&&` or `||`; a chain is one node, so it costs no depth."""

    operator: str
    terms: tuple[Node, ...]


class Choice(Node, frozen=True, kw_only=True):
    """Evaluate one of two by a test."""

    test: Node
    then: Node
    otherwise: Node


class ListOf(Node, frozen=True, kw_only=True):
    """Build a list."""

    items: tuple[Node, ...]


class MapOf(Node, frozen=True, kw_only=True):
    """Build a map."""

    keys: tuple[Node, ...]
    values: tuple[Node, ...]


# As written only.


class Name(Node, frozen=True, kw_only=True):
    """Mention an identifier; `absolute` when written `.name`, which no loop variable hides."""

    name: str
    absolute: bool = False


class Call(Node, frozen=True, kw_only=True):
    """Call by name, `target.name(arguments)` or `name(arguments)`, the name at `at`; macros look like this too."""

    at: int
    name: str
    target: Node | None
    arguments: tuple[Node, ...]


class Message(Node, frozen=True, kw_only=True):
    """Build a message of the type named by `operand`, its fields behind the brace at `at`."""

    at: int
    operand: Node
    fields: tuple[str, ...]
    values: tuple[Node, ...]


# Resolved only.


class Root(Node, frozen=True, kw_only=True):
    """Read a variable of the activation."""

    name: str

    @property
    def path(self) -> tuple[str, ...]:
        """Return the path of which this is the first step."""
        return (self.name,)


class Local(Node, frozen=True, kw_only=True):
    """Read the loop variable with this number (unique in the expression)."""

    number: int


class Has(Node, frozen=True, kw_only=True):
    """Test for a field."""

    operand: Node
    field: str


class Invoke(Node, frozen=True, kw_only=True):
    """Call a known function; a receiver is its first argument."""

    name: str
    function: Function
    arguments: tuple[Node, ...]


class Loop(Node, frozen=True, kw_only=True):
    """Walk a collection; `macro` (exists, all, exists_one, list, map) joins the elements of rows that pass the test.

    One variable walks list elements or map keys; two walk (index, element) or (key, value). Each row costs `weight`.
    """

    macro: str
    source: Node
    variables: tuple[int, ...]
    element: Node
    test: Node | None
    weight: int


class Bind(Node, frozen=True, kw_only=True):
    """Name a value inside a body (`cel.bind`)."""

    variable: int
    value: Node
    body: Node


class Fail(Node, frozen=True, kw_only=True):
    """Raise at evaluation what an unchecked compilation let pass."""

    error: str
    message: str


def children(node: Node) -> Iterator[Node]:
    """Yield the nodes directly inside one, in the order they are written."""
    for field in node.__struct_fields__:
        value = getattr(node, field)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Node):
                yield item
