"""Owns the proof of what calls add to totals, and of what becomes of a call that a total has no room for."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from proxy.policy.charges import beside
from proxy.policy.rule import NANO
from proxy.policy.tally import APPROVAL_TEXT, SAFE_TEXT
from proxy.terms import Approval, Decision, Facts, Mode, OnDeny, Phase, Result, Session, Verdict
from tests.policy.written import called, compiled, decided, entry, facts

CALL, RESULT = Phase.TOOL_CALL, Phase.TOOL_RESULT


def bounded(**keys: Any) -> str:
    """Write an action that bounds refunds to 5 in a conversation."""
    totals = {"usd": {"value": "tool.args.n", "limit": 5, "failed": "result.json.failed"}}
    return entry("actions", tools=["refund"], totals=totals, **keys)


def refund(n: object = 3, session: str = "se_1", name: str = "refund") -> Facts:
    """Make the facts of a refund."""
    return called(name, f'{{"n": {n}}}', session=Session(id=session))


def judged(used: int, **keys: Any) -> Decision:
    """Decide on a refund of 3 where so much was refunded before."""
    return beside(decided(bounded(**keys), refund(), CALL), {"p/usd": used * NANO})


def test_a_call_says_what_it_adds() -> None:
    """The decision on a call that may go on says what it adds to which total, under what limit."""
    (charge,) = decided(bounded(severity="high"), refund(), CALL).charges

    assert ("p/usd", 3 * NANO, 5 * NANO, "p/e.usd@1.0.0") == (
        charge.total,
        charge.amount_nano,
        charge.limit.cap_nanousd,
        charge.limit.rule,
    )
    assert (charge.limit.scope, charge.limit.window) == charge.told
    assert (Verdict.DENY, "high", True) == (charge.action, charge.severity, charge.returns)


@pytest.mark.parametrize(
    ("known", "charges"),
    [
        pytest.param(refund(0), 0, id="nothing"),
        pytest.param(refund(3, name="look"), 0, id="another tool"),
        pytest.param(refund(3), 1, id="something"),
    ],
)
def test_only_what_adds_something_is_charged(known: Facts, charges: int) -> None:
    """A call of another tool, or one that adds nothing, needs no room."""
    policy = entry("actions", tools=["refund"], rate={"calls": 1}, mode="off") + "\n" + "  rules: []"
    assert charges == len(decided(bounded(), known, CALL).charges)
    assert () == decided(policy, known, CALL).charges


def test_totals_do_not_name_whom_they_are_of() -> None:
    """Whose total it is tells one counter from another, and stands nowhere in clear."""
    keyed = {"usd": {"value": "1", "limit": 5, "window": "day", "key": "tool.args.who"}}
    policies = compiled(entry("actions", tools=["refund"], totals=keyed))
    anna, ben = (
        decided(policies, called("refund", f'{{"who": "{who}"}}'), CALL).charges[0].limit for who in ("anna", "ben")
    )

    assert anna.scope != ben.scope
    assert anna.window == ben.window
    assert "anna" not in anna.scope


@pytest.mark.parametrize(
    ("used", "keys", "verdict", "message"),
    [
        pytest.param(2, {}, Verdict.ALLOW, "", id="just room"),
        pytest.param(3, {}, Verdict.DENY, SAFE_TEXT, id="no room"),
        pytest.param(3, {"message": "No."}, Verdict.DENY, "No.", id="in its own words"),
        pytest.param(3, {"messageExpression": "'No ' + tool.name"}, Verdict.DENY, "No refund", id="in computed words"),
        pytest.param(3, {"action": "require_approval"}, Verdict.REQUIRE_APPROVAL, APPROVAL_TEXT, id="a human decides"),
    ],
)
def test_a_total_has_room_or_not(used: int, keys: dict[str, Any], verdict: Verdict, message: str) -> None:
    """A call that would go beyond the limit gets the entry's action, with the reason `quota`."""
    decision = judged(used, **keys)

    assert (verdict, message) == (decision.verdict, decision.message)
    assert ("" if verdict is Verdict.ALLOW else "quota") == decision.reason


