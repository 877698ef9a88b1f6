"""Owns the proof of the verdict: the most restrictive wins in any order, and what rules transform is put together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.tally import APPROVAL_TEXT, ESCALATE_TEXT, SAFE_TEXT
from proxy.terms import (
    Approval,
    Escalation,
    Level,
    Mode,
    Obligation,
    OnDeny,
    Phase,
    Reply,
    Result,
    Verdict,
    Way,
)
from tests.policy.written import (
    ALLOW,
    ANNOTATE,
    BROKEN,
    DENY,
    HEAVIEST,
    OFFERED,
    ROUTE,
    STRIP,
    annotate,
    at_level,
    called,
    compiled,
    decided,
    facts,
    policy,
    rule,
    source,
    verdict,
)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(HEAVIEST), max_size=5), st.integers(0, 1000))
def test_the_most_restrictive_verdict_wins_in_any_order(entries: list[dict[str, Any]], priority: int) -> None:
    """No order and no priority turns a deny into an allow, and every matched rule is reported."""
    heaviest = max(entries, key=HEAVIEST.index, default=ALLOW)

    decision = decided(policy(*entries, ALLOW, priority=priority), facts(request=OFFERED))

    assert heaviest["action"] == decision.verdict
    assert [f"p/r{n}@1.0.0" for n in range(len(entries) + 1)] == [hit.id for hit in decision.rules]


def test_when_acts_if_true_and_require_if_not() -> None:
    """`require` is a `when` the other way round."""
    verdicts = [
        verdict(rule(**{key: str(value).lower()}), facts()) for key in ("when", "require") for value in (True, False)
    ]

    assert [Verdict.DENY, Verdict.ALLOW, Verdict.ALLOW, Verdict.DENY] == verdicts


def test_a_decision_says_what_was_decided() -> None:
    """A denial carries its id, phase, rule, reason, text and how it is to look."""
    spec = rule(when="true", message="no", severity="high", onDeny="error")

    decision = decided(spec, facts())

    assert ("ex_1-request", Phase.REQUEST, Verdict.DENY, "rule", "no", "p/r@1.0.0", OnDeny.ERROR, "") == (
        decision.id,
        decision.phase,
        decision.verdict,
        decision.reason,
        decision.message,
        decision.rule,
        decision.on_deny,
        decision.subject,
    )
    assert [("p/r@1.0.0", Verdict.DENY, Mode.ENFORCE, "high", "no", "")] == [
        (hit.id, hit.action, hit.mode, hit.severity, hit.message, hit.error) for hit in decision.rules
    ]


def test_nothing_matched_is_an_allow_without_reason() -> None:
    """An allow names no rule and has no text."""
    decision = decided(rule(when="false", message="no"), facts())

    assert (Verdict.ALLOW, "", "", "", ()) == (
        decision.verdict,
        decision.reason,
        decision.rule,
        decision.message,
        decision.rules,
    )


def test_an_allow_rule_is_reported_and_decides_nothing() -> None:
    """`action: allow` puts a match on record."""
    decision = decided(policy(ALLOW), facts())

    assert (Verdict.ALLOW, "", "", 1) == (decision.verdict, decision.rule, decision.reason, len(decision.rules))


def test_the_first_of_equal_rules_speaks() -> None:
    """Of two denials the text is that of the rule written first."""
    decision = decided(policy({"when": "true", "message": "one"}, {"when": "true", "message": "two"}), facts())

    assert ("p/r0@1.0.0", "one") == (decision.rule, decision.message)


@pytest.mark.parametrize(
    ("low", "high", "to"),
    [
        pytest.param(1, 2, "small", id="the lower number goes first"),
        pytest.param(2, 1, "large", id="whatever the name"),
        pytest.param(1, 1, "small", id="then the name"),
    ],
)
def test_priority_orders_routes(low: int, high: int, to: str) -> None:
    """The first matching route wins, in order of priority, policy name and rule."""
    policies = compiled(
        source(policy({**ROUTE, "to": "large"}, priority=high), name="b", path="b.yaml"),
        source(policy({**ROUTE, "to": "small"}, {**ROUTE, "to": "cheap"}, priority=low), name="a", path="a.yaml"),
    )

    way = decided(policies, facts()).way

    assert to == (way.to if way else "")


def test_transforms_of_all_rules_are_put_together() -> None:
    """Stripped tools are the union, annotations are merged with the first value winning, the route is kept."""
    decision = decided(
        policy(
            annotate(a="1", b="1"),
            annotate(b="2", c="2"),
            STRIP,
            {**STRIP, "tools": ["look"]},
            {**STRIP, "when": "false", "tools": ["*"]},
            ROUTE,
        ),
        facts(request=OFFERED),
    )

    assert (Verdict.STRIP_TOOLS, ("drop_a", "drop_b", "look"), {"a": "1", "b": "1", "c": "2"}) == (
        decision.verdict,
        decision.strip,
        decision.annotations,
    )
    assert Way(to="small", rule="p/r5@1.0.0") == decision.way


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        pytest.param({"message": "fixed"}, "fixed", id="message"),
        pytest.param({}, SAFE_TEXT, id="neither"),
        pytest.param({"messageExpression": "'for ' + agent.id"}, "for support-web", id="expression"),
        pytest.param({"messageExpression": "request.metadata.x", "message": "fixed"}, "fixed", id="it fails"),
        pytest.param({"messageExpression": "dyn(5)", "message": "fixed"}, "fixed", id="it gives no text"),
        pytest.param({"messageExpression": "''"}, SAFE_TEXT, id="it gives an empty text"),
    ],
)
def test_a_denial_always_has_a_text(keys: dict[str, str], text: str) -> None:
    """The expression's text, else the fixed one, else a safe one."""
    assert text == decided(rule(when="true", **keys), facts()).message


