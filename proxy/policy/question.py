"""Owns one phase of one call, put to its rules: first what has to be searched for them, then the decision.

In: each applicable rule with what its condition says, then what was found. Out: a Decision. Never: a search: whoever
asks has the time for it, and the means to let others have their turn meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec.structs import replace

from proxy.policy.charges import WindowKey, charge
from proxy.policy.evaluation import Check, Outcome, Run, Scope
from proxy.policy.search import Found, Sought
from proxy.policy.tally import Tally
from proxy.terms import Charge, Decision, Phase

Answer: TypeAlias = tuple[Check, Scope, Outcome]
"""What one rule says."""


class Question:
    """What is asked, and what the conditions of all rules say: `asked` rule by rule, or all when that is needed."""

    def __init__(
        self, phase: Phase, decision_id: str, run: Run, conditions: Iterable[Answer], window_key: WindowKey
    ) -> None:
        self.run = run
        self._phase, self._id, self._window_key = phase, decision_id, window_key
        self._asking = iter(conditions)
        self._conditions: list[Answer] = []
        self._weighed = False
        self.answers: tuple[Answer, ...] = ()
        """What each rule says, once it is weighed."""

    def asked(self) -> Iterator[None]:
        """Ask the conditions, one rule at a time."""
        for answer in self._asking:
            self._conditions.append(answer)
            yield

    @property
    def sought(self) -> tuple[Sought, ...]:
        """Return what has to be searched, each text once for all rules that look for the same."""
        self._conditions += self._asking
        return tuple(
            dict.fromkeys(
                sought
                for check, _, outcome in self._conditions
                if check.search and outcome.matched
                for sought in self.run.sought(check.rule, check.search)
            )
        )

    def weigh(self, found: Found) -> Iterator[None]:
        """Look at what was found, a text at a time."""
        self._conditions += self._asking
        answers = list[Answer]()
        for check, scope, condition in self._conditions:
            outcome = condition
            if check.search and condition.matched:
                outcome = yield from self.run.searched(check.rule, check.search, scope, found)
            answers.append((check, scope, outcome))
        self.answers, self._weighed = tuple(answers), True

    def decision(self) -> Decision:
        """Return the most restrictive verdict; an error follows its rule's onError."""
        if not self._weighed:
            raise ValueError("what was found is not weighed yet")
        run, charges = self.run, list[Charge]()
        tally = Tally(run.facts)
        for check, scope, judged in self.answers:
            outcome = run.metered(check, scope, judged)
            if outcome.matched or outcome.error:
                tally.add(check, "" if outcome.error else run.message(check, scope), outcome)
            elif check.meter and outcome.taken and outcome.taken[0]:
                rule = replace(check.rule, message=run.message(check, scope))
                charges.append(charge(rule, check.meter.quota, outcome.taken, run.facts, self._window_key))
        decision = tally.decision(self._phase, self._id)
        return replace(decision, charges=tuple(charges)) if charges else decision
