"""Owns the proof of the tree as written: what binds to what, and where each node stands in the source."""

import subprocess
import sys

import pytest

from proxy import cel
from proxy.cel.nodes import Call, Choice, Index, ListOf, Literal, Logic, MapOf, Message, Name, Node, Operation, Select
from proxy.cel.parse import parse


def shown(node: Node) -> str:
    """Write a tree with every grouping explicit."""
    match node:
        case Literal():
            return repr(node.value)
        case Name():
            return ("." if node.absolute else "") + node.name
        case Select():
            return f"{shown(node.operand)}.{node.field}"
        case Index():
            return f"{shown(node.operand)}[{shown(node.key)}]"
        case Operation(operands=(operand,)):
            return f"({node.operator}{shown(operand)})"
        case Operation(operands=(left, right)):
            return f"({shown(left)} {node.operator} {shown(right)})"
        case Logic():
            return f"({f' {node.operator} '.join(map(shown, node.terms))})"
        case Choice():
            return f"({shown(node.test)} ? {shown(node.then)} : {shown(node.otherwise)})"
        case ListOf():
            return f"[{', '.join(map(shown, node.items))}]"
        case MapOf():
            pairs = zip(node.keys, node.values, strict=True)
            return f"{{{', '.join(f'{shown(key)}: {shown(value)}' for key, value in pairs)}}}"
        case Message():
            fields = (f"{field}: {shown(value)}" for field, value in zip(node.fields, node.values, strict=True))
            return f"{shown(node.operand)}{{{', '.join(fields)}}}"
        case Call():
            target = f"{shown(node.target)}." if node.target else ""
            return f"{target}{node.name}({', '.join(map(shown, node.arguments))})"
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("source", "tree"),
    [
        pytest.param("1 + 2 * 3 - 4 % 5 / 6", "((1 + (2 * 3)) - ((4 % 5) / 6))", id="arithmetic"),
        pytest.param("a < b == c", "((a < b) == c)", id="comparisons group from the left"),
        pytest.param("a || b && c || d", "(a || (b && c) || d)", id="and binds tighter than or"),
        pytest.param("a && b && (c && d)", "(a && b && (c && d))", id="a chain is one node"),
        pytest.param("a ? b : c ? d : e", "(a ? b : (c ? d : e))", id="a choice groups to the right"),
        pytest.param("!-a.b[0].c()", "(!(-a.b[0].c()))", id="signs bind looser than members"),
        pytest.param("- 1", "-1", id="a sign and its number are one literal"),
        pytest.param("-(1)", "(-1)", id="a bracket keeps them apart"),
        pytest.param("1 - 2", "(1 - 2)", id="a subtraction"),
        pytest.param("a in [1, 2,]", "(a in [1, 2])", id="membership of a list"),
        pytest.param("{'a': 1, b: [],}", "{'a': 1, b: []}", id="a map"),
        pytest.param("{}", "{}", id="an empty map"),
        pytest.param("a.T{b: 1, c: [2]}", "a.T{b: 1, c: [2]}", id="a message"),
        pytest.param("T{}", "T{}", id="an empty message"),
        pytest.param(".a.f(b, c) + .g()", "(.a.f(b, c) + g())", id="absolute names"),
        pytest.param("f() + g(1)", "(f() + g(1))", id="calls"),
        pytest.param("a.`b-c`.d", "a.b-c.d", id="a field in backticks"),
    ],
)
def test_an_expression_becomes_the_tree_it_means(source: str, tree: str) -> None:
    """Precedence and grouping are the language's."""
    assert tree == shown(parse(source))


def test_every_node_knows_its_text() -> None:
    """A node's span is the text a person would point at, brackets included."""
    source = "(a || b) && c.d[0].e(1) ? [2] : {3: -f}"

    root = parse(source)

    assert isinstance(root, Choice)
    assert isinstance(root.test, Logic)
    nodes = (root, *root.test.terms, root.then, root.otherwise)
    assert [source, "(a || b)", "c.d[0].e(1)", "[2]", "{3: -f}"] == [source[node.start : node.end] for node in nodes]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("", "1:1: the expression ends too early", id="nothing"),
        pytest.param("a +", "1:4: the expression ends too early", id="half an operation"),
        pytest.param("a b", "1:3: unexpected 'b'", id="two expressions"),
        pytest.param("a AND b", "1:3: unexpected 'AND'; CEL writes &&", id="a word for an operator"),
        pytest.param("a.\n+", "2:1: unexpected '+'", id="no field"),
        pytest.param("f(a,)", "1:5: unexpected ')'", id="no argument"),
        pytest.param("a + 99999999999999999999", "1:5: 99999999999999999999 does not fit an int", id="a literal"),
        pytest.param("a.`b`()", "1:3: a name in backticks selects a field, it cannot be called", id="a backtick call"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(source: str, message: str) -> None:
    """The message says what stands in the way and where."""
    with pytest.raises(cel.CelSyntaxError) as caught:
        parse(source)

    assert message == str(caught.value)


def test_parsing_loads_no_other_evaluator() -> None:
    """Of cel-python only the grammar is read: importing it costs a tenth of a second and its dependencies."""
    program = "import sys; from proxy import cel; cel.compile('1 + 1'); print('celpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
