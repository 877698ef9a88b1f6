"""Owns the proof of the set: whom policies apply to, what they need, what they decide, what they limit."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from proxy.errors import BudgetExceeded
from proxy.policy import PolicySet
from proxy.policy.decide import KEPT_CALLERS
from proxy.terms import (
    Caller,
    Chunk,
    Facts,
    Level,
    Message,
    OnDeny,
    OnDisconnect,
    Phase,
    ToolCall,
    ToolSpec,
    Verdict,
)
from tests.policy.written import (
    ANNOTATE,
    AT_MS,
    BROKEN,
    DENY,
    annotate,
    at_level,
    called,
    compiled,
    decided,
    facts,
    found,
    policy,
    replied,
    request,
    rule,
    source,
    verdict,
)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param({"agents": ["support-*"]}, Verdict.DENY, id="agent"),
        pytest.param({"agents": ["sales-*"]}, Verdict.ALLOW, id="another agent"),
        pytest.param({"models": ["gpt", "lar?e"]}, Verdict.DENY, id="model"),
        pytest.param({"models": ["gpt"]}, Verdict.ALLOW, id="another model"),
        pytest.param({"tenants": ["acme"]}, Verdict.DENY, id="tenant"),
        pytest.param({"tenants": ["umbrella"]}, Verdict.ALLOW, id="another tenant"),
        pytest.param({"agents": ["support-*"], "tenants": ["umbrella"]}, Verdict.ALLOW, id="all must fit"),
        pytest.param({"when": "agent.rank == 2"}, Verdict.DENY, id="condition"),
        pytest.param({"when": "agent.rank == 3"}, Verdict.ALLOW, id="condition not met"),
        pytest.param({"when": "vars.two == agent.rank"}, Verdict.DENY, id="condition on a variable"),
    ],
)
def test_a_selector_says_whom_a_policy_is_for(selector: dict[str, Any], expected: Verdict) -> None:
    """A policy applies where all of its selector fits."""
    spec = policy({"when": "true"}, selector=selector, variables=[{"name": "two", "expression": "2"}])

    assert expected == verdict(spec, facts())


def test_a_selector_that_fails_selects_and_fails_every_rule() -> None:
    """If it cannot be told whether a policy applies, each of its rules follows its onError."""
    decision = decided(
        policy({"when": "false"}, {"when": "false", "onError": "allow"}, selector={"when": BROKEN}), facts()
    )

    assert (Verdict.DENY, "policy_error", [Verdict.DENY, Verdict.ALLOW]) == (
        decision.verdict,
        decision.reason,
        [hit.action for hit in decision.rules],
    )


def two_policies() -> PolicySet:
    """Load one policy for support and one for sales."""
    support = policy({"when": "guards.topics.flagged", "phase": "response"}, selector={"agents": ["support-*"]})
    sales = policy({"when": "spend.agent.usd > 1.0"}, selector={"agents": ["sales-*"]})
    return compiled(source(support, name="a"), source(sales, name="b", path="b.yaml"))


def test_narrowing_keeps_what_applies() -> None:
    """A narrowed set needs, holds and reads only what its own policies do; the digest stays that of the bundle."""
    whole = two_policies()
    support, sales = whole.narrow("support-web", "m", "t"), whole.narrow("sales-web", "m", "t")

    assert [(True, ("topics",), False), (False, (), True)] == [
        (one.holds_response, one.guards_needed(Phase.RESPONSE), one.reads(Phase.REQUEST, ("spend",)))
        for one in (support, sales)
    ]
    assert [["a"], ["b"]] == [[document.name for document in one.documents] for one in (support, sales)]
    assert {whole.digest} == {support.digest, sales.digest}


def test_narrowing_is_remembered_and_shared() -> None:
    """Callers to whom the same policies apply share one set; one that takes all is the whole set itself."""
    whole, everyone = two_policies(), compiled(policy(DENY))

    assert whole.narrow("support-a", "m", "t") is whole.narrow("support-b", "n", "t")
    assert everyone is everyone.narrow("x", "y", "z")


def test_names_that_a_client_makes_up_do_not_pile_up() -> None:
    """Any number of model names leaves a bounded memory behind, and decisions stay right."""
    policies = two_policies()

    for number in range(KEPT_CALLERS + 2):
        policies.narrow("support-web", f"model-{number}", "t")

    assert len(policies._narrowed) <= KEPT_CALLERS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("issue_refund", Verdict.DENY, id="a call it is about"),
        pytest.param("look", Verdict.ALLOW, id="another call"),
    ],
)
def test_a_tool_rule_is_about_its_tools(name: str, expected: Verdict) -> None:
    """`tools` in phase tool_call names the calls that a rule judges."""
    decision = decided(rule(phase="tool_call", when="true", tools=["issue_*"]), called(name), Phase.TOOL_CALL)

    assert (expected, "c1") == (decision.verdict, decision.subject)


def test_an_action_denies_arguments_that_are_not_json() -> None:
    """A governed tool is never called with arguments that two readers could read differently."""
    spec = '  actions: [{id: e, tools: [refund], require: "tool.args.n < 5", message: no}]'

    decisions = [
        decided(spec, called("refund", arguments), Phase.TOOL_CALL)
        for arguments in ('{"n": 1}', '{"n": 1, "n": 9}', "{")
    ]

    assert [Verdict.ALLOW, Verdict.DENY, Verdict.DENY] == [decision.verdict for decision in decisions]
    assert ["", "p/e.args@1.0.0", "p/e.args@1.0.0"] == [decision.rule for decision in decisions]
    assert ["", "rule", "rule"] == [decision.reason for decision in decisions]


@pytest.mark.parametrize(
    ("level", "seen", "expected"),
    [
        pytest.param(Level.ASSIST, ("drop",), Verdict.DENY, id="assist"),
        pytest.param(Level.EXECUTE, ("drop",), Verdict.DENY, id="execute"),
        pytest.param(Level.OPERATE, (), Verdict.ALLOW, id="operate"),
    ],
)
def test_strip_hides_a_tool_and_denies_its_calls(level: Level, seen: tuple[str, ...], expected: Verdict) -> None:
    """Below its level a tool is taken out of the request, and a model that calls it all the same is refused."""
    policies = compiled("  actions: [{id: e, tools: [drop], minLevel: operate, action: strip, message: no}]")
    offered = request(tools=(ToolSpec(name="drop", schema={}),))

    stripped = decided(policies, facts(request=offered, caller=at_level(level))).strip
    denied = verdict(policies, called("drop", request=offered, caller=at_level(level)), Phase.TOOL_CALL)

    assert (seen, expected) == (stripped, denied)


@pytest.mark.parametrize("when", [pytest.param("true", id="matches"), pytest.param("1 / 0 == 1", id="fails")])
def test_a_rule_has_nothing_to_say_of_tools_that_are_not_offered(when: str) -> None:
    """Where a request offers none of its tools, a rule that strips them is not on record, and no fault of it denies."""
    policies = compiled(f"  rules: [{{id: s, phase: request, action: strip_tools, tools: [drop_*], when: '{when}'}}]")

    decision = decided(policies, facts(request=request(tools=(ToolSpec(name="keep", schema={}),))))

    assert (Verdict.ALLOW, ()) == (decision.verdict, decision.rules)


def test_a_reply_rule_that_holds_acts() -> None:
    """A reply waits for a denying rule, which then denies."""
    policies = compiled(rule(phase="response", when="response.text == 'x'"))

    assert (True, Verdict.DENY) == (policies.holds_response, verdict(policies, replied("x"), Phase.RESPONSE))


def test_a_reply_rule_after_only_detects() -> None:
    """What has left cannot be denied: the verdict is on record as shadow, streamed or not."""
    policies = compiled(rule(phase="response", when="response.text == 'x'", stream="after"))

    decision = decided(policies, replied("x"), Phase.RESPONSE)

    assert (False, Verdict.ALLOW, Verdict.DENY, 1) == (
        policies.holds_response,
        decision.verdict,
        decision.shadow_verdict,
        len(decision.rules),
    )


def test_an_annotating_reply_rule_acts_without_holding() -> None:
    """An annotation needs no reply to wait; only its error, which could not act any more, is shadow."""
    policies = compiled(policy({**ANNOTATE, "phase": "response"}, {**annotate(BROKEN), "phase": "response"}))

    decision = decided(policies, replied("x"), Phase.RESPONSE)

    assert (False, Verdict.ANNOTATE, {"a": "b"}, Verdict.DENY) == (
        policies.holds_response,
        decision.verdict,
        decision.annotations,
        decision.shadow_verdict,
    )


def limited(entry: str, known: Facts | None = None, before: str = "") -> list[tuple[str, str, int]]:
    """Return scope, window and cap of the limits of a policy."""
    policies = compiled(f"{before}  spend: [{entry}]")
    return [(limit.scope, limit.window, limit.cap_nanousd) for limit in policies.limits(known or facts())]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param("{id: e, scope: request, limitUSD: 0.25}", ("request", "", 250_000_000), id="one call"),
        pytest.param(
            "{id: e, scope: conversation, limitUSD: 2}",
            ("conversation:se_1", "conversation", 2_000_000_000),
            id="a conversation",
        ),
        pytest.param(
            "{id: e, scope: conversation, window: hour, limitUSD: 2}",
            ("conversation:se_1", f"hour:UTC:{AT_MS}", 2_000_000_000),
            id="an hour of a conversation",
        ),
        pytest.param(
            "{id: e, scope: agent, window: day, timezone: Europe/Madrid, limitUSD: 1}",
            ("agent:support-web", f"day:Europe/Madrid:{AT_MS}", 1_000_000_000),
            id="an agent's day",
        ),
    ],
)
def test_a_limit_is_counted_under_its_scope_and_window(entry: str, expected: tuple[str, str, int]) -> None:
    """What a limit counts follows from the call and its time."""
    assert [expected] == limited(entry)


def test_users_and_tenants_have_counters_of_their_own() -> None:
    """A user is counted under the digest that the hallway made of its name; so is a tenant under its name."""
    day = f"day:UTC:{AT_MS}"

    assert [("user:abc", day, 10**9)] == limited("{id: e, scope: user, window: day, limitUSD: 1}", facts(user="abc"))
    assert [("tenant:acme", day, 10**9)] == limited("{id: e, scope: tenant, window: day, limitUSD: 1}")


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_limit_by_user_needs_a_user(on_error: str) -> None:
    """Whose budget a call is must be told, or `onError: allow` say to go on without."""
    spec = "{id: e, scope: user, window: day, limitUSD: 1}"
    if on_error == "deny":
        with pytest.raises(BudgetExceeded, match="whose budget"):
            limited(spec)
        return

    assert [] == limited(spec, before="  onError: allow\n")


def test_what_is_read_of_spend_is_known() -> None:
    """No counter is asked for that no rule reads."""
    read = compiled(rule(when="spend.user.usd > 1.0 && spend.request.max_usd > 1.0 && spend.remaining.usd < 1.0"))

    assert frozenset(("user", "est_nanousd", "max_nanousd", "remaining_nanousd")) == read.spend_read
    assert frozenset() == compiled(rule(when="true")).spend_read


def test_a_key_is_counted_under_its_digest() -> None:
    """A key keeps customers apart, and says nothing of them in the store."""
    entry = "{id: e, key: request.metadata.customer, window: month, limitUSD: 1}"
    scopes = [
        limited(entry, facts(request=request(metadata={"customer": name})))[0][0] for name in ("ann", "ann", "bob")
    ]

    assert scopes[0] == scopes[1] != scopes[2]
    assert all(scope.startswith("key:p/e:") and "ann" not in scope for scope in scopes)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="there is no key"),
        pytest.param({"customer": ""}, id="the key is empty"),
    ],
)
def test_a_key_that_cannot_be_told_denies(metadata: dict[str, str]) -> None:
    """Nobody's budget is not free: the request is denied, and the limits cannot be had either."""
    policies = compiled("  spend: [{id: e, key: request.metadata.customer, window: month, limitUSD: 1}]")
    known = facts(request=request(metadata=metadata))

    assert "policy_error" == decided(policies, known).reason
    with pytest.raises(BudgetExceeded) as raised:
        policies.limits(known)
    assert "p/e@1.0.0" == raised.value.rule


