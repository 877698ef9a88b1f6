"""Owns what one walk has to do with humans: approvals that it waits for, conversations that it hands over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from proxy import handoff, recording
from proxy.pipeline.house import House
from proxy.pipeline.scanning import written
from proxy.policy import Globs
from proxy.terms import (
    Approval,
    Caller,
    Decision,
    Facts,
    Finding,
    HandoffBy,
    Held,
    HeldState,
    Level,
    Phase,
    Request,
    Session,
    ToolCall,
    Verdict,
)

ESCALATION_HEADER = "x-handrail-escalation"
"""On replies for which a human answers: the packet's id."""
OWNED_TEXT = "A colleague of mine has taken this over and will get back to you here."
DECLINED_TEXT = "A colleague of mine has looked at this and decided against it."
POLL_S = 0.5
"""How often the desk is asked while a call waits."""
OVER = (HeldState.USED, HeldState.EXPIRED)


class Humans:
    """The desk, as one walk sees it."""

    def __init__(self, house: House, draft: recording.Draft) -> None:
        self._house = house
        self._draft = draft
        self.headers: dict[str, str] = {}
        """What the reply's head says of a hand-off."""
        self._arguments: dict[str, str] = {}

    # --- approvals ----------------------------------------------------------------------------------------------------

    async def asked(self, decision: Decision, call: ToolCall, facts: Facts) -> Decision:
        """Return the decision as the desk leaves it: allowed once, denied, or still to be approved."""
        approval, clock = decision.approval or Approval(), self._house.clock
        until = clock.wall_ms() + approval.wait_s * 1000
        mine = self._mine(decision, approval, call, facts)
        held = await self._current(mine)
        while held.state is HeldState.PENDING and clock.wall_ms() < until:
            await self._house.pause(POLL_S)
            held = await self._house.desk.use(mine.key, clock.wall_ms()) or held
        after = replace(decision, held=held.id, **_AFTER.get(held.state, {"reason": "pending"}))
        self._draft.decisions[-1] = after
        return after

    async def _current(self, mine: Held) -> Held:
        desk = self._house.desk
        held = await desk.use(mine.key, mine.created_ms)
        if held is None or held.state in OVER or held.expires_ms <= mine.created_ms:
            await desk.hold(mine)
            # Whoever was faster may have got it approved since.
            held = await desk.use(mine.key, mine.created_ms) or mine
        return held

    def _mine(self, decision: Decision, approval: Approval, call: ToolCall, facts: Facts) -> Held:
        now, spelling = self._house.clock.wall_ms(), written(call)
        return Held(
            id=self._house.ids.new("ap"),
            key=recording.digest(f"{facts.session.id}\n{spelling}".encode()),
            session_id=facts.session.id,
            agent=facts.caller.agent,
            tenant=facts.caller.tenant,
            tool=call.name,
            arguments=spelling.partition(" ")[2],
            rule=decision.rule,
            created_ms=now,
            expires_ms=now + approval.ttl_s * 1000,
            reason=decision.message,
            group=approval.group,
            exchange_id=self._draft.id,
        )

    # --- hand-offs ----------------------------------------------------------------------------------------------------

    def owned(self, session: Session) -> Decision:
        """Return the decision on a call whose conversation belongs to a human: it is kept from the model."""
        self.headers = {ESCALATION_HEADER: session.escalation}
        decision = Decision(
            id=f"{self._draft.id}-{Phase.REQUEST}",
            phase=Phase.REQUEST,
            verdict=Verdict.ESCALATE,
            reason="handed_over",
            message=OWNED_TEXT,
        )
        self._draft.decisions.append(decision)
        return decision

    async def hand_over(self, decision: Decision, facts: Facts, find: Callable[[str], Sequence[Finding]]) -> None:
        """Write the packet, once for a conversation, before anybody is told of it."""
        made = handoff.packet(
            id=self._house.ids.new("ho"), facts=facts, decision=decision, exchange_id=self._draft.id, find=find
        )
        packet = await self._house.desk.hand_over(made)
        quiet = decision.escalation is None or decision.escalation.by is HandoffBy.WEBHOOK
        # Whoever asks again, the human has the conversation already: that an agent has to know.
        self.headers = {} if quiet and packet.id == made.id else {ESCALATION_HEADER: packet.id}
        self._arguments = {"reason": packet.reason, "summary": packet.summary, "queue": packet.queue, "id": packet.id}

    def by_tool(self, decision: Decision, request: Request) -> ToolCall | None:
        """Return the call of the agent's own hand-off tool, if the rule wants one and the tool takes what we know."""
        wanted = decision.escalation
        if wanted is None or wanted.by is not HandoffBy.TOOL or not wanted.tool:
            return None
        globs = Globs((wanted.tool,))
        tool = next((tool for tool in request.tools if globs.match(tool.name)), None)
        if tool is None:
            return None
        schema = cast("dict[str, Any]", tool.schema) if isinstance(tool.schema, dict) else {}
        given = {name: self._arguments[name] for name in schema.get("properties", {}) if name in self._arguments}
        if not given.keys() >= {*schema.get("required", ())}:
            return None
        call_id = hashlib.blake2b(self._draft.id.encode(), digest_size=12).hexdigest()
        return ToolCall(id=f"call_{call_id}", name=tool.name, arguments=msgspec.json.encode(given).decode())


def leveled(caller: Caller, *levels: Level | None) -> Caller:
    """Return the caller at the lowest of its own level and these: nothing ever raises it."""
    lowest = min(filter(None, (caller.level, *levels)), key=_RANK.__getitem__)
    return caller if lowest is caller.level else replace(caller, level=lowest)


_RANK = {level: level.rank for level in Level}


_AFTER: dict[HeldState, dict[str, Any]] = {
    HeldState.APPROVED: {"verdict": Verdict.ALLOW, "reason": "approved"},
    HeldState.DENIED: {"verdict": Verdict.DENY, "reason": "declined", "message": DECLINED_TEXT},
}
