"""Owns the proof of what the section `rules` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.policy.rule import OnError, Redaction
from proxy.terms import Approval, Escalation, HandoffBy, How, Level, Mode, Obligation, OnDeny, Phase, Verdict, Way
from tests.policy.written import compiled, lowered, only, problems, rule

TOOL_CALL, DENY = Phase.TOOL_CALL, Verdict.DENY


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
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
        pytest.param(rule(phase="chunk", when="true"), "ahead", 200, id="a window is 200 characters"),
        pytest.param(rule(phase="chunk", when="true", window=64), "ahead", 64, id="window"),
        pytest.param(
            rule(when="true", action="route", to="cheap"), "way", Way(to="cheap", rule="p/r@1.0.0"), id="route"
        ),
        pytest.param(
            rule(when="true", action="annotate", annotations={"a": "b"}), "annotations", {"a": "b"}, id="annotations"
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
            [
                "`route` is not possible in phase tool_call: "
                "there a rule may allow, redact, rewrite, replace, require_approval, deny"
            ],
            id="no route of a tool call",
        ),
        pytest.param(
            rule(phase="tool_call", action="annotate", when="true", annotations={"a": "b"}),
            [
                "`annotate` is not possible in phase tool_call: "
                "there a rule may allow, redact, rewrite, replace, require_approval, deny"
            ],
            id="no annotation of a tool call",
        ),
        pytest.param(
            rule(phase="response", action="strip_tools", when="true", tools=["a"]),
            [
                "`strip_tools` is not possible in phase response: "
                "there a rule may allow, label, annotate, redact, rewrite, escalate, deny"
            ],
            id="no strip of a reply",
        ),
        pytest.param(
            rule(when="true", onDeny="explain"),
            ["`onDeny: explain` is for rules in phase tool_call: it tells the model of its call"],
            id="explained to nobody",
        ),
        pytest.param(
            rule(when="true", action="rewrite", rewrite={"text": "''"}),
            ["`text` cannot be rewritten in phase request, only instructions, max_tokens, temperature"],
            id="a request has no text",
        ),
        pytest.param(
            rule(when="true", phase="tool_call", action="replace"),
            ["`action: replace` needs `message`"],
            id="replaced by nothing",
        ),
        pytest.param(
            rule(when="true", phase="post", action="alert", obligations=["record"]),
            ["`obligations` changes nothing here: it is for rules before phase post, which has actions for that"],
            id="obligations of what has them as actions",
        ),
        pytest.param(
            rule(when="true", phase="post", action="level"), ["`action: level` needs `level`"], id="lowered to nothing"
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
            rule(when="true", phase="response", stream="window"),
            ["a rule of phase response judges whole replies: for a window write `phase: chunk`"],
            id="a window of a whole reply",
        ),
        pytest.param(
            rule(when="true", window=64),
            ["`window` changes nothing here: it is for rules in phase chunk"],
            id="a window of a request",
        ),
        pytest.param(
            rule(phase="chunk", action="mask", kinds=["email"], window=64),
            ["`window` changes nothing here: it is for what `when` or `require` has to see"],
            id="a window of kinds",
        ),
        pytest.param(
            rule(when="true", phase="chunk", action="escalate"),
            ["`escalate` is not possible in phase chunk: there a rule may allow, redact, deny"],
            id="no escalation of a step",
        ),
        pytest.param(
            rule(when="true", tools=["a"]),
            ["`tools` changes nothing here: it is for rules in phase tool_call or with `action: strip_tools`"],
            id="tools of a denied request",
        ),
        pytest.param(
            rule(when="true", action="allow", message="x", messageExpression="'x'"),
            [
                "`message` changes nothing here: "
                "it is for rules with `action: deny`, `escalate`, `require_approval` or `replace`",
                "`messageExpression` changes nothing here: "
                "it is for rules with `action: deny`, `escalate`, `require_approval` or `replace`",
            ],
            id="a text nobody sees",
        ),
        pytest.param(rule(action="mask"), ["give `kinds` or `pattern`, one of them"], id="a redaction of nothing"),
        pytest.param(
            rule(action="mask", kinds=["email"], pattern="x"),
            ["give `kinds` or `pattern`, one of them"],
            id="kinds and a pattern",
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
            rule(action="escalate", when="true", tool="transfer_*"),
            ["`handoff: tool` and `tool` come together"],
            id="a hand-off tool for nothing",
        ),
        pytest.param(
            rule(action="require_approval", phase="tool_call", when="true", approval={"ttl": "1m", "wait": "2m"}),
            ["`wait` is longer than `ttl`: the approval would come too late"],
            id="waiting for too long",
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
            rule(action="rewrite", when="true", rewrite={"max_tokens": "5"}),
            "rewrites",
            {"max_tokens": "5"},
            id="rewrite",
        ),
        pytest.param(rule(when="true", obligations=["alert"]), "obligations", (Obligation.ALERT,), id="obligations"),
        pytest.param(
            rule(phase="post", action="record", when="true"), "obligations", (Obligation.RECORD,), id="record"
        ),
        pytest.param(rule(phase="post", action="alert", when="true"), "obligations", (Obligation.ALERT,), id="alert"),
        pytest.param(
            rule(phase="post", action="level", when="true", level="assist"), "level", Level.ASSIST, id="level"
        ),
        pytest.param(
            rule(phase="tool_call", when="true", onDeny="explain"), "on_deny", OnDeny.EXPLAIN, id="onDeny: explain"
        ),
        pytest.param(
            "  onDeny: explain\n" + rule(when="true"), "on_deny", OnDeny.REPLY, id="explain where no model asked"
        ),
        pytest.param(
            "  onDeny: explain\n" + rule(phase="tool_call", when="true"), "on_deny", OnDeny.EXPLAIN, id="explain of all"
        ),
        pytest.param(rule(when="true", onError="escalate"), "on_error", OnError.ESCALATE, id="onError"),
        pytest.param("  onError: escalate\n" + rule(when="true"), "on_error", OnError.ESCALATE, id="onError of all"),
    ],
)
def test_what_leads_to_humans_is_in_the_rule(spec: str, field: str, expected: object) -> None:
    """Every key of redactions, labels, hand-offs and approvals comes out in the last rule that is lowered."""
    assert expected == getattr(compiled(spec).rules[-1], field)
