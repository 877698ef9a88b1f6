"""Owns the proof of the tree's own behaviour."""

from proxy.cel.nodes import Literal, Logic, MapOf, Name, Root, children


def test_children_come_in_the_order_they_are_written() -> None:
    """A walk over the tree meets single nodes and tuples of nodes, and nothing that is no node."""
    a, b, c = (Name(start=0, end=1, name=name) for name in "abc")
    entries = MapOf(start=0, end=9, keys=(a,), values=(b,))
    node = Logic(start=0, end=9, operator="&&", terms=(entries, c))

    assert ([entries, c], [a, b], []) == (list(children(node)), list(children(entries)), list(children(a)))


def test_a_literal_has_no_children() -> None:
    """A constant that happens to be a tuple is not taken apart."""
    assert [] == list(children(Literal(start=0, end=1, value=(1, 2))))


def test_a_root_is_the_first_step_of_its_path() -> None:
    """The path of a variable is its own name."""
    assert ("request",) == Root(start=0, end=7, name="request").path
