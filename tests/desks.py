"""Owns the double of a Desk as humans see it: actions to decide on, conversations to give back."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.terms import Handoff, Held, HeldState
from tests.fakes import FakeClock

CLOCK = FakeClock(1_767_225_600_000)
HELD = Held(
    id="ap_1", key="k", session_id="se_1", agent="web", tenant="", tool="refund", arguments='{"usd":90}', rule="p/r@1",
    created_ms=CLOCK.at_ms, expires_ms=CLOCK.at_ms + 900_000,
)  # fmt: skip
HANDOFF = Handoff(
    id="ho_1", session_id="se_1", exchange_id="ex_1", at_ms=CLOCK.at_ms, agent="web", tenant="", queue="gold",
    rule="p/r@1", reason="angry",
)  # fmt: skip


class HumansDesk:
    """The part of a Desk that humans see: one list of actions, one of packets; remembers the limits it was given."""

    def __init__(self) -> None:
        self.actions = [replace(HELD, id="ap_2", state=HeldState.USED), HELD]
        self.packets = [HANDOFF, replace(HANDOFF, id="ho_0", closed_ms=5, closed_by="bo")]
        self.limits: list[int] = []

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions."""
        self.limits.append(limit)
        return [held for held in self.actions if state in (None, held.state)]

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Decide on a pending action."""
        for place, held in enumerate(self.actions):
            if held.id == held_id:
                if held.state is HeldState.PENDING:
                    self.actions[place] = replace(held, state=state, decided_by=by, note=note, decided_ms=at_ms)
                return self.actions[place]
        return None

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets."""
        self.limits.append(limit)
        return [packet for packet in self.packets if not (open_only and packet.closed_ms)]

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Close a packet."""
        for packet in self.packets:
            if packet.id == handoff_id:
                return packet if packet.closed_ms else replace(packet, closed_ms=at_ms, closed_by=by)
        return None
