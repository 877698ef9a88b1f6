"""Owns what a person is told who has to answer a customer: first in plain words what became of a call, then what policy
knew and what each rule made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy import policy
from proxy.cli.paint import clean, paint, rows
from proxy.terms import Checked, Decision, Exchange, Facts, Kept, Phase, State, Verdict

LONGEST = 500
"""Characters shown of one text."""
HOW_TO_KEEP = "rules with `obligations: [record]`, or `action: record` in phase post, keep calls from then on"

_ENDED = {
    State.DISPATCHED: "This call is not finished, or its process has died.",
    State.FAULT: "No whole reply came of this call",
    State.CLIENT_GONE: "The agent left before the reply had ended.",
    State.RECOVERED: "The process that served this call died before it had ended.",
}
_WITH_ERROR = {
    State.FAULT: "No whole reply came of this call: ERROR.",
    State.CLIENT_GONE: "The agent left before the reply had ended, and the reply was not read on: ERROR.",
}
_DONE: dict[Verdict, dict[Phase | None, str]] = {
    Verdict.DENY: {
        Phase.REQUEST: "The question was not put to the model",
        Phase.TOOL_RESULT: "The question was not put to the model, because of what a tool had returned",
        Phase.TOOL_CALL: "Something that the model wanted to do was not let through",
        None: "What the model said was withheld",
        Phase.CHUNK: "What the model said was cut off",
    },
    Verdict.ESCALATE: {None: "The conversation was handed over to a person"},
    Verdict.REQUIRE_APPROVAL: {None: "Something that the model wanted to do waits until a person approves it"},
    Verdict.REPLACE: {None: "Something else was said in the place of what the model wanted to do"},
    Verdict.REWRITE: {
        Phase.REQUEST: "The question was put to the model in other words",
        Phase.TOOL_CALL: "What the model wanted to do was changed",
        None: "What the model said was put in other words",
    },
    Verdict.REDACT: {
        Phase.REQUEST: "Something was taken out of the question before the model got it",
        Phase.TOOL_RESULT: "Something was taken out of what a tool had returned before the model got it",
        None: "Something was taken out of what the model said",
    },
    Verdict.STRIP_TOOLS: {None: "The model was not offered all of its tools"},
    Verdict.ROUTE: {None: "A rule chose which model answers"},
}
"""What became of a call by the heaviest decision, by the phase that it was made in (None: any other)."""
_WHY = {
    "budget": "there was no money left for it",
    "quota": "it would have come to more, with what was done before, than it may",
    "handed_over": "a person owns this conversation",
    "declined": "a person decided against it",
    "pending": "nobody has approved it yet",
    "approved": "a person approved it",
}
_QUIET = (Verdict.ALLOW, Verdict.RECORD, Verdict.LABEL, Verdict.ANNOTATE, Verdict.ALERT, Verdict.LEVEL)


# --- in plain words -------------------------------------------------------------------------------------------------


def sentence(exchange: Exchange) -> str:
    """Return in plain words what became of a call, why, and what was said."""
    if exchange.replay_of:
        return f"This call had been made before: the answer of {exchange.replay_of} was given again."
    told = [_decided(decision) for decision in _heaviest_first(exchange.decisions)]
    ended = _ENDED.get(exchange.state, "")
    if exchange.error:
        ended = _WITH_ERROR.get(exchange.state, ended).replace("ERROR", exchange.error)
    return (
        " ".join(filter(None, (ended, *told)))
        or "The model's reply went out as it was: no rule had anything against it."
    )


def _heaviest_first(decisions: Iterable[Decision]) -> list[Decision]:
    """Return the decisions that changed something, heaviest first."""
    acted = [d for d in decisions if d.verdict not in _QUIET or d.reason == "approved"]
    return sorted(acted, key=lambda decision: -decision.verdict.weight)


def _decided(decision: Decision) -> str:
    if decision.reason == "approved":
        return "Something that the model wanted to do was let through, because a person approved it."
    done = _DONE[decision.verdict]
    what = done.get(decision.phase, done[None])
    said = f" The customer was told: “{clean(decision.message)}”" if decision.message else ""
    return f"{what}, because {_why(decision)}.{said}"


def _why(decision: Decision) -> str:
    failed = next((hit.error for hit in decision.rules if hit.id == decision.rule), "")
    if decision.reason in _WHY:
        return _WHY[decision.reason]
    if failed:
        return f"the rule {decision.rule} could not be answered ({failed}), and then it is better not done"
    return f"the rule {decision.rule} says so"


# --- what policy knew -----------------------------------------------------------------------------------------------


def not_kept(kept: Kept | None) -> str:
    """Say why there is nothing more to be told of a call, and what would keep it."""
    why = f"{kept.too_large:,} bytes were too much" if kept else HOW_TO_KEEP
    return f"What policy knew is not kept: {why}."


def knowledge(kept: Kept, policies: policy.PolicySet, name: str) -> str:
    """Return what policy knew along a call, or at the one decision of that name, and what each rule makes of it."""
    checks = [check for check in kept.checks if name in (kept.exchange_id, check.decision.id)]
    changed = (
        paint("The policies have changed since: these are the values that the rules of now come to.", "yellow")
        if policies.digest != kept.policy_digest
        else ""
    )
    return "\n".join(filter(None, (changed, *(_check(check, policies) for check in checks))))


def _check(check: Checked, policies: policy.PolicySet) -> str:
    explained = policies.explain(check.decision.phase, check.facts)
    title = f"{paint(check.decision.id, 'bold')}  {check.decision.verdict}"
    said = rows(texts(check.facts))
    return "\n".join([title, *filter(None, [said]), *(line for one in explained for line in _explained(one))])


def _explained(one: policy.Explained) -> Iterator[str]:
    colour = {"matched": "yellow", "error": "red"}.get(one.outcome, "dim")
    yield f"  {paint(f'{one.outcome:<9}', colour)}  {one.rule.id}{f': {one.error}' if one.error else ''}"
    yield from (f"             {clean(source)}  =  {clean(value)}" for source, value in one.values)


def texts(facts: Facts) -> list[tuple[str, str]]:
    """Return what a check is about, with who or what said it."""
    if facts.result:
        said = [(f"{facts.result.tool} returned", facts.result.text)]
    elif facts.chunk:
        said = [("reply", facts.chunk.text)]
    elif facts.tool:
        said = [("call", f"{facts.tool.name} {facts.tool.arguments}")]
    elif facts.response:
        said = [("reply", facts.response.text)]
    else:
        said = []
    asked = policy.user_text(facts.request)
    return [(who, _shown(text)) for who, text in [("user", asked), *said] if text]


def _shown(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "\n".join(map(clean, cut.splitlines()))