def test_a_key_that_is_told_denies_nothing() -> None:
    """The rule behind a key only ever fails; it never matches."""
    policies = compiled("  spend: [{id: e, key: caller.tenant, window: month, limitUSD: 1}]")

    assert (Verdict.ALLOW, True, ()) == (
        verdict(policies, facts()),
        policies.has(Phase.REQUEST),
        decided(policies, facts()).rules,
    )


def test_on_error_allow_goes_on_without_the_limit() -> None:
    """Where it was written out, a key that fails puts the limit aside, on record."""
    policies = compiled("  onError: allow\n  spend: [{id: e, key: request.metadata.x, window: day, limitUSD: 1}]")

    assert ((), Verdict.ALLOW, 1) == (
        policies.limits(facts()),
        verdict(policies, facts()),
        len(decided(policies, facts()).rules),
    )


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param("  selector: {when: 'agent.rank == 2'}\n", 1, id="selected"),
        pytest.param("  selector: {when: 'agent.rank == 3'}\n", 0, id="not selected"),
        pytest.param(f'  selector: {{when: "{BROKEN}"}}\n', 1, id="a selector that fails"),
        pytest.param("  selector: {agents: [sales]}\n", 0, id="another agent"),
        pytest.param("  mode: off\n", 0, id="off"),
        pytest.param("  mode: shadow\n", 0, id="shadow"),
    ],
)
def test_a_limit_holds_where_its_policy_does(before: str, expected: int) -> None:
    """Limits follow the selector and the mode; a selector that fails keeps its limits."""
    assert expected == len(limited("{id: e, scope: conversation, limitUSD: 2}", before=before))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("  onDisconnect: abort\n", OnDisconnect.ABORT, id="abort"),
        pytest.param("  onDisconnect: drain\n", OnDisconnect.DRAIN, id="drain"),
        pytest.param("  onDisconnect: abort\n  mode: shadow\n", OnDisconnect.DRAIN, id="shadow"),
        pytest.param("  onDisconnect: abort\n  mode: off\n", OnDisconnect.DRAIN, id="off"),
        pytest.param(
            "  onDisconnect: abort\n  selector: {when: 'agent.rank == 2'}\n", OnDisconnect.ABORT, id="selected"
        ),
        pytest.param(
            "  onDisconnect: abort\n  selector: {when: 'agent.rank == 3'}\n", OnDisconnect.DRAIN, id="not selected"
        ),
        pytest.param(
            f'  onDisconnect: abort\n  selector: {{when: "{BROKEN}"}}\n', OnDisconnect.ABORT, id="a selector that fails"
        ),
        pytest.param("  onDisconnect: abort\n  selector: {agents: [sales]}\n", OnDisconnect.DRAIN, id="another agent"),
    ],
)
def test_what_becomes_of_a_reply_whose_client_leaves(spec: str, expected: OnDisconnect) -> None:
    """It follows the selector and the mode; a policy needs nothing else to say, and asks no rule."""
    policies = compiled(spec)

    assert (expected, False) == (policies.on_disconnect(facts()), policies.has(Phase.REQUEST))


