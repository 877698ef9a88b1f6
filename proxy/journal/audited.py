"""Owns what of a call and of what humans decide is put into the audit log, and when.

Both stand in front of the store and are the same port: whoever records through them has it logged as well.
"""

from __future__ import annotations

from functools import partial

from proxy import audit
from proxy.ports import AuditLog, RecordSink, Rulings
from proxy.terms import Exchange, Handoff, Held, HeldState


class AuditedRecords:
    """Records, each of them logged: before a call leaves, and when it has ended."""

    def __init__(self, records: RecordSink, log: AuditLog) -> None:
        self._records = records
        self._log = log
        self.keep = records.keep

    async def dispatch(self, exchange: Exchange) -> None:
        """Log and write the call, waiting for both at once; raise Overloaded when one cannot be done, so that nothing
        leaves."""
        logged = self._log.ensure(partial(audit.dispatched, exchange))
        await self._records.dispatch(exchange)
        await logged

    def finish(self, exchange: Exchange) -> None:
        """Write and log the finished call; queued."""
        self._records.finish(exchange)
        self._log.note(partial(audit.finished, exchange))


class AuditedRulings:
    """What humans decide, logged: that somebody is about to, before it counts, and what came of it."""

    def __init__(self, desk: Rulings, log: AuditLog) -> None:
        self._desk = desk
        self._log = log
        self.held = desk.held
        self.handoffs = desk.handoffs

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Log and decide; raise Overloaded when it cannot be logged, and then nothing is decided."""
        await self._log.ensure(audit.asked(state.value, held_id, by, note, at_ms))
        held = await self._desk.decide(held_id, state, by, note, at_ms)
        self._log.note(audit.ruled(held, held_id, at_ms))
        return held

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Log and close; raise Overloaded when it cannot be logged, and then nothing is closed."""
        await self._log.ensure(audit.asked("close", handoff_id, by, "", at_ms))
        handoff = await self._desk.close_handoff(handoff_id, by, at_ms)
        self._log.note(audit.closed(handoff, handoff_id, at_ms))
        return handoff
