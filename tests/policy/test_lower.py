"""Owns the proof that every section lowers into the one rule form, and that what makes no sense is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.policy import Rule
from proxy.policy.rule import OnError, Redaction
from proxy.terms import Approval, Escalation, HandoffBy, How, Mode, OnDeny, Phase, Verdict, Way
from tests.policy.written import compiled, problems, rule


def lowered(spec: str) -> list[tuple[Any, ...]]:
    """Return of each rule what tells it from the others."""
    rules = compiled(spec).rules
    return [(_name(r), r.phase, r.action, r.when, r.require, r.tools) for r in rules]


def only(spec: str) -> Rule:
    """Return the one rule of a policy."""
    (found,) = compiled(spec).rules
    return found


def _name(lowered_rule: Rule) -> str:
    return lowered_rule.id.partition("/")[2].rpartition("@")[0]


def entry(section: str, **keys: Any) -> str:
    """Write a policy with one entry in one section."""
    return f"  {section}: [{json.dumps({'id': 'e', **keys})}]"


def topics(**keys: Any) -> str:
    """Write a policy that bounds topics."""
    return f"  topics: {json.dumps({'minScore': 0.6, 'uncertain': 'allow', 'message': 'no', **keys})}"


REQUEST, TOOL_CALL, DENY, ASKS = Phase.REQUEST, Phase.TOOL_CALL, Verdict.DENY, Verdict.REQUIRE_APPROVAL


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            topics(allow=["orders"], deny=["medical"], uncertain="deny"),
            [
                (
                    "topics-denied",
                    REQUEST,
                    DENY,
                    'guards.topics.score >= 0.6 && guards.topics.label in ["medical"]',
                    False,
                    (),
                ),
                (
                    "topics-outside",
                    REQUEST,
                    DENY,
                    'guards.topics.score >= 0.6 && !(guards.topics.label in ["orders"])',
                    False,
                    (),
                ),
                ("topics-uncertain", REQUEST, DENY, "guards.topics.score < 0.6", False, ()),
            ],
            id="topics",
        ),
        pytest.param(
            topics(deny=["medical"]),
            [
                (
                    "topics-denied",
                    REQUEST,
                    DENY,
                    'guards.topics.score >= 0.6 && guards.topics.label in ["medical"]',
                    False,
                    (),
                )
            ],
            id="topics, denied only",
        ),
        pytest.param(
            entry("actions", tools=["refund"], require="tool.args.n < 5"),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("refund",)),
                ("e", TOOL_CALL, DENY, "tool.args.n < 5", True, ("refund",)),
            ],
            id="an action",
        ),
        pytest.param(
            entry("actions", tools=["refund"], effect="write", when="tool.args.n > 5"),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("refund",)),
                ("e.level", TOOL_CALL, ASKS, "agent.rank < 2", False, ("refund",)),
                ("e", TOOL_CALL, DENY, "tool.args.n > 5", False, ("refund",)),
            ],
            id="an action that writes asks a human on assist",
        ),
        pytest.param(
            entry("actions", tools=["refund"], effect="write", minLevel="execute"),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("refund",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 2", False, ("refund",)),
            ],
            id="a level that is written out denies",
        ),
        pytest.param(
            entry("actions", tools=["refund"], effect="write", action="strip"),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("refund",)),
                ("e.level.strip", REQUEST, Verdict.STRIP_TOOLS, "agent.rank < 2", False, ("refund",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 2", False, ("refund",)),
            ],
            id="a tool that writes is hidden on assist",
        ),
        pytest.param(
            entry(
                "actions", tools=["refund"], minLevel="operate", require="tool.args.n < 5", action="require_approval"
            ),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("refund",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 3", False, ("refund",)),
                ("e", TOOL_CALL, ASKS, "tool.args.n < 5", True, ("refund",)),
            ],
            id="a call that a human approves",
        ),
        pytest.param(
            entry("data", direction="in", kinds=["email"], action="hash"),
            [("e", REQUEST, Verdict.REDACT, "true", False, ())],
            id="data",
        ),
        pytest.param(
            entry("escalation", when="conversation.turn > 9"),
            [("e", REQUEST, Verdict.ESCALATE, "conversation.turn > 9", False, ())],
            id="escalation",
        ),
        pytest.param(
            entry("escalation", when="true", phase="response"),
            [("e", Phase.RESPONSE, Verdict.ESCALATE, "true", False, ())],
            id="escalation by a reply",
        ),
        pytest.param(
            entry("actions", tools=["look*"], effect="read"),
            [("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("look*",))],
            id="an action that reads needs nothing",
        ),
        pytest.param(
            entry("actions", tools=["drop"], effect="external", minLevel="operate", action="strip"),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("drop",)),
                ("e.level.strip", REQUEST, Verdict.STRIP_TOOLS, "agent.rank < 3", False, ("drop",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 3", False, ("drop",)),
            ],
            id="strip hides the tool and denies its calls",
        ),
        pytest.param(
            entry("actions", tools=["drop"], when="conversation.turn > 9", action="strip"),
            [
                ("e.args", TOOL_CALL, DENY, "!tool.valid_json", False, ("drop",)),
                ("e.strip", REQUEST, Verdict.STRIP_TOOLS, "conversation.turn > 9", False, ("drop",)),
                ("e", TOOL_CALL, DENY, "conversation.turn > 9", False, ("drop",)),
            ],
            id="strip by a condition",
        ),
        pytest.param(
            entry("spend", scope="agent", window="day", limitUSD=5, softUSD=1.5, onSoft="annotate"),
            [
                ("e", REQUEST, DENY, "", False, ()),
                ("e.soft", REQUEST, Verdict.ANNOTATE, "spend.agent.usd >= 1.5", False, ()),
            ],
            id="a limit and a soft limit",
        ),
        pytest.param(
            entry("spend", scope="request", softUSD=1, onSoft={"route": "cheap"}),
            [("e.soft", REQUEST, Verdict.ROUTE, "spend.request.est_usd >= 1.0", False, ())],
            id="a soft limit of one call",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="conversation", limitUSD=2),
            [("e", REQUEST, DENY, "spend.conversation.usd + spend.request.max_usd > 2.0", False, ())],
            id="a limit in shadow is judged, not held",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="request", limitUSD=2),
            [("e", REQUEST, DENY, "spend.request.max_usd > 2.0", False, ())],
            id="of one call",
        ),
        pytest.param(
            entry("routing", when="true", to="small"), [("e", REQUEST, Verdict.ROUTE, "true", False, ())], id="routing"
        ),
        pytest.param(
            rule(phase="tool_call", require="true", tools=["a*"]),
            [("r", TOOL_CALL, DENY, "true", True, ("a*",))],
            id="a rule",
        ),
    ],
)
def test_each_section_lowers_to_rules(spec: str, rules: list[tuple[Any, ...]]) -> None:
    """A section is shorthand: what it means is what its rules say."""
    assert rules == lowered(spec)


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param(rule(when="true"), "id", "p/r@1.0.0", id="id"),
        pytest.param(rule(when="true"), "section", "rules", id="section"),
        pytest.param(rule(when="true"), "position", "p.yaml:5:11", id="position"),
        pytest.param(rule(when="true", severity="high"), "severity", "high", id="severity"),
        pytest.param(rule(when="true", message="no"), "message", "no", id="message"),
        pytest.param(rule(when="true", messageExpression="'n'"), "message_expression", "'n'", id="messageExpression"),
        pytest.param(rule(when="true"), "on_error", OnError.DENY, id="onError is deny"),
        pytest.param("  onError: allow\n" + rule(when="true"), "on_error", OnError.ALLOW, id="the policy's onError"),
        pytest.param(
            "  onError: allow\n" + rule(when="true", onError="deny"), "on_error", OnError.DENY, id="its own onError"
        ),
        pytest.param(rule(when="true"), "on_deny", OnDeny.REPLY, id="onDeny is reply"),
        pytest.param("  onDeny: error\n" + rule(when="true"), "on_deny", OnDeny.ERROR, id="the policy's onDeny"),
        pytest.param(
            "  onDeny: error\n" + rule(when="true", onDeny="reply"), "on_deny", OnDeny.REPLY, id="its own onDeny"
        ),
        pytest.param("  priority: 3\n" + rule(when="true"), "priority", 3, id="priority"),
        pytest.param("  mode: shadow\n" + rule(when="true"), "mode", Mode.SHADOW, id="the policy's mode"),
        pytest.param("  mode: off\n" + rule(when="true", mode="enforce"), "mode", Mode.OFF, id="a mode only weakens"),
        pytest.param(rule(when="true", mode="shadow"), "mode", Mode.SHADOW, id="its own mode"),
        pytest.param(rule(when="true", phase="response"), "hold", True, id="a denying reply rule holds"),
        pytest.param(rule(when="true", phase="response", stream="after"), "hold", False, id="stream: after"),
        pytest.param(rule(when="true", phase="response", mode="shadow"), "hold", False, id="shadow never holds"),
        pytest.param(
            rule(when="true", phase="response", action="annotate", annotations={"a": "b"}), "hold", False, id="annotate"
        ),
        pytest.param(
            rule(when="true", phase="response", action="annotate", annotations={"a": "b"}, stream="hold"),
            "hold",
            True,
            id="annotate may hold, since it may fail",
        ),
        pytest.param(
            entry("routing", when="true", to="small", fallback=["cheap"]),
            "way",
            Way(to="small", fallback=("cheap",), rule="p/e@1.0.0"),
            id="to",
        ),
        pytest.param(
            entry("routing", when="true", to={"cheapest": {"tags": ["b", "a", "b"]}}),
            "way",
            Way(cheapest=True, tags=("a", "b"), rule="p/e@1.0.0"),
            id="cheapest",
        ),
        pytest.param(
            rule(when="true", action="route", to="cheap"), "way", Way(to="cheap", rule="p/r@1.0.0"), id="route"
        ),
        pytest.param(
            rule(when="true", action="annotate", annotations={"a": "b"}), "annotations", {"a": "b"}, id="annotations"
        ),
        pytest.param(entry("spend", scope="request", limitUSD=0.25), "cap_nanousd", 250_000_000, id="limitUSD"),
        pytest.param(entry("spend", scope="request", limitUSD=1), "on_deny", OnDeny.ERROR, id="a limit answers 429"),
        pytest.param(
            "  onDeny: reply\n" + entry("spend", scope="request", limitUSD=1),
            "on_deny",
            OnDeny.REPLY,
            id="or as the policy says",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=1, onDeny="reply"),
            "on_deny",
            OnDeny.REPLY,
            id="or as it says itself",
        ),
        pytest.param(
            entry("spend", scope="conversation", limitUSD=1), "window", "conversation", id="the window of a talk"
        ),
        pytest.param(entry("spend", scope="agent", window="day", limitUSD=1), "timezone", "UTC", id="UTC"),
        pytest.param(
            entry("spend", scope="agent", window="day", timezone="Europe/Madrid", limitUSD=1),
            "timezone",
            "Europe/Madrid",
            id="timezone",
        ),
        pytest.param(
            entry("spend", key="caller.tenant", window="month", limitUSD=1), "when", "caller.tenant", id="key"
        ),
    ],
)
def test_each_key_changes_its_rule(spec: str, field: str, expected: object) -> None:
    """Every accepted key changes the rule, and the rule says what it was given."""
    assert expected == getattr(only(spec), field)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            rule(phase="tool_call", action="route", when="true", to="small"),
            ["`route` is not possible in phase tool_call: there a rule may allow, require_approval, deny"],
            id="no route of a tool call",
        ),
        pytest.param(
            rule(phase="tool_call", action="annotate", when="true", annotations={"a": "b"}),
            ["`annotate` is not possible in phase tool_call: there a rule may allow, require_approval, deny"],
            id="no annotation of a tool call",
        ),
        pytest.param(
            rule(phase="response", action="strip_tools", when="true", tools=["a"]),
            [
                "`strip_tools` is not possible in phase response: "
                "there a rule may allow, label, annotate, redact, escalate, deny"
            ],
            id="no strip of a reply",
        ),
        pytest.param(
            "  rules: []",
            ["this policy says nothing: give it topics, actions, spend, data, escalation, routing, rules"],
            id="nothing said",
        ),
        pytest.param(rule(), ["give `when` or `require`"], id="no condition"),
        pytest.param(rule(when="true", require="true"), ["give `when` or `require`, not both"], id="two conditions"),
        pytest.param(rule(when="true", action="route"), ["`action: route` needs `to`"], id="a route to nowhere"),
        pytest.param(
            rule(when="true", action="strip_tools"), ["`action: strip_tools` needs `tools`"], id="nothing to strip"
        ),
        pytest.param(
            rule(when="true", action="annotate"), ["`action: annotate` needs `annotations`"], id="nothing to say"
        ),
        pytest.param(
            rule(when="true", to="small", fallback=["cheap"]),
            [
                "`to` changes nothing here: it is for rules with `action: route` or `escalate`",
                "`fallback` changes nothing here: it is for rules with `action: route`",
            ],
            id="a route that is none",
        ),
        pytest.param(
            rule(when="true", stream="hold"),
            ["`stream` changes nothing here: it is for rules in phase response"],
            id="stream of a request",
        ),
        pytest.param(
            rule(when="true", phase="response", action="allow", onError="allow", stream="hold"),
            ["`stream: hold` changes nothing here: this rule never withholds a reply"],
            id="a hold that never withholds",
        ),
        pytest.param(
            rule(when="true", tools=["a"]),
            ["`tools` changes nothing here: it is for rules in phase tool_call or with `action: strip_tools`"],
            id="tools of a denied request",
        ),
        pytest.param(
            rule(when="true", action="allow", message="x", messageExpression="'x'"),
            [
                "`message` changes nothing here: it is for rules with `action: deny`, `escalate` or `require_approval`",
                "`messageExpression` changes nothing here: "
                "it is for rules with `action: deny`, `escalate` or `require_approval`",
            ],
            id="a text nobody sees",
        ),
        pytest.param(
            entry("routing", when="true", to="small") + "\n" + entry("spend", scope="request", limitUSD=1),
            ["`e` is already the id of another rule"],
            id="the same id twice",
        ),
        pytest.param(
            topics(), ["`topics` names no topic: give `allow`, `deny` or both"], id="topics that bound nothing"
        ),
        pytest.param(
            topics(allow=["orders"], deny=["orders"]),
            ["the topic `orders` is both allowed and denied"],
            id="a topic on both sides",
        ),
        pytest.param(rule(action="mask"), ["give `kinds` or `pattern`, one of them"], id="a redaction of nothing"),
        pytest.param(
            rule(action="mask", kinds=["email"], pattern="x"),
            ["give `kinds` or `pattern`, one of them"],
            id="kinds and a pattern",
        ),
        pytest.param(
            rule(action="mask", phase="tool_call", kinds=["email"]),
            ["`mask` is not possible in phase tool_call: there a rule may allow, require_approval, deny"],
            id="no redaction of a tool call",
        ),
        pytest.param(
            rule(action="deny", when="true", kinds=["email"], handoff="header", labels=["x"], approval={"ttl": "1s"}),
            [
                "`kinds` changes nothing here: it is for rules with `action: redact`, `mask`, `hash` or `tokenize`",
                "`handoff` changes nothing here: it is for rules with `action: escalate`",
                "`labels` changes nothing here: it is for rules with `action: label`",
                "`approval` changes nothing here: it is for rules with `action: require_approval`",
            ],
            id="keys of other actions",
        ),
        pytest.param(
            rule(action="label", when="true"), ["`action: label` needs `labels`"], id="a label without labels"
        ),
        pytest.param(
            rule(action="escalate", when="true", to={"cheapest": {"tags": ["a"]}}),
            ["`to` of an escalation is the name of a queue"],
            id="a model for a queue",
        ),
        pytest.param(
            entry("escalation", when="true", handoff="tool"),
            ["`handoff: tool` and `tool` come together"],
            id="a hand-off tool without a name",
        ),
        pytest.param(
            rule(action="escalate", when="true", tool="transfer_*"),
            ["`handoff: tool` and `tool` come together"],
            id="a hand-off tool for nothing",
        ),
        pytest.param(
            rule(action="require_approval", phase="tool_call", when="true", approval={"ttl": "1m", "wait": "2m"}),
            ["`wait` is longer than `ttl`: the approval would come too late"],
            id="waiting for too long",
        ),
        pytest.param(
            entry("actions", tools=["a"], when="true", approval={"group": "leads"}),
            ["`approval` changes nothing here: no call of these tools is to be approved"],
            id="an approval that nothing asks for",
        ),
        pytest.param(
            entry("actions", tools=["a"], minLevel="execute", action="require_approval", approval={"group": "leads"}),
            ["`approval` changes nothing here: no call of these tools is to be approved"],
            id="an approval without a condition",
        ),
        pytest.param(
            entry("data", direction="in", kinds=["email"], action="mask", message="no"),
            ["`message` changes nothing here: it is for `action: deny`"],
            id="a text for a redaction",
        ),
        pytest.param(
            entry("actions", tools=["a"]),
            ['say when: give `when`, `require`, `minLevel` or `effect` (`when: "true"` means always)'],
            id="an action that never acts",
        ),
        pytest.param(
            entry("actions", tools=["a"], when="true", require="true"),
            ["give `when` or `require`, not both"],
            id="an action with two conditions",
        ),
        pytest.param(
            entry("actions", tools=["a"], when="true", action="strip", messageExpression="'x'"),
            ["a stripped tool needs a `message`, the same for every call of it"],
            id="a text that cannot be made",
        ),
        pytest.param(entry("spend", limitUSD=1), ["give `scope` or `key`, one of them"], id="whose money"),
        pytest.param(
            entry("spend", scope="agent", key="'a'", window="day", limitUSD=1),
            ["give `scope` or `key`, one of them"],
            id="two owners",
        ),
        pytest.param(entry("spend", scope="request"), ["give `limitUSD`, `softUSD` or both"], id="no amount"),
        pytest.param(
            entry("spend", scope="request", limitUSD=1, softUSD=1, onSoft="annotate"),
            ["`softUSD` must be below `limitUSD`"],
            id="a soft limit that is none",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=2, softUSD=1),
            ["`softUSD` and `onSoft` come together"],
            id="soft what",
        ),
        pytest.param(
            entry("spend", scope="request", softUSD=1, onSoft="annotate", message="x", onDeny="error"),
            ["`message` changes nothing without `limitUSD`", "`onDeny` changes nothing without `limitUSD`"],
            id="a text without a denial",
        ),
        pytest.param(
            entry("spend", scope="request", window="day", limitUSD=1),
            ["the scope `request` is one call and has no window"],
            id="a window of one call",
        ),
        pytest.param(
            entry("spend", scope="agent", limitUSD=1),
            ["a limit by agent needs a `window`: minute, hour, day, week or month"],
            id="no window",
        ),
        pytest.param(
            entry("spend", key="'a'", window="conversation", limitUSD=1),
            ["a limit by key needs a `window`: minute, hour, day, week or month"],
            id="a conversation is no window of a key",
        ),
        pytest.param(
            entry("spend", scope="agent", window="hour", timezone="Europe/Madrid", limitUSD=1),
            ["`timezone` changes nothing here: only a day, week or month has one"],
            id="an hour has no zone",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=0.0000000001),
            ["`limitUSD` has more than nine decimals"],
            id="less than a nano-dollar",
        ),
        pytest.param(
            entry("spend", scope="agent", window="month", softUSD=1, onSoft="annotate"),
            ["`softUSD` is possible per request, per conversation, and per agent and UTC day"],
            id="a soft limit that nobody can see",
        ),
        pytest.param(
            entry("spend", scope="agent", window="day", timezone="Europe/Madrid", softUSD=1, onSoft="annotate"),
            ["`softUSD` is possible per request, per conversation, and per agent and UTC day"],
            id="a soft limit by another day",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="agent", window="month", limitUSD=1),
            ["a limit in mode shadow is possible per request, per conversation, and per agent and UTC day"],
            id="a shadow that nobody can see",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param(rule(action="mask", kinds=["email"]), "redaction", Redaction(kinds=("email",)), id="kinds"),
        pytest.param(
            rule(action="tokenize", pattern="x+", allow="finding.text == 'x'"),
            "redaction",
            Redaction(how=How.TOKENIZE, pattern="x+", allow="finding.text == 'x'"),
            id="pattern, allow",
        ),
        pytest.param(rule(action="label", when="true", labels=["a", "b"]), "labels", ("a", "b"), id="labels"),
        pytest.param(rule(action="escalate", when="true"), "escalation", Escalation(), id="escalate, as it is"),
        pytest.param(
            rule(action="escalate", when="true", to="gold", handoff="tool", tool="transfer_*"),
            "escalation",
            Escalation(queue="gold", by=HandoffBy.TOOL, tool="transfer_*"),
            id="to, handoff, tool",
        ),
        pytest.param(
            entry("escalation", when="true", to="gold", handoff="header"),
            "escalation",
            Escalation(queue="gold", by=HandoffBy.HEADER),
            id="the section",
        ),
        pytest.param(
            entry("escalation", when="true", to="gold", handoff="tool", tool="transfer_*"),
            "escalation",
            Escalation(queue="gold", by=HandoffBy.TOOL, tool="transfer_*"),
            id="the section with a tool",
        ),
        pytest.param(
            rule(action="require_approval", phase="tool_call", when="true"), "approval", Approval(), id="an approval"
        ),
        pytest.param(
            rule(
                action="require_approval",
                phase="tool_call",
                when="true",
                approval={"ttl": "1h", "wait": "30s", "group": "leads"},
            ),
            "approval",
            Approval(ttl_s=3600, wait_s=30, group="leads"),
            id="ttl, wait, group",
        ),
        pytest.param(
            entry("actions", tools=["a"], effect="external", approval={"ttl": "5m"}),
            "approval",
            Approval(ttl_s=300),
            id="of an effect",
        ),
        pytest.param(
            entry("actions", tools=["a"], when="true", action="require_approval", approval={"group": "leads"}),
            "approval",
            Approval(group="leads"),
            id="of an action",
        ),
        pytest.param(rule(when="true", onError="escalate"), "on_error", OnError.ESCALATE, id="onError"),
        pytest.param("  onError: escalate\n" + rule(when="true"), "on_error", OnError.ESCALATE, id="onError of all"),
        pytest.param(entry("escalation", when="true", mode="shadow"), "mode", Mode.SHADOW, id="mode of a hand-off"),
        pytest.param(entry("escalation", when="true", message="hi"), "message", "hi", id="message of a hand-off"),
        pytest.param(
            entry("escalation", when="true", onError="allow"), "on_error", OnError.ALLOW, id="onError of a hand-off"
        ),
    ],
)
def test_what_leads_to_humans_is_in_the_rule(spec: str, field: str, expected: object) -> None:
    """Every key of redactions, labels, hand-offs and approvals comes out in the last rule that is lowered."""
    assert expected == getattr(compiled(spec).rules[-1], field)