def test_one_policy_that_aborts_is_enough() -> None:
    """What is not needed is not paid for: another policy's `drain` does not keep the reply going."""
    policies = compiled(
        source("  onDisconnect: abort\n", name="a"), source("  onDisconnect: drain\n", name="b", path="b.yaml")
    )

    assert OnDisconnect.ABORT is policies.on_disconnect(facts())


def test_a_limit_alone_asks_nothing() -> None:
    """A policy of limits has no rule to evaluate, and its limits carry their text."""
    policies = compiled("  spend: [{id: e, scope: request, limitUSD: 1, message: too much, onDeny: reply}]")
    (limit,) = policies.limits(facts())

    assert (False, "p/e@1.0.0", "too much", OnDeny.REPLY) == (
        policies.has(Phase.REQUEST),
        limit.rule,
        limit.message,
        limit.on_deny,
    )


def test_explain_shows_every_rule_with_its_values() -> None:
    """Matched, unmatched and failed rules are all explained, each sub-expression with its value."""
    policies = compiled(policy({"when": "agent.rank > 1"}, {"when": "agent.rank > 2"}, {"when": BROKEN}))

    explained = policies.explain(Phase.REQUEST, facts())

    assert [("p/r0@1.0.0", "matched"), ("p/r1@1.0.0", "unmatched"), ("p/r2@1.0.0", "error")] == [
        (one.rule.id, one.outcome) for one in explained
    ]
    assert (("agent.rank > 1", "True"), ("agent.rank", "2")) == explained[0].values
    assert "no such field: nothing" == explained[2].error
    assert any(value.startswith("error: ") for _, value in explained[2].values)