def test_shadow_is_recorded_and_never_acts() -> None:
    """A rule in shadow says what it would have done, and nothing of it is done."""
    entries = [{**entry, "mode": "shadow"} for entry in (ROUTE, STRIP, ANNOTATE, DENY)]

    decision = decided(policy(*entries), facts(request=OFFERED))

    assert (Verdict.ALLOW, Verdict.DENY, "", "", None, (), {}) == (
        decision.verdict,
        decision.shadow_verdict,
        decision.rule,
        decision.message,
        decision.way,
        decision.strip,
        decision.annotations,
    )
    assert [Mode.SHADOW] * 4 == [hit.mode for hit in decision.rules]


def test_an_error_in_shadow_denies_in_shadow() -> None:
    """A shadow rule that fails shows what it would have caused."""
    decision = decided(policy({"when": BROKEN, "mode": "shadow"}), facts())

    assert (Verdict.ALLOW, Verdict.DENY) == (decision.verdict, decision.shadow_verdict)


def test_off_is_not_asked_but_listed() -> None:
    """A rule that is off is checked and listed, and plays no part."""
    policies = compiled(policy({**DENY, "mode": "off"}))

    assert (Verdict.ALLOW, (), False, [Mode.OFF]) == (
        verdict(policies, facts()),
        decided(policies, facts()).rules,
        policies.has(Phase.REQUEST),
        [one.mode for one in policies.rules],
    )


LABEL: dict[str, Any] = {"action": "label", "when": "true", "labels": ["pii", "vip"]}
ESCALATE: dict[str, Any] = {"action": "escalate", "when": "true", "to": "gold"}
ASK: dict[str, Any] = {"phase": "tool_call", "action": "require_approval", "when": "true"}


def test_labels_are_put_together_each_once() -> None:
    """Labels of all rules that act, in their order; a label is lighter than a note."""
    spec = policy(LABEL, {**LABEL, "labels": ["vip", "late"]}, {**LABEL, "labels": ["no"], "mode": "shadow"})

    decision = decided(spec, facts())

    assert (Verdict.LABEL, ("pii", "vip", "late")) == (decision.verdict, decision.labels)


