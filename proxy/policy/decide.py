"""Owns the decision: all rules of a phase in, the most restrictive verdict out."""

from __future__ import annotations

import msgspec

from proxy.policy.lower import Document, Rule
from proxy.terms import Decision, Facts, Limit, Phase


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule said of some facts, with each sub-expression's value."""

    rule: Rule
    outcome: str
    """`matched`, `unmatched` or `error`."""
    error: str = ""
    values: tuple[tuple[str, str], ...] = ()
    """(sub-expression, value) pairs, innermost first."""


class PolicySet:
    """All loaded policies, compiled; never changes."""

    digest: str
    documents: tuple[Document, ...]
    rules: tuple[Rule, ...]
    holds_response: bool
    """Some response rule may deny, so replies wait until they are judged."""
    visible_headers: frozenset[str]
    """Lower-cased names of the request headers that rules read; Facts.headers needs no others."""

    def narrow(self, agent: str, model: str, tenant: str) -> PolicySet:
        """Return the set of the policies whose selector takes this caller; all else stays usable as it is."""
        raise NotImplementedError

    def has(self, phase: Phase) -> bool:
        """Say whether any rule is asked at this phase."""
        raise NotImplementedError

    def guards_needed(self, phase: Phase) -> tuple[str, ...]:
        """Return the names of the guards whose results the phase's rules read."""
        raise NotImplementedError

    def reads(self, phase: Phase, path: tuple[str, ...]) -> bool:
        """Say whether a rule of the phase reads this fact or a part of it, e.g. `("spend", "agent")`."""
        raise NotImplementedError

    def decide(self, phase: Phase, facts: Facts, decision_id: str) -> Decision:
        """Evaluate every applicable rule; the most restrictive verdict wins, an error follows its onError."""
        raise NotImplementedError

    def limits(self, facts: Facts) -> tuple[Limit, ...]:
        """Return the hard spend limits of this call; scope `request` bounds the one call and keeps no counter."""
        raise NotImplementedError

    def explain(self, phase: Phase, facts: Facts) -> tuple[Explained, ...]:
        """Return what every applicable rule says and why."""
        raise NotImplementedError
