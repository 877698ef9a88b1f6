"""Owns the proof of proxy/pipeline/notes.py: what a conversation keeps of a walk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.conversation import REMEMBERED_CALLS, REMEMBERED_TOOLS
from proxy.terms import Session
from tests.fakes import Script
from tests.pipeline.test_quotas import ASK, SESSION, replied
from tests.walking import CONFIG, Walked, compiled

POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, action: label, labels: [seen], when: "WHEN"}]}
"""


async def kept(tmp_path: Path, when: str, *scripts: Script) -> Session:
    """Return what the store knows of a conversation after one call for each script."""
    snapshot = await asyncio.to_thread(compiled, CONFIG, POLICY.replace("WHEN", when), tmp_path)
    house = Walked(*scripts, snapshot=snapshot)
    for _ in scripts:
        await house.call(ASK, headers=SESSION)
    known = await house.store.load(house.seen[0].session.id)
    return known or Session(id="nothing")


@pytest.mark.parametrize(
    ("when", "calls", "expected"),
    [
        pytest.param("true", [], ((), ("seen",)), id="a label"),
        pytest.param("false", [{"n": 1}], ((("c0", "refund"),), ()), id="a call that was let through"),
        pytest.param("false", [], ((), ()), id="nothing new"),
    ],
)
async def test_a_session_keeps_what_is_new(when: str, calls: list[Any], expected: object, tmp_path: Path) -> None:
    """Labels and released calls are known again in the next call of the conversation."""
    session = await kept(tmp_path, when, replied(*calls))

    assert expected == (tuple((call.id, call.tool) for call in session.issued), session.labels)


async def test_only_the_newest_calls_are_kept(tmp_path: Path) -> None:
    """What a session keeps is bounded."""
    session = await kept(
        tmp_path, "false", replied(*({"n": n} for n in range(REMEMBERED_CALLS + 1))), replied({"n": 1})
    )

    assert REMEMBERED_CALLS == len(session.issued)
    assert "c0" == session.issued[-1].id


PINS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, action: annotate, when: "size(request.tools_changed) > 0", annotations: {a: b}}]}
"""


async def test_the_first_definitions_are_kept(tmp_path: Path) -> None:
    """A changed definition is on record each time, and never takes the place of the first; so many are kept."""
    many = [{"type": "function", "function": {"name": f"t{n}"}} for n in range(REMEMBERED_TOOLS + 1)]
    changed = [{"type": "function", "function": {"name": "t0", "description": "Another."}}]
    snapshot = await asyncio.to_thread(compiled, CONFIG, PINS, tmp_path)
    house = Walked(*(replied(text="ok") for _ in range(3)), snapshot=snapshot)
    for tools in (many, changed, changed):
        await house.call({**ASK, "tools": tools}, headers=SESSION)

    reasons = [[decision.reason for decision in exchange.decisions] for exchange in house.seen]
    session = await house.store.load(house.seen[0].session.id)
    assert [[""], ["tools_changed", "rule"], ["tools_changed", "rule"]] == reasons
    assert REMEMBERED_TOOLS == len(session.tools if session else {})


async def test_definitions_that_nobody_asks_for_are_not_kept(tmp_path: Path) -> None:
    """Without a rule about changes sessions do not grow."""
    assert {} == (await kept(tmp_path, "true", replied(text="ok"))).tools


async def test_a_name_without_measure_is_not_kept(tmp_path: Path) -> None:
    """What a provider calls its calls cannot make records or sessions grow."""
    script = replied({"n": 1})
    endless = Script(
        headers=script.headers, chunks=tuple(c.replace(b'"c0"', b'"' + b"c" * 300 + b'"') for c in script.chunks)
    )

    session = await kept(tmp_path, "false", endless)

    assert () == session.issued
