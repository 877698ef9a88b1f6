"""Owns what the rules of one phase come to: the heaviest verdict, who gave it, and all transforms together.

In: rules that matched or failed. Out: a Decision. Never: a weaker verdict in place of a stronger one.
"""

from __future__ import annotations

from proxy import cel
from proxy.policy.evaluation import Check
from proxy.policy.rule import OnError
from proxy.terms import Decision, Facts, Mode, OnDeny, Phase, RuleHit, Verdict, Way

SAFE_TEXT = "I'm sorry, but I can't help with that here."
ERROR_TEXT = "I'm sorry, something went wrong on our side and I can't do that right now."

_WEIGHT = {verdict: verdict.weight for verdict in Verdict}


class Tally:
    """Adds up what the rules of one phase say."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._hits: list[RuleHit] = []
        self._verdict = self._shadow = Verdict.ALLOW
        self._winner: RuleHit | None = None
        self._on_deny = OnDeny.REPLY
        self._way: Way | None = None
        self._strip: dict[str, None] = {}
        self._annotations: dict[str, str] = {}

    def add(self, check: Check, message: str, error: cel.CelError | None) -> None:
        """Take in a rule that matched, with its text, or that failed."""
        rule = check.rule
        verdict = rule.action
        if error:
            verdict = Verdict.DENY if rule.on_error is OnError.DENY else Verdict.ALLOW
        hit = RuleHit(
            id=rule.id,
            action=verdict,
            mode=rule.mode,
            severity=rule.severity,
            message=message,
            error=str(error or ""),
        )
        self._hits.append(hit)
        after = rule.phase is Phase.RESPONSE and not rule.hold and verdict is Verdict.DENY
        if rule.mode is Mode.SHADOW or after:
            self._shadow = max(self._shadow, verdict, key=_WEIGHT.__getitem__)
        else:
            self._act(check, hit)

    def _act(self, check: Check, hit: RuleHit) -> None:
        gain = _WEIGHT[hit.action] - _WEIGHT[self._verdict]
        # A rule that says no has a text for it; a rule that failed has none.
        tells_more = self._winner is not None and self._winner.error and not hit.error
        if gain > 0 or (gain == 0 and tells_more):
            self._verdict, self._winner, self._on_deny = hit.action, hit, check.rule.on_deny
        if not hit.error:
            self._way = self._way or check.rule.way
            self._annotations = {**check.rule.annotations, **self._annotations}
            if hit.action is Verdict.STRIP_TOOLS and check.tools:
                names = (tool.name for tool in self._facts.request.tools)
                self._strip |= dict.fromkeys(filter(check.tools.match, names))

    def decision(self, phase: Phase, decision_id: str) -> Decision:
        """Close the account."""
        winner, message = self._winner, ""
        if winner and self._verdict is Verdict.DENY:
            message = ERROR_TEXT if winner.error else winner.message or SAFE_TEXT
        return Decision(
            id=decision_id,
            phase=phase,
            verdict=self._verdict,
            shadow_verdict=self._shadow,
            reason="" if winner is None else "policy_error" if winner.error else "rule",
            rules=tuple(self._hits),
            message=message,
            rule=winner.id if winner else "",
            on_deny=self._on_deny,
            way=self._way,
            strip=tuple(self._strip),
            annotations=self._annotations,
            subject=self._facts.tool.id if phase is Phase.TOOL_CALL and self._facts.tool else "",
        )