def test_explain_does_not_show_endless_texts() -> None:
    """A long value is cut for the reader."""
    (one,) = compiled(rule(when="request.user_text == 'x'")).explain(
        Phase.REQUEST, facts(request=request(messages=(Message(role="user", text="y" * 5000),)))
    )

    assert max(len(value) for _, value in one.values) <= 201


def test_the_set_is_for_any_caller() -> None:
    """Deciding on the whole set and on the narrowed one gives the same."""
    policies, known = two_policies(), facts(guards=found("x"))
    narrowed = policies.narrow("support-web", "large", "acme")

    assert policies.decide(Phase.REQUEST, known, "d") == narrowed.decide(Phase.REQUEST, known, "d")


def test_a_call_in_another_choice_is_judged_by_itself() -> None:
    """The subject of a decision is the call that was judged."""
    known = replace(called("t"), tool=ToolCall(id="c7", name="t", arguments="{}", index=3, choice=1))

    assert "c7" == decided(rule(phase="tool_call", when="tool.index == 3"), known, Phase.TOOL_CALL).subject


def test_a_caller_without_a_tenant_is_nobody_elses() -> None:
    """A policy for one tenant leaves callers without a tenant alone."""
    nobody = Caller(agent="support-web", level=Level.EXECUTE, principal="x")

    assert Verdict.ALLOW == verdict(policy(DENY, selector={"tenants": ["acme"]}), facts(caller=nobody))