@pytest.mark.parametrize("phase", [Phase.REQUEST, Phase.TOOL_RESULT, Phase.RESPONSE], ids=str)
def test_each_phase_that_can_label_and_escalate_does(phase: Phase) -> None:
    """Both are possible wherever a conversation shows what it is about."""
    known = facts(response=Reply(text="hi"), result=Result(tool="t", call_id="c7", text="{}"))
    spec = policy({**LABEL, "phase": phase}, {**ESCALATE, "phase": phase})

    decision = decided(spec, known, phase)

    assert (Verdict.ESCALATE, ("pii", "vip")) == (decision.verdict, decision.labels)
    assert Escalation(queue="gold") == decision.escalation
    assert ("c7" if phase is Phase.TOOL_RESULT else "") == decision.subject


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param({}, ESCALATE_TEXT, id="default"),
        pytest.param({"message": "One moment."}, "One moment.", id="message"),
        pytest.param({"messageExpression": "'Hello ' + agent.id"}, "Hello support-web", id="messageExpression"),
    ],
)
def test_an_escalation_says_its_text_to_the_customer(keys: dict[str, Any], message: str) -> None:
    """It is always a reply, whatever `onDeny` says of denials."""
    decision = decided(policy({**ESCALATE, **keys}, onDeny="error"), facts())

    assert (message, OnDeny.REPLY) == (decision.message, decision.on_deny)


def test_the_first_escalation_chooses_the_queue() -> None:
    """As with texts, the first in order of priority and place."""
    decision = decided(policy(ESCALATE, {**ESCALATE, "to": "silver"}), facts())

    assert Escalation(queue="gold") == decision.escalation


