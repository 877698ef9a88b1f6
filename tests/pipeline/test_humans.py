"""Owns the proof of proxy/pipeline/humans.py beyond the walks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.errors import Overloaded
from proxy.stores.memory import MemoryStore
from proxy.terms import Handoff, HeldState, Verdict
from tests.fakes import Script
from tests.walking import CONFIG, Walked, compiled

REFUND = (
    b'{"id":"c","model":"large","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant",'
    b'"content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"refund","arguments":"{}"}}]}}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":5}}'
)
REFUNDS = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}
ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Hi"}], "tools": [REFUNDS]}
SESSION = {"x-handrail-session": "s"}
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
"""
WAITS = (
    POLICY
    + "  actions: [{id: r, tools: [refund], when: 'true', action: require_approval, approval: {ttl: 60s, wait: 5s}}]"
)
HANDS_OVER = POLICY + "  escalation: [{id: e, when: 'true', to: tier2, message: One moment.}]"


SAYS = (
    POLICY
    + """
  data: [{id: out, direction: tool_args, kinds: [email], action: mask}]
  rules: [{id: w, phase: tool_call, when: 'true', action: rewrite, rewrite: {n: '5'}}]
  actions: [{id: r, tools: [refund], when: 'true', action: require_approval, approval: {wait: 5s}}]
"""
)


async def house_of(policy: str, tmp_path: Path, *scripts: Script) -> Walked:
    """Make a house with one policy."""
    snapshot = await asyncio.to_thread(compiled, CONFIG, policy, tmp_path)
    return Walked(*scripts, snapshot=snapshot)


async def test_what_leaves_is_what_is_approved(tmp_path: Path) -> None:
    """Who approves reads the arguments as rules rewrite them, without what rules take out, and the agent gets these."""
    reply = REFUND.replace(b'"{}"', b'"{\\"n\\": 900, \\"to\\": \\"ann@example.org\\"}"')
    house = await house_of(SAYS, tmp_path, Script(chunks=(reply,)))
    house.meanwhile = lambda: house.decide(HeldState.APPROVED)

    outcome = await house.call(ASK)

    (held,) = await house.store.held(None, 9)
    assert '{"n":5,"to":"[EMAIL]"}' == held.arguments
    assert held.arguments.replace('"', '\\"').encode() in outcome.body
    assert {"n": None} == house.seen[0].decisions[-1].rewrites


async def test_an_approved_call_has_one_reading(tmp_path: Path) -> None:
    """Of a key that stands there twice the agent gets the one that was approved, whichever its parser would take."""
    rule = "  rules: [{id: w, phase: tool_call, when: 'true', action: require_approval, approval: {wait: 5s}}]"
    reply = REFUND.replace(b'"{}"', b'"{\\"n\\": 900, \\"n\\": 1}"')
    house = await house_of(POLICY + rule, tmp_path, Script(chunks=(reply,)))
    house.meanwhile = lambda: house.decide(HeldState.APPROVED)

    outcome = await house.call(ASK)

    (held,) = await house.store.held(None, 9)
    assert ('{"n":1}', True) == (held.arguments, b'"{\\"n\\":1}"' in outcome.body)


@pytest.mark.parametrize(
    ("state", "verdict", "calls"),
    [
        pytest.param(HeldState.APPROVED, Verdict.ALLOW, ("refund",), id="approved"),
        pytest.param(HeldState.DENIED, Verdict.DENY, (), id="denied"),
    ],
)
async def test_a_call_waits_for_its_approval(
    state: HeldState, verdict: Verdict, calls: tuple[str, ...], tmp_path: Path
) -> None:
    """With `wait` the reply is held until a human has decided."""
    house = await house_of(WAITS, tmp_path, Script(chunks=(REFUND,)))
    house.meanwhile = lambda: house.decide(state)

    await house.call(ASK)

    (exchange,) = house.seen
    assert (verdict, calls) == (exchange.decisions[0].verdict, exchange.tool_calls)


async def test_nobody_decides_in_time(tmp_path: Path) -> None:
    """After `wait` the answer is that it is pending."""
    house = await house_of(WAITS, tmp_path, Script(chunks=(REFUND,)))

    await house.call(ASK)

    (exchange,) = house.seen
    assert ("pending", ()) == (exchange.decisions[0].reason, exchange.tool_calls)