WINDOW: dict[str, Any] = {"phase": "chunk", "action": "mask"}
LOOK: dict[str, Any] = {"phase": "chunk", "action": "deny", "when": "chunk.final"}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([], None, id="no rule"),
        pytest.param([{"when": "true"}], None, id="none of phase chunk"),
        pytest.param([{**WINDOW, "kinds": ["email"]}], (32, 64, True), id="what a guard looks at, 32 at least"),
        pytest.param([{**WINDOW, "pattern": "[ab]{3,99}"}], (100, 100, True), id="the longest find, and one more"),
        pytest.param([LOOK], (200, 200, True), id="what a condition sees"),
        pytest.param([{**LOOK, "window": 40}], (40, 40, True), id="what it says that it sees"),
        pytest.param([{**WINDOW, "kinds": ["email"], "when": "true", "window": 99}], (99, 99, True), id="the wider"),
        pytest.param([{**LOOK, "window": 40}, {**WINDOW, "pattern": "a"}], (40, 40, True), id="as far as any rule"),
        pytest.param([{**LOOK, "mode": "shadow"}], (200, 200, False), id="in shadow nothing waits"),
        pytest.param([{**LOOK, "mode": "off"}], None, id="off"),
    ],
)
def test_rules_of_steps_say_how_far_they_see(rules: list[dict[str, Any]], expected: tuple[int, int, bool]) -> None:
    """What is kept of a text before and after a step follows from its rules, and so does whether it waits."""
    reach = (compiled(policy(*rules)) if rules else compiled()).reach

    assert expected == (reach and (reach.behind, reach.ahead, reach.waits))


def test_the_callers_own_policies_say_how_far_they_see() -> None:
    """A policy for another agent holds nothing back."""
    spec = "  selector: {agents: [other]}\n" + policy(LOOK)

    assert compiled(spec).narrow("support", "large", "").reach is None


def test_a_step_that_cannot_be_escalated_is_denied() -> None:
    """A step of a text is not handed over; with `onError: escalate` it is denied, and names the queue all the same."""
    failing = policy({**LOOK, "when": "chunk.text == request.metadata.none", "onError": "escalate"})

    found = decided(failing, facts(chunk=Chunk(text="a", end=1, choice=2, field="refusal")), Phase.CHUNK)

    assert (Verdict.DENY, "policy_error", "2.refusal") == (found.verdict, found.reason, found.subject)
    assert found.escalation is not None
