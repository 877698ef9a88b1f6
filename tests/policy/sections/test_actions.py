"""Owns the proof of what the section `actions` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.terms import Approval, Phase, ToolSpec, Verdict
from tests.policy.written import called, compiled, decided, entry, lowered, problems, request

UNFIT = "!(tool.valid_json && tool.registered && tool.schema_ok)"
REQUEST, TOOL_CALL, DENY, ASKS = Phase.REQUEST, Phase.TOOL_CALL, Verdict.DENY, Verdict.REQUIRE_APPROVAL


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            entry("actions", tools=["refund"], require="tool.args.n < 5"),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
                ("e", TOOL_CALL, DENY, "tool.args.n < 5", True, ("refund",)),
            ],
            id="an action",
        ),
        pytest.param(
            entry("actions", tools=["refund"], effect="write", when="tool.args.n > 5"),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
                ("e.level", TOOL_CALL, ASKS, "agent.rank < 2", False, ("refund",)),
                ("e", TOOL_CALL, DENY, "tool.args.n > 5", False, ("refund",)),
            ],
            id="an action that writes asks a human on assist",
        ),
        pytest.param(
            entry("actions", tools=["refund"], effect="write", minLevel="execute"),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 2", False, ("refund",)),
            ],
            id="a level that is written out denies",
        ),
        pytest.param(
            entry("actions", tools=["refund"], effect="write", action="strip"),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
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
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 3", False, ("refund",)),
                ("e", TOOL_CALL, ASKS, "tool.args.n < 5", True, ("refund",)),
            ],
            id="a call that a human approves",
        ),
        pytest.param(
            entry("actions", tools=["look*"], effect="read"),
            [("e.args", TOOL_CALL, DENY, UNFIT, False, ("look*",))],
            id="an action that reads needs nothing",
        ),
        pytest.param(
            entry("actions", tools=["look*"], pinned=True),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("look*",)),
                ("e.pinned", TOOL_CALL, DENY, "tool.changed", False, ("look*",)),
            ],
            id="tools that must not change",
        ),
        pytest.param(
            entry("actions", tools=["look*"], schema={"required": ["n"]}),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("look*",)),
                ("e.schema", TOOL_CALL, DENY, "tool.valid_json", False, ("look*",)),
            ],
            id="an action with a schema of its own",
        ),
        pytest.param(
            entry(
                "actions",
                tools=["refund"],
                rate={"calls": 2},
                totals={"usd": {"value": "tool.args.n", "limit": 5}},
                duplicates={},
            ),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
                ("e.rate", TOOL_CALL, DENY, "1", False, ("refund",)),
                ("e.usd", TOOL_CALL, DENY, "tool.args.n", False, ("refund",)),
                ("e.duplicates", TOOL_CALL, DENY, "1", False, ("refund",)),
            ],
            id="what calls come to together",
        ),
        pytest.param(
            entry("actions", tools=["refund"], rate={"calls": 2}, action="require_approval", approval={"ttl": "5m"}),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("refund",)),
                ("e.rate", TOOL_CALL, ASKS, "1", False, ("refund",)),
            ],
            id="a human may go beyond",
        ),
        pytest.param(
            entry("actions", tools=["drop"], effect="external", minLevel="operate", action="strip"),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("drop",)),
                ("e.level.strip", REQUEST, Verdict.STRIP_TOOLS, "agent.rank < 3", False, ("drop",)),
                ("e.level", TOOL_CALL, DENY, "agent.rank < 3", False, ("drop",)),
            ],
            id="strip hides the tool and denies its calls",
        ),
        pytest.param(
            entry("actions", tools=["drop"], when="conversation.turn > 9", action="strip"),
            [
                ("e.args", TOOL_CALL, DENY, UNFIT, False, ("drop",)),
                ("e.strip", REQUEST, Verdict.STRIP_TOOLS, "conversation.turn > 9", False, ("drop",)),
                ("e", TOOL_CALL, DENY, "conversation.turn > 9", False, ("drop",)),
            ],
            id="strip by a condition",
        ),
    ],
)
def test_each_section_lowers_to_rules(spec: str, rules: list[tuple[Any, ...]]) -> None:
    """A section is shorthand: what it means is what its rules say."""
    assert rules == lowered(spec)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
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
            entry("actions", tools=["a"]),
            [
                "say when: give `when`, `require` or one of `duplicates`, `effect`, `minLevel`, `pinned`, `rate`, "
                '`schema`, `totals` (`when: "true"` means always)'
            ],
            id="an action that never acts",
        ),
        pytest.param(
            entry("actions", tools=["a"], schema={"properties": {"n": {"type": "strng"}}}),
            ["the schema is of no use: type cannot be 'strng'"],
            id="a schema that is none",
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
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
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
    ],
)
def test_what_leads_to_humans_is_in_the_rule(spec: str, field: str, expected: object) -> None:
    """Every key of redactions, labels, hand-offs and approvals comes out in the last rule that is lowered."""
    assert expected == getattr(compiled(spec).rules[-1], field)


@pytest.mark.parametrize(
    ("arguments", "offered", "rules"),
    [
        pytest.param('{"n": 4}', {"type": "object"}, [], id="fit"),
        pytest.param('{"n": 6}', {"type": "object"}, ["p/e.schema@1.0.0"], id="not by the entry's own schema"),
        pytest.param('{"n": 4}', {"required": ["m"]}, ["p/e.args@1.0.0"], id="not by the request's schema"),
        pytest.param('{"n": 4, "n": 4}', {"type": "object"}, ["p/e.args@1.0.0"], id="not one strict object"),
        pytest.param('{"n": 4}', None, ["p/e.args@1.0.0"], id="of a tool that takes none"),
    ],
)
def test_arguments_fit_both_schemas(arguments: str, offered: Any, rules: list[str]) -> None:
    """A call passes only if its arguments are strict JSON that fits the request's own schema and the entry's."""
    policies = compiled(entry("actions", tools=["refund"], schema={"properties": {"n": {"maximum": 5}}}))
    tools = (ToolSpec(name="refund", schema=offered),)
    decision = decided(policies, called("refund", arguments, request=request(tools=tools)), TOOL_CALL)

    assert rules == [hit.id for hit in decision.rules]


def test_a_tool_that_is_not_offered_is_denied() -> None:
    """A governed tool can be called only where the request offers it."""
    decision = decided(entry("actions", tools=["*"], effect="read"), called("x", request=request()), TOOL_CALL)

    assert ("p/e.args@1.0.0", Verdict.DENY) == (decision.rule, decision.verdict)
