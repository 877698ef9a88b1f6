"""Owns what the rules of one phase come to: the heaviest verdict, who gave it, and all transforms together.

In: rules that matched or failed. Out: a Decision. Never: a weaker verdict in place of a stronger one.
"""

from __future__ import annotations

from proxy.policy.evaluation import Check, Outcome
from proxy.policy.possible import VERDICTS, WITHHOLDING
from proxy.policy.rule import OnError
from proxy.policy.search import apart
from proxy.terms import (
    Decision,
    Escalation,
    Facts,
    Json,
    Level,
    Mode,
    Obligation,
    OnDeny,
    Phase,
    RuleHit,
    Span,
    Verdict,
    Way,
)

SAFE_TEXT = "I'm sorry, but I can't help with that here."
ERROR_TEXT = "I'm sorry, something went wrong on our side and I can't do that right now."

ESCALATE_TEXT = "I'm handing this over to a colleague, who will get back to you here."
APPROVAL_TEXT = "A colleague has to approve this first."

SAFE = {
    Verdict.DENY: SAFE_TEXT,
    Verdict.REPLACE: SAFE_TEXT,
    Verdict.ESCALATE: ESCALATE_TEXT,
    Verdict.REQUIRE_APPROVAL: APPROVAL_TEXT,
}
"""What is said where a rule has no text of its own."""
_AT_ERROR = {OnError.DENY: Verdict.DENY, OnError.ESCALATE: Verdict.ESCALATE, OnError.ALLOW: Verdict.ALLOW}
_RANK = {level: level.rank for level in Level}
_WEIGHT = {verdict: verdict.weight for verdict in Verdict}


class Tally:
    """Adds up what the rules of one phase say."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._hits: list[RuleHit] = []
        self._verdict = self._shadow = Verdict.ALLOW
        self._winner: RuleHit | None = None
        self._won: Check | None = None
        self._withheld: Escalation | None = None
        self._called: RuleHit | None = None
        self._way: Way | None = None
        self._strip: dict[str, None] = {}
        self._annotations: dict[str, str] = {}
        self._labels: dict[str, None] = {}
        self._spans: list[Span] = []
        self._rewrites: dict[str, Json] = {}
        self._obligations: dict[Obligation, None] = {}
        self._level: Level | None = None

    def add(self, check: Check, message: str, outcome: Outcome) -> None:
        """Take in a rule that matched, with its text, or that failed."""
        rule, error = check.rule, outcome.error
        verdict = _at_error(check) if error else rule.action
        hit = RuleHit(
            id=rule.id,
            action=verdict,
            mode=rule.mode,
            severity=rule.severity,
            message=message,
            error=error.message if error else "",
        )
        self._hits.append(hit)
        after = rule.phase is Phase.RESPONSE and not rule.hold and verdict in WITHHOLDING
        if rule.mode is Mode.SHADOW or after:
            self._shadow = max(self._shadow, verdict, key=_WEIGHT.__getitem__)
        else:
            self._act(check, hit, outcome)

    def _act(self, check: Check, hit: RuleHit, outcome: Outcome) -> None:
        gain = _WEIGHT[hit.action] - _WEIGHT[self._verdict]
        # A rule that says no has a text for it; a rule that failed has none.
        tells_more = self._winner is not None and self._winner.error and not hit.error
        if gain > 0 or (gain == 0 and tells_more):
            self._verdict, self._winner, self._won = hit.action, hit, check
        if hit.error and check.rule.on_error is OnError.ESCALATE and hit.action is Verdict.DENY:
            self._withheld = Escalation()
        if not hit.error:
            self._rewrites |= outcome.rewrites
            self._obligations |= dict.fromkeys(check.rule.obligations)
            self._level = min(filter(None, (self._level, check.rule.level)), key=_RANK.__getitem__, default=None)
            if hit.action is Verdict.ESCALATE and self._called is None:
                self._called, self._withheld = hit, check.rule.escalation
            self._labels |= dict.fromkeys(check.rule.labels)
            if hit.action is Verdict.REDACT:
                self._spans += outcome.spans
            self._way = self._way or check.rule.way
            self._annotations = {**check.rule.annotations, **self._annotations}
            if hit.action is Verdict.STRIP_TOOLS and check.tools:
                names = (tool.name for tool in self._facts.request.tools)
                self._strip |= dict.fromkeys(filter(check.tools.match, names))

    def decision(self, phase: Phase, decision_id: str) -> Decision:
        """Close the account."""
        winner, rule = self._winner, self._won.rule if self._won else None
        waits = rule is not None and self._verdict is Verdict.REQUIRE_APPROVAL
        return Decision(
            id=decision_id,
            phase=phase,
            verdict=self._verdict,
            shadow_verdict=self._shadow,
            reason="" if winner is None else "policy_error" if winner.error else "rule",
            rules=tuple(self._hits),
            message=self._message(),
            rule=winner.id if winner else "",
            on_deny=rule.on_deny if rule and self._verdict is not Verdict.ESCALATE else OnDeny.REPLY,
            way=self._way,
            strip=tuple(self._strip),
            annotations=self._annotations,
            labels=tuple(self._labels),
            spans=apart(self._spans),
            rewrites=self._rewrites,
            obligations=tuple(self._obligations),
            level=self._level,
            approval=rule.approval if rule and waits else None,
            escalation=self._escalation(),
            subject=_subject(phase, self._facts),
        )

    def _escalation(self) -> Escalation | None:
        if self._verdict is Verdict.ESCALATE and self._won:
            return self._won.rule.escalation or Escalation()
        return self._withheld

    def _message(self) -> str:
        """Return the text for the customer; a rule that failed has none of its own."""
        # Where a human takes over, that is what the customer has to know, not why this call was turned down.
        speaker = self._called if self._verdict is Verdict.DENY and self._called else self._winner
        if speaker is None or self._verdict not in SAFE:
            return ""
        if speaker.error:
            return ESCALATE_TEXT if self._escalation() else ERROR_TEXT
        return speaker.message or SAFE[speaker.action]


def _at_error(check: Check) -> Verdict:
    """Return what a failed rule wants: a denial where its phase knows no escalation; somebody is told of it where
    nothing can be denied any more."""
    verdict = _AT_ERROR[check.rule.on_error]
    if check.rule.phase is Phase.POST:
        return Verdict.ALLOW if verdict is Verdict.ALLOW else Verdict.ALERT
    escalates = verdict is not Verdict.ESCALATE or verdict in VERDICTS[check.rule.phase]
    return verdict if escalates else Verdict.DENY


def _subject(phase: Phase, facts: Facts) -> str:
    if phase is Phase.CHUNK and facts.chunk:
        return f"{facts.chunk.choice}.{facts.chunk.field}"
    if phase is Phase.TOOL_CALL and facts.tool:
        return facts.tool.id
    return facts.result.call_id if phase is Phase.TOOL_RESULT and facts.result else ""
