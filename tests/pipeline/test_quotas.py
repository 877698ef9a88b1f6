"""Owns the proof of proxy/pipeline/quotas.py: what calls add to totals, and what gives it back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.pipeline.quotas import RETURN_MS
from proxy.policy.rule import NANO
from proxy.stores import LATEST_MS
from proxy.terms import Exchange, HeldState
from tests.fakes import Script
from tests.walking import CONFIG, Outcome, Walked, compiled

TOOLS = [{"type": "function", "function": {"name": "refund", "parameters": {}}}]
ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
SESSION = {"x-handrail-session": "s"}
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
"""
USD = "usd: {value: tool.args.n, limit: 10}"
READS = "{id: told, phase: tool_call, action: deny, when: conversation.totals.usd > 5.0}"


def actions(totals: str = USD, more: str = "", rules: str = "") -> str:
    """Write a policy with one action and some rules."""
    return f"{POLICY}  actions: [{{id: e, tools: [refund], totals: {{{totals}}}{more}}}]\n  rules: [{rules}]\n"


def replied(*calls: dict[str, Any], text: str = "") -> Script:
    """Script a reply that makes these calls of `refund`: c0, c1, …"""
    made = [
        {"id": f"c{n}", "type": "function", "function": {"name": "refund", "arguments": json.dumps(call)}}
        for n, call in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if made else "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return Script(chunks=(json.dumps({"id": "c", "model": "large", "choices": [choice], "usage": usage}).encode(),))


async def house_of(policy: str, folder: Path, *scripts: Script) -> Walked:
    """Make a house with one policy."""
    return Walked(*scripts, snapshot=await asyncio.to_thread(compiled, CONFIG, policy, folder))


def told(result: object) -> dict[str, Any]:
    """Make a request that brings the result of call c0."""
    call = {"id": "c0", "type": "function", "function": {"name": "refund", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c0", "content": json.dumps(result)},
    ]
    return {**ASK, "messages": messages}


def fates(exchange: Exchange) -> list[str]:
    """Return the reason of each decision on a call."""
    return [decision.reason for decision in exchange.decisions if decision.phase == "tool_call"]


async def used(house: Walked) -> int:
    """Return what all counters of totals come to, in units; each amount is counted once for each counter."""
    return sum(t.nanousd for pair, t in house.store._totals.items() if pair[0].startswith("total:")) // NANO


# --- room ------------------------------------------------------------------------------------------------------------


async def test_all_totals_or_none(tmp_path: Path) -> None:
    """A call that one of its totals has no room for adds to none of them."""
    house = await house_of(
        actions(f"{USD}, more: {{value: tool.args.m, limit: 5}}"), tmp_path, replied({"n": 3, "m": 6})
    )

    await house.call(ASK, headers=SESSION)

    assert (["quota"], 0) == (fates(house.seen[0]), await used(house))


async def test_rules_see_what_the_reply_has_added(tmp_path: Path) -> None:
    """`conversation.totals` grows with each call of a reply that is let through."""
    house = await house_of(actions(rules=READS), tmp_path, replied({"n": 3}, {"n": 3}, {"n": 1}), replied({"n": 1}))

    await house.call(ASK, headers=SESSION)
    await house.call(ASK, headers=SESSION)

    assert [["", "", "rule"], ["rule"]] == [fates(exchange) for exchange in house.seen]


async def test_calls_that_rewriting_makes_the_same_are_duplicates(tmp_path: Path) -> None:
    """A model cannot call twice by varying an argument that a rule says in its place."""
    rewrites = "{id: r, phase: tool_call, when: 'true', action: rewrite, rewrite: {n: '1'}}"
    policy = f"{POLICY}  actions: [{{id: e, tools: [refund], duplicates: {{}}}}]\n  rules: [{rewrites}]\n"
    house = await house_of(policy, tmp_path, replied({"n": 1}, {"n": 2}))

    await house.call(ASK, headers=SESSION)

    assert ["rule", "quota"] == fates(house.seen[0])


async def test_a_shadow_total_counts_and_tells(tmp_path: Path) -> None:
    """In mode shadow nothing is withheld, and what would have been is on record."""
    house = await house_of(actions(more=", mode: shadow"), tmp_path, replied({"n": 8}, {"n": 8}))

    await house.call(ASK, headers=SESSION)

    (exchange,) = house.seen
    assert ["allow", "deny"] == [str(decision.shadow_verdict) for decision in exchange.decisions]
    assert (("refund", "refund"), 16) == (exchange.tool_calls, await used(house))


async def test_who_has_approved_is_asked_once(tmp_path: Path) -> None:
    """An approval that the rules ask for covers a total that asks for one, and is counted beyond it."""
    policy = actions(more=", action: require_approval, when: 'true', approval: {wait: 5s}")
    house = await house_of(policy, tmp_path, replied({"n": 11}))
    house.meanwhile = lambda: house.decide(HeldState.APPROVED)

    await house.call(ASK, headers=SESSION)

    assert (["approved"], 11) == (fates(house.seen[0]), await used(house))


async def test_a_denied_approval_adds_nothing(tmp_path: Path) -> None:
    """What a human decides against is not counted."""
    house = await house_of(
        actions(more=", action: require_approval, approval: {wait: 5s}"), tmp_path, replied({"n": 11})
    )
    house.meanwhile = lambda: house.decide(HeldState.DENIED)

    await house.call(ASK, headers=SESSION)

    assert (["declined"], 0) == (fates(house.seen[0]), await used(house))


async def test_a_total_can_refuse_the_whole_reply(tmp_path: Path) -> None:
    """With `onDeny: error` a call without room is an error, and the calls before it are given back."""
    house = await house_of(actions(more=", onDeny: error"), tmp_path, replied({"n": 8}, {"n": 8}))

    outcome = await house.call(ASK, headers=SESSION)

    assert (403, 0) == (outcome.head and outcome.head.status, await used(house))


# --- what does not leave ---------------------------------------------------------------------------------------------


async def gone(house: Walked) -> Outcome:
    """Call for a client that has left."""
    return await house.call(ASK, headers=SESSION, gone=True)


async def denied(house: Walked) -> Outcome:
    """Call for one that stays."""
    return await house.call(ASK, headers=SESSION)


@pytest.mark.parametrize(
    ("rules", "call"),
    [
        pytest.param("", gone, id="the client has left"),
        pytest.param("{id: r, phase: response, action: deny, when: 'true'}", denied, id="the reply is denied"),
    ],
)
async def test_what_does_not_leave_adds_nothing(rules: str, call: Any, tmp_path: Path) -> None:
    """Calls that were let through and yet never left are given back."""
    house = await house_of(actions(rules=rules), tmp_path, replied({"n": 8}))

    await call(house)

    assert 0 == await used(house)


async def test_what_may_have_arrived_stays(tmp_path: Path) -> None:
    """A client that leaves while the reply is written may have got the call."""
    house = await house_of(actions(), tmp_path, replied({"n": 8}))

    await house.call(ASK, headers=SESSION, leave_after=1)

    assert 8 == await used(house)


# --- results ---------------------------------------------------------------------------------------------------------

FAILS = actions("usd: {value: tool.args.n, limit: 10, failed: result.json.failed}")


@pytest.mark.parametrize(
    ("results", "left"),
    [
        pytest.param([{"failed": True}], 0, id="failed"),
        pytest.param([{"failed": True}, {"failed": True}], 0, id="failed, told twice"),
        pytest.param([{"failed": False}], 8, id="happened"),
        pytest.param([{"failed": False}, {"failed": True}], 8, id="the first word counts"),
        pytest.param(["what?"], 8, id="cannot be told"),
    ],
)
async def test_a_result_gives_back_what_failed(results: list[object], left: int, tmp_path: Path) -> None:
    """The first verified result of a call decides whether it stays, once and for all."""
    house = await house_of(FAILS, tmp_path, replied({"n": 8}), *(replied(text="ok") for _ in results))
    await house.call(ASK, headers=SESSION)

    for result in results:
        await house.call(told(result), headers=SESSION)

    assert left == await used(house)


async def test_two_who_bring_the_result_give_it_back_once(tmp_path: Path) -> None:
    """Two requests with the same result, both begun before either has ended, count as one."""
    house = await house_of(FAILS, tmp_path, replied({"n": 8}), replied(text="ok"), replied(text="ok"))
    await house.call(ASK, headers=SESSION)
    before = dict(house.store._saved)
    await house.call(told({"failed": True}), headers=SESSION)
    house.store._saved |= before

    await house.call(told({"failed": True}), headers=SESSION)

    assert 0 == await used(house)


async def test_what_was_given_back_is_on_record(tmp_path: Path) -> None:
    """The call that brings the result says what its failure gave back."""
    house = await house_of(FAILS, tmp_path, replied({"n": 2.5}), replied(text="ok"))
    await house.call(ASK, headers=SESSION)
    await house.call(told({"failed": True}), headers=SESSION)

    (decision,) = house.seen[-1].decisions
    assert ("call_failed", "c0", {"returned.p/usd": "2.5"}) == (decision.reason, decision.subject, decision.annotations)


async def test_a_result_that_is_not_verified_gives_nothing_back(tmp_path: Path) -> None:
    """A result of a call that was never let through, or told twice in one history, says nothing."""
    house = await house_of(FAILS, tmp_path, replied({"n": 8}), replied(text="ok"))
    await house.call(ASK, headers=SESSION)
    twice = told({"failed": True})
    twice["messages"].append(twice["messages"][-1])

    await house.call(twice, headers=SESSION)

    assert 8 == await used(house)


async def test_after_some_days_nothing_is_given_back(tmp_path: Path) -> None:
    """A total need not wait for results for ever."""
    house = await house_of(FAILS, tmp_path, replied({"n": 8}), replied(text="ok"))
    await house.call(ASK, headers=SESSION)
    house.clock.at_ms += RETURN_MS + LATEST_MS + 1
    await house.store.recover(house.clock.at_ms)

    await house.call(told({"failed": True}), headers=SESSION)

    assert 8 == await used(house)


async def test_a_decision_knows_what_was_added_before(tmp_path: Path) -> None:
    """The facts that are kept of a decision stay as they were while later calls add to a total."""
    keep = "phase: PHASE, action: allow, when: conversation.totals.usd >= 0.0, obligations: [record]"
    phases = {"asked": "request", "called": "tool_call", "said": "response"}
    rules = [f"{{id: {name}, {keep.replace('PHASE', phase)}}}" for name, phase in phases.items()]
    policy = actions(rules=", ".join(rules))
    house = await house_of(policy, tmp_path, replied({"n": 3}, {"n": 4}))
    await house.call(ASK, headers=SESSION)

    (kept,) = house.store.kept().values()
    before = {check.decision.id: check.facts.totals["p/usd"] // NANO for check in kept.checks}
    assert {"request": 0, "tool_call0.0": 0, "tool_call0.1": 3, "response0": 7}.items() <= {
        name.partition("-")[2]: used for name, used in before.items()
    }.items()


async def test_calls_that_share_an_id_give_nothing_back(tmp_path: Path) -> None:
    """Whose failure a result tells of is not known where two calls have its id: what both added stays."""
    twice = json.loads(replied({"n": 6}, {"n": 1}).chunks[0])
    for call in twice["choices"][0]["message"]["tool_calls"]:
        call["id"] = "c0"
    policy = actions("usd: {value: tool.args.n, limit: 10, failed: result.json.failed}")
    house = await house_of(policy, tmp_path, Script(chunks=(json.dumps(twice).encode(),)), replied())

    await house.call(ASK, headers=SESSION)
    await house.call(told({"failed": True}), headers=SESSION)

    assert 7 == await used(house)