def test_a_refusal_is_whole() -> None:
    """The decision names the rule, how the denial looks and how a human is asked."""
    denied = judged(3, onDeny="error", severity="low")
    asked = judged(3, action="require_approval", approval={"group": "leads"})

    assert ("p/e.usd@1.0.0", OnDeny.ERROR, None) == (denied.rule, denied.on_deny, denied.approval)
    assert [("p/e.usd@1.0.0", "low")] == [(hit.id, hit.severity) for hit in denied.rules]
    assert Approval(group="leads") == asked.approval


def test_a_shadow_total_only_tells() -> None:
    """In mode shadow a call beyond the limit goes on, and what would have become of it is on record."""
    decision = judged(3, mode="shadow")

    assert (Verdict.ALLOW, Verdict.DENY) == (decision.verdict, decision.shadow_verdict)
    assert [Mode.SHADOW] == [hit.mode for hit in decision.rules]


@pytest.mark.parametrize("n", ["-1", '"5"', "true", "1e300"])
def test_what_cannot_be_added_up_is_an_error(n: str) -> None:
    """A value that is no amount follows onError, which denies unless said otherwise."""
    assert ("policy_error", Verdict.DENY) == (
        decided(bounded(), refund(n), CALL).reason,
        decided(bounded(), refund(n), CALL).verdict,
    )
    assert Verdict.ALLOW is decided(bounded(onError="allow"), refund(n), CALL).verdict


def test_nobody_s_total_is_an_error() -> None:
    """A key that is empty or fails does not put everybody into one total."""
    keyed = entry("actions", tools=["refund"], rate={"calls": 1, "window": "day", "per": "user"})

    assert "policy_error" == decided(keyed, refund(), CALL).reason


@pytest.mark.parametrize(
    ("when", "phase"),
    [
        pytest.param("conversation.totals.usd > 2.0", Phase.REQUEST, id="one"),
        pytest.param("conversation.totals == {'usd': 2.5}", Phase.REQUEST, id="all"),
        pytest.param("has(conversation.totals.usd)", CALL, id="whether it is there"),
    ],
)
def test_a_policy_reads_its_totals(when: str, phase: Phase) -> None:
    """What the conversation has added to a total of the policy can be read in every phase."""
    spec = f'{bounded()}\n  rules: [{{id: r, phase: {phase}, action: deny, when: "{when}"}}]'
    policies = compiled(spec)
    known = replace(refund(), totals={"p/usd": NANO * 5 // 2})

    assert "p/r@1.0.0" == decided(policies, known, phase).rule
    assert {"p/usd": policies.decide(CALL, refund(), "d").charges[0].told} == policies.told_totals("se_1")


def test_only_what_is_read_is_fetched() -> None:
    """Totals that no rule reads need not be looked up."""
    assert {} == compiled(bounded()).told_totals("se_1")


@pytest.mark.parametrize(
    ("name", "text", "failed"),
    [
        pytest.param("p/usd", '{"failed": true}', True, id="failed"),
        pytest.param("p/usd", '{"failed": false}', False, id="happened"),
        pytest.param("p/usd", '{"ok": 1}', False, id="cannot be told"),
        pytest.param("p/usd", '{"failed": 1}', False, id="neither true nor false"),
        pytest.param("p/gone", '{"failed": true}', False, id="a total that is gone"),
        pytest.param("p/e.rate", '{"failed": true}', False, id="without a word on failures"),
    ],
)
def test_a_result_shows_that_its_call_failed(name: str, text: str, failed: bool) -> None:
    """Only what is shown gives anything back."""
    known = facts(result=Result(tool="refund", call_id="c1", text=text))

    assert failed is compiled(bounded(rate={"calls": 1})).failed(name, known)


def test_what_is_added_is_what_leaves() -> None:
    """A total adds up the arguments that rules have made, wherever they stand, not what the model wrote."""
    rewrite = "{id: r, phase: tool_call, action: rewrite, when: 'true', rewrite: {n: '2'}}"
    decision = decided(f"{bounded()}\n  rules: [{rewrite}]", refund(4), CALL)

    assert [2 * NANO] == [charge.amount_nano for charge in decision.charges]