@pytest.mark.parametrize(
    ("message", "said"),
    [pytest.param("Help comes.", "Help comes.", id="its own"), pytest.param("", ESCALATE_TEXT, id="none")],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_denial_silences_no_call_for_a_human(message: str, said: str, first: bool) -> None:
    """What one rule denies and another escalates is denied, a human is called, and the customer reads that."""
    calling = {**ESCALATE, **({"message": message} if message else {})}

    decision = decided(policy(*((calling, DENY) if first else (DENY, calling))), facts())

    assert (Verdict.DENY, "deny", said) == (
        decision.verdict,
        str(decision.rules[-1 if first else 0].action),
        decision.message,
    )
    assert Escalation(queue="gold") == decision.escalation


def test_an_escalation_in_shadow_calls_nobody() -> None:
    """It is on record only."""
    decision = decided(policy({**ESCALATE, "mode": "shadow"}), facts())

    assert (Verdict.ALLOW, Verdict.ESCALATE, None) == (decision.verdict, decision.shadow_verdict, decision.escalation)


def test_a_reply_that_did_not_wait_is_not_handed_over() -> None:
    """With `stream: after` an escalation is on record only."""
    spec = policy({**ESCALATE, "phase": "response", "stream": "after"})

    decision = decided(spec, facts(response=Reply(text="hi")), Phase.RESPONSE)

    assert (Verdict.ALLOW, Verdict.ESCALATE, None) == (decision.verdict, decision.shadow_verdict, decision.escalation)


@pytest.mark.parametrize(
    ("phase", "verdict"),
    [
        pytest.param(Phase.REQUEST, Verdict.ESCALATE, id="request"),
        pytest.param(Phase.TOOL_RESULT, Verdict.ESCALATE, id="tool_result"),
        pytest.param(Phase.RESPONSE, Verdict.ESCALATE, id="response"),
        pytest.param(Phase.TOOL_CALL, Verdict.DENY, id="tool_call"),
    ],
)
def test_an_error_can_call_a_human(phase: Phase, verdict: Verdict) -> None:
    """Where a phase knows no escalation the call is withheld, and the escalation is opened all the same."""
    known = called("t", response=Reply(text="hi"), result=Result(tool="t", call_id="c7", text="{}"))

    decision = decided(rule(phase=phase, when=BROKEN, onError="escalate"), known, phase)

    assert (verdict, "policy_error", Escalation()) == (decision.verdict, decision.reason, decision.escalation)
    assert ESCALATE_TEXT == decision.message


def test_an_escalation_that_cannot_be_told_goes_where_it_would() -> None:
    """An escalating rule that fails under `onError: escalate` uses its own queue."""
    decision = decided(policy({**ESCALATE, "when": BROKEN, "onError": "escalate"}), facts())

    assert Escalation(queue="gold") == decision.escalation


@pytest.mark.parametrize(
    ("keys", "approval", "message"),
    [
        pytest.param({}, Approval(), APPROVAL_TEXT, id="as it is"),
        pytest.param(
            {"approval": {"ttl": "2h", "wait": "5s", "group": "leads"}, "message": "Asking."},
            Approval(ttl_s=7200, wait_s=5, group="leads"),
            "Asking.",
            id="with all its keys",
        ),
    ],
)
def test_a_call_can_wait_for_a_human(keys: dict[str, Any], approval: Approval, message: str) -> None:
    """The decision says how to ask, and what the customer reads meanwhile."""
    decision = decided(policy({**ASK, **keys}), called("t"), Phase.TOOL_CALL)

    assert (Verdict.REQUIRE_APPROVAL, approval) == (decision.verdict, decision.approval)
    assert (message, "c1") == (decision.message, decision.subject)


def test_a_denied_call_needs_no_approval() -> None:
    """A denial is heavier."""
    decision = decided(policy(ASK, {**DENY, "phase": "tool_call"}), called("t"), Phase.TOOL_CALL)

    assert (Verdict.DENY, None, "no") == (decision.verdict, decision.approval, decision.message)


@pytest.mark.parametrize(
    ("level", "verdict"),
    [
        pytest.param(Level.ASSIST, Verdict.REQUIRE_APPROVAL, id="assist"),
        pytest.param(Level.EXECUTE, Verdict.ALLOW, id="execute"),
    ],
)
def test_what_an_assistant_changes_is_approved_first(level: Level, verdict: Verdict) -> None:
    """A write by an agent at level assist is a proposal."""
    spec = "  actions: [{id: e, tools: [refund], effect: write, approval: {group: leads}}]"

    decision = decided(spec, called("refund", caller=at_level(level)), Phase.TOOL_CALL)

    assert verdict == decision.verdict
    assert (Approval(group="leads") if verdict is Verdict.REQUIRE_APPROVAL else None) == decision.approval


@pytest.mark.parametrize(
    ("on_error", "expected"), [("deny", Verdict.ALERT), ("escalate", Verdict.ALERT), ("allow", Verdict.ALLOW)]
)
def test_a_rule_that_fails_after_the_reply_alerts(on_error: str, expected: Verdict) -> None:
    """Nothing can be denied any more, but an error is never "no match"."""
    spec = rule(phase="post", action="record", when="cost.usd > 1.0", onError=on_error)

    assert expected == verdict(spec, facts(), Phase.POST)


def test_the_lowest_level_and_all_obligations_are_kept() -> None:
    """What several rules want after a call adds up; a shadow wants nothing."""
    wants = [
        {"phase": "post", "action": "level", "level": "execute", "when": "true"},
        {"phase": "post", "action": "level", "level": "assist", "when": "true"},
        {"phase": "post", "action": "record", "when": "true"},
        {"phase": "post", "action": "alert", "when": "true", "mode": "shadow"},
    ]

    decision = decided(policy(*wants), facts(), Phase.POST)

    assert (Level.ASSIST, (Obligation.RECORD,)) == (decision.level, decision.obligations)
    assert (Verdict.LEVEL, Verdict.ALERT) == (decision.verdict, decision.shadow_verdict)


def test_a_call_that_is_replaced_says_the_rules_text() -> None:
    """In the place of the call stands the rule's own text."""
    spec = rule(phase="tool_call", action="replace", when="true", message="Look at the order page.")

    decision = decided(spec, called("look"), Phase.TOOL_CALL)

    assert (Verdict.REPLACE, "Look at the order page.") == (decision.verdict, decision.message)
