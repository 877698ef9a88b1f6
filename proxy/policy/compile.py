"""Owns the step from documents to a PolicySet: references checked, every expression compiled, all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from proxy.documents import Source
from proxy.policy.decide import PolicySet


class PolicyProblems(Exception):
    """Everything that is wrong with the policies, each as `file:line:column: what, and what to do`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Functions(msgspec.Struct, frozen=True, kw_only=True):
    """What policies can compute but this room cannot."""

    tokens: Callable[[str], int]
    """Tokens of a text."""
    window_key: Callable[[str, str, int], str]
    """(window, time zone, at_ms) -> the name of the window that this moment is in, e.g. `day:20454`."""


def load(
    sources: Sequence[Source],
    *,
    functions: Functions,
    guards: Mapping[str, Collection[str]],
    routes: Collection[str] | None = None,
) -> PolicySet:
    """Compile policies; raise PolicyProblems with every problem at once.

    `guards` maps each configured guard to the labels it can give (empty: not known); `routes` are the aliases and
    pools that rules may route to (None: not checked).
    """
    raise NotImplementedError
