"""Owns the names that expressions of one policy may use, and what is said of one that they may not.

In: the variables, the policy's own params and vars. Out: names; a problem in words. Never: an expression.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping

from proxy.documents import meant
from proxy.policy.evaluation import Reference
from proxy.policy.facts import CREDENTIALS, FINDING, ROOTS
from proxy.terms import Phase

OPEN_ROOTS = frozenset(("now", "params", "candidates"))
"""Roots that may be read whole."""


class Names(Container[str]):
    """The names that expressions of one policy may use; `defined` grows while it is read."""

    def __init__(self, names: Collection[str], defined: Mapping[str, object]) -> None:
        self._fixed = dict.fromkeys((*ROOTS, *names, "finding", *FINDING))
        self._defined = defined

    def __contains__(self, name: object) -> bool:
        return name in self._fixed or (str(name).startswith("vars.") and str(name)[5:] in self._defined)

    def __iter__(self) -> Iterator[str]:
        yield from self._fixed
        yield from (f"vars.{name}" for name in self._defined)

    def below(self, prefix: str) -> Iterator[str]:
        """Yield the names one step below another."""
        depth = prefix.count(".") + 1
        return (name for name in self if name.startswith(f"{prefix}.") and name.count(".") == depth)

    def wrong(self, reference: Reference, phase: Phase | None) -> str:
        """Say what is wrong with a reference; empty if nothing is."""
        root = reference[0]
        phases = ROOTS.get(root, tuple(Phase))
        if phase is not None and phase not in phases:
            return f"`{root}` is not available in phase {phase}, only in {', '.join(phases)}"
        if root in OPEN_ROOTS and (len(reference) == 1 or root == "now"):
            return ""
        fields = list(self.below(root))
        if len(reference) == 1:
            example = f", such as `{fields[0]}`" if fields else ""
            return f"`{root}` cannot be read as a whole: name a field{example}"
        if reference[:2] == ("request", "headers"):
            return _wrong_header(reference)
        name = ".".join(reference[:2])
        if name not in fields:
            return f"there is no `{name}`{meant(name, fields)}"
        fields, name = list(self.below(name)), ".".join(reference[:3])
        return (
            f"there is no `{name}`{meant(name, fields)}" if fields and len(reference) > 2 and name not in fields else ""
        )


def _wrong_header(reference: Reference) -> str:
    if len(reference) == 2:
        return '`request.headers` cannot be read as a whole: name the header, such as request.headers["x-tier"]'
    name = reference[2]
    if name in CREDENTIALS:
        return f"the header `{name}` is a credential: no rule may read it"
    return "" if name == name.lower() else f"header names are lower-case here: write `{name.lower()}`"
