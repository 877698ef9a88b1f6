"""Owns the proof of what rules may say in the place of what was, and that several of them add up."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.policy.rewriting import LONGEST
from proxy.terms import Decision, Json, Phase, Reply, ToolSpec, Verdict
from tests.policy.written import called, compiled, decided, facts, policy, replied, request, rule, source


def rewrite(**names: str) -> dict[str, Any]:
    """Write a rule that rewrites."""
    return {"action": "rewrite", "when": "true", "rewrite": names}


def rewritten(phase: str, *entries: dict[str, Any]) -> Decision:
    """Decide on a call of `refund`, a reply or a request, with rules of that phase."""
    known = {
        Phase.TOOL_CALL: called("refund", '{"amount": 80, "to": "card"}'),
        Phase.RESPONSE: replied("Sure! Mail a@b.example."),
        Phase.REQUEST: facts(),
    }
    return decided(policy(*({"phase": phase, **entry} for entry in entries)), known[Phase(phase)], Phase(phase))


@pytest.mark.parametrize(
    ("phase", "name", "expression", "expected"),
    [
        pytest.param("request", "instructions", "'Say that you are an AI.'", "Say that you are an AI.", id="a text"),
        pytest.param("request", "max_tokens", "100", 100, id="a bound"),
        pytest.param("request", "temperature", "0.5", 0.5, id="a temperature"),
        pytest.param("request", "temperature", "0", 0, id="a whole temperature"),
        pytest.param("response", "text", "response.text.replace('Sure', 'Yes')", "Yes! Mail a@b.example.", id="reply"),
        pytest.param("tool_call", "amount", "math.least(tool.args.amount, 50)", 50, id="an argument"),
        pytest.param("tool_call", "amount", "5u", 5, id="unsigned"),
        pytest.param("tool_call", "note", "null", None, id="a new argument"),
        pytest.param("tool_call", "note", "{'a': [1, 2.5, true, 'x']}", {"a": [1, 2.5, True, "x"]}, id="a structure"),
    ],
)
def test_a_rule_says_what_stands_in_the_place_of_what_was(
    phase: str, name: str, expression: str, expected: Json
) -> None:
    """What the expression gives is what is said, and the verdict is `rewrite`."""
    decision = rewritten(phase, rewrite(**{name: expression}))

    assert (Verdict.REWRITE, {name: expected}) == (decision.verdict, decision.rewrites)


@pytest.mark.parametrize(
    ("phase", "name", "expression", "error"),
    [
        ("request", "instructions", "1", f"instructions is to be a text of at most {LONGEST} characters"),
        ("request", "max_tokens", "0", "max_tokens is to be a whole number above 0"),
        ("request", "max_tokens", "true", "max_tokens is to be a whole number above 0"),
        ("request", "max_tokens", "1.5", "max_tokens is to be a whole number above 0"),
        ("request", "temperature", "2.5", "temperature is to be a number from 0 to 2"),
        ("request", "temperature", "'hot'", "temperature is to be a number from 0 to 2"),
        ("tool_call", "amount", "now", "an argument is to be what JSON can say"),
        ("tool_call", "amount", "1.0 / 0.0", "an argument is to be what JSON can say"),
        ("tool_call", "amount", "{1: 2}", "an argument is to be what JSON can say"),
        ("tool_call", "amount", "tool.args.nothing", "no such field: nothing"),
    ],
)
def test_what_cannot_stand_there_fails_the_rule(phase: str, name: str, expression: str, error: str) -> None:
    """A rule that cannot say what it has to fails closed."""
    decision = rewritten(phase, rewrite(**{name: expression}))

    assert (Verdict.DENY, "policy_error", {}) == (decision.verdict, decision.reason, decision.rewrites)
    assert error in decision.rules[0].error


def test_a_text_too_long_fails_the_rule() -> None:
    """A reply cannot be made endless."""
    decision = decided(
        rule(phase="response", action="rewrite", when="true", rewrite={"text": "response.text + 'x'"}),
        replied("x" * LONGEST),
        Phase.RESPONSE,
    )

    assert "policy_error" == decision.reason


def test_rules_see_what_those_before_have_said_and_conditions_what_was() -> None:
    """What is rewritten adds up in the order of the rules; no rewriting hides from a denial what it is about."""
    decision = rewritten(
        "response",
        rewrite(text="response.text + ' One.'"),
        {**rewrite(text="response.text + ' Two.'"), "when": "!response.text.contains('One')"},
        {"action": "deny", "when": "response.text.contains('One')"},
    )

    assert (Verdict.REWRITE, "Sure! Mail a@b.example. One. Two.") == (decision.verdict, decision.rewrites["text"])


def test_arguments_add_up() -> None:
    """A rule sees the arguments that those before have set; within a rule all see the same."""
    decision = rewritten(
        "tool_call",
        rewrite(amount="50", before="tool.args.amount"),
        rewrite(half="tool.args.amount / 2"),
    )

    assert {"amount": 50, "before": 80, "half": 25} == decision.rewrites


def test_variables_follow_what_was_said() -> None:
    """A variable that reads the text is read anew by a rule that rewrites after another."""
    spec = policy(
        {"phase": "response", **rewrite(text="'a'")},
        {"phase": "response", **rewrite(text="vars.twice")},
        variables=[{"name": "twice", "expression": "response.text + response.text"}],
    )

    assert "aa" == decided(spec, replied("b"), Phase.RESPONSE).rewrites["text"]


@pytest.mark.parametrize("entry", [{"mode": "shadow"}, {"stream": "after"}], ids=["shadow", "after"])
def test_a_rule_that_does_not_act_says_nothing(entry: dict[str, Any]) -> None:
    """Neither the reply nor the rules after it see what it would have said."""
    decision = rewritten("response", {**rewrite(text="'never'"), **entry}, rewrite(text="response.text + '!'"))

    assert (Verdict.REWRITE, "Sure! Mail a@b.example.!") == (decision.shadow_verdict, decision.rewrites["text"])


def test_what_is_taken_out_is_looked_for_in_what_is_said() -> None:
    """A redaction covers the reply as the customer would read it: what is gone needs no cover, what came needs one."""
    redact = {"action": "mask", "kinds": ["email"]}

    decision = rewritten("response", redact, rewrite(text="'Write to x@y.example'"))
    nothing_left = rewritten("response", redact, rewrite(text="'Write to us'"))

    assert [(9, 20)] == [(span.start, span.end) for span in decision.spans]
    assert ((), Verdict.REWRITE) == (nothing_left.spans, nothing_left.verdict)


def test_nothing_is_looked_for_where_there_is_no_reply() -> None:
    """A rule that fails for want of a reply rewrites none."""
    spec = rule(phase="response", action="rewrite", when="true", rewrite={"text": "'x'"})

    assert {"text": "x"} == compiled(spec).decide(Phase.RESPONSE, facts(), "d").rewrites


def test_policies_add_up_in_the_order_of_priority() -> None:
    """The order is that of texts and routes: priority, then name."""
    late = source(rule(phase="response", **rewrite(text="response.text + 'B'")), name="a")
    first = source("  priority: 1\n" + rule(phase="response", **rewrite(text="response.text + 'A'")), name="b")

    assert "AB" == compiled(late, first).decide(Phase.RESPONSE, facts(response=Reply()), "d").rewrites["text"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("50", Verdict.REWRITE), ("'many'", Verdict.DENY), ("500", Verdict.DENY)],
    ids=["fits", "another type", "out of bounds"],
)
def test_a_tool_gets_nothing_that_it_does_not_take(expression: str, expected: Verdict) -> None:
    """What a rule says in a call has to fit the schema that the request gives of its tool, else the rule fails."""
    schema: Json = {"type": "object", "properties": {"amount": {"type": "number", "maximum": 100}}}
    known = called("refund", '{"amount": 80}', request=request(tools=(ToolSpec(name="refund", schema=schema),)))

    decision = decided(rule(phase="tool_call", **rewrite(amount=expression)), known, Phase.TOOL_CALL)

    assert expected is decision.verdict
