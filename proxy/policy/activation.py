"""Owns the activation of an expression: variables by their dotted names, each made the first time one is read.

In: Facts, and how each variable is made. Out: a mapping for CEL. Never: a variable that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from proxy import cel
from proxy.policy.arguments import PARSE_UNITS
from proxy.terms import Facts


class Activation(dict[str, object]):
    """All variables of one evaluation by their dotted names (`request.model`), each made on first reading."""

    __slots__ = ("facts", "makers", "parsing")

    def __init__(self, facts: Facts, makers: Mapping[str, Maker]) -> None:
        self.facts = facts
        self.makers = makers
        self.parsing = cel.Budget(PARSE_UNITS)

    def __missing__(self, name: str) -> object:
        maker = self.makers.get(name)
        self[name] = value = maker(self) if maker else _Presence(self, name)
        return value


class _Presence(dict[str, object]):
    """Answer `has(root.field)`: expressions that would see more of a root than this are refused at load."""

    __slots__ = ("_activation", "_root")

    def __init__(self, activation: Activation, root: str) -> None:
        self._activation = activation
        self._root = root

    def __contains__(self, field: object) -> bool:
        try:
            self._activation[f"{self._root}.{field}"]
        except cel.CelError as error:
            if error.kind == "no_such_field":
                return False
            raise
        return True


Maker: TypeAlias = Callable[[Activation], object]
