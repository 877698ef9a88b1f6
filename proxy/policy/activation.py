"""Owns the activation of an expression: variables by their dotted names, each made the first time one is read.

In: Facts, and how each variable is made. Out: a mapping for CEL. Never: a variable that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

from proxy import cel
from proxy.policy.arguments import PARSE_UNITS
from proxy.terms import Facts

SHARED = frozenset(
    (
        "request.messages",
        "request.system",
        "request.user_text",
        "request.tools",
        "request.tool_names",
        "request.tokens_est",
        "conversation.tool_counts",
        "conversation.tool_results",
    )
)
"""Variables that follow from the request and its results alone, and take long to make."""


class Shared:
    """What the decisions of one call share: made once, and paid for by the first that reads it."""

    __slots__ = ("_about", "parsing", "values")

    def __init__(self) -> None:
        self._about: tuple[object, object] | None = None
        self.values: dict[Hashable, object] = {}
        self.parsing = cel.Budget(0)
        """What one decision may still spend on reading JSON, whichever reads a text first."""

    def begin(self, facts: Facts) -> None:
        """Begin a decision; of another request, or other results, nothing is shared."""
        about = self._about
        if about is None or about[0] is not facts.request or about[1] is not facts.results:
            self._about = facts.request, facts.results
            self.values = {}
        self.parsing.left = PARSE_UNITS


class Activation(dict[str, object]):
    """All variables of one evaluation by their dotted names (`request.model`), each made on first reading."""

    __slots__ = ("facts", "makers", "parsing", "shared")

    def __init__(self, facts: Facts, makers: Mapping[str, Maker], shared: Shared | None = None) -> None:
        self.facts = facts
        self.makers = makers
        self.shared = shared or Shared()
        self.shared.begin(facts)
        self.parsing = self.shared.parsing

    def __missing__(self, name: str) -> object:
        known = self.shared.values if name in SHARED else self
        if known is self or name not in known:
            maker = self.makers.get(name)
            known[name] = maker(self) if maker else _Presence(self, name)
        self[name] = value = known[name]
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