async def test_an_approval_is_good_for_its_time(tmp_path: Path) -> None:
    """What was approved too long ago has to be approved again."""
    house = await house_of(WAITS, tmp_path, Script(chunks=(REFUND,)), Script(chunks=(REFUND,)))
    await house.call(ASK, headers=SESSION)
    await house.decide(HeldState.APPROVED)
    house.clock.at_ms += 61_000

    await house.call(ASK, headers=SESSION)

    assert ["pending", "pending"] == [exchange.decisions[0].reason for exchange in house.seen]


async def test_a_refusal_is_good_for_its_time(tmp_path: Path) -> None:
    """What was refused long ago may be asked again."""
    house = await house_of(WAITS, tmp_path, Script(chunks=(REFUND,)), Script(chunks=(REFUND,)))
    await house.call(ASK, headers=SESSION)
    await house.decide(HeldState.DENIED)
    house.clock.at_ms += 61_000

    await house.call(ASK, headers=SESSION)

    assert ["pending", "pending"] == [exchange.decisions[0].reason for exchange in house.seen]


async def test_an_approval_is_for_one_conversation(tmp_path: Path) -> None:
    """The same call of another conversation waits for its own."""
    house = await house_of(WAITS, tmp_path, Script(chunks=(REFUND,)), Script(chunks=(REFUND,)))
    await house.call(ASK, headers=SESSION)
    await house.decide(HeldState.APPROVED)

    await house.call(ASK, headers={"x-handrail-session": "another"})

    assert ["pending", "pending"] == [exchange.decisions[0].reason for exchange in house.seen]


class Full(MemoryStore):
    """A store that cannot write packets."""

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Refuse."""
        raise Overloaded("full")


async def test_nobody_is_told_of_a_human_who_knows_nothing(tmp_path: Path) -> None:
    """Where the packet cannot be written, the reply is an error, not the promise of a colleague."""
    house = await house_of(HANDS_OVER, tmp_path)
    house.house.desk = Full()

    outcome = await house.call(ASK)

    assert (503, False) == (outcome.head and outcome.head.status, b"One moment." in outcome.body)


async def test_a_rule_on_calls_that_fails_gets_a_human(tmp_path: Path) -> None:
    """Under `onError: escalate` the call is withheld and the packet written."""
    rule = "{id: r, phase: tool_call, when: 'tool.args.amount > 5', action: deny, onError: escalate, message: No.}"
    house = await house_of(POLICY + f"  rules: [{rule}]", tmp_path, Script(chunks=(REFUND,)))

    await house.call(ASK)

    assert ((), 1) == (house.seen[0].tool_calls, len(await house.store.handoffs(True, 10)))


class Faster(MemoryStore):
    """A desk at which somebody else has handed the conversation over a moment ago."""

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Return the packet that is there."""
        return await super().hand_over(replace(handoff, id="ho_first"))


@pytest.mark.parametrize(
    ("handoff", "desk", "expected"),
    [
        pytest.param("", MemoryStore(), [None, "ho_2"], id="by webhook if nothing is said"),
        pytest.param(", handoff: webhook", MemoryStore(), [None, "ho_2"], id="by webhook"),
        pytest.param(", handoff: header", MemoryStore(), ["ho_2", "ho_2"], id="by header"),
        pytest.param(", handoff: tool, tool: x", MemoryStore(), ["ho_2", "ho_2"], id="by a tool, were it there"),
        pytest.param("", Faster(), ["ho_first", "ho_first"], id="a human has it already"),
    ],
)
async def test_the_header_tells_the_agent_of_a_human(
    handoff: str, desk: MemoryStore, expected: list[str | None], tmp_path: Path
) -> None:
    """With `webhook` the agent learns nothing from the reply that hands over; from those after it in any case."""
    house = await house_of(HANDS_OVER.replace("to: tier2", f"to: tier2{handoff}"), tmp_path)
    house.house.desk = house.house.sessions = desk

    heads = [(await house.call(ASK, headers=SESSION)).head for _ in range(2)]

    assert expected == [head and head.headers.get("x-handrail-escalation") for head in heads]
