"""Owns the proof of proxy/journal/audited.py: what goes through is logged, before it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.errors import Overloaded
from proxy.journal import AuditedRecords, AuditedRulings
from proxy.stores.memory import MemoryStore
from proxy.terms import HeldState, Json, State
from tests.desks import CLOCK, HumansDesk
from tests.stores.samples import attempt, exchange


class ListedLog:
    """A log that is a list, or refuses."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.entries: list[dict[str, Json]] = []
        self.refuses = refuses
        self.reached = 0
        self.disk = asyncio.Event()
        self.disk.set()

    def note(self, write: Callable[[bytes], dict[str, Json]]) -> None:
        """Take an entry."""
        self.entries.append(write(bytes(32)))

    def ensure(self, write: Callable[[bytes], dict[str, Json]]) -> Awaitable[None]:
        """Take an entry, or refuse."""
        if self.refuses:
            raise Overloaded("no")
        self.note(write)
        return self.stored()

    async def stored(self) -> None:
        """Wait for the disk."""
        self.reached += 1
        await self.disk.wait()


SENT = exchange("ex_1", State.DISPATCHED, attempt("ex_1"))
DONE = exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45))


async def test_a_call_is_logged_before_it_leaves_and_when_it_has_ended() -> None:
    """And recorded as without a log."""
    log, store = ListedLog(), MemoryStore()
    records = AuditedRecords(store, log)
    await records.dispatch(SENT)
    records.finish(DONE)

    assert [("dispatched", "ex_1"), ("call", "ex_1")] == [(entry["kind"], entry["id"]) for entry in log.entries]
    assert DONE == store.exchanges["ex_1"]


async def test_a_call_that_cannot_be_logged_does_not_leave() -> None:
    """Nothing is written of it as sent."""
    store = MemoryStore()

    with pytest.raises(Overloaded):
        await AuditedRecords(store, ListedLog(refuses=True)).dispatch(SENT)
    assert {} == store.exchanges


async def test_a_call_waits_for_the_log_and_the_records_at_once() -> None:
    """It waits as long as the slower of the two takes, not as both: the record is written while the log still syncs,
    and the call goes on when both are there."""
    log, store = ListedLog(), MemoryStore()
    log.disk.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(AuditedRecords(store, log).dispatch(SENT))
        while not (log.reached and store.exchanges):  # noqa: ASYNC110 - each side says so for itself
            await asyncio.sleep(0)
        waited = not call.done()
        log.disk.set()

    assert (True, SENT) == (waited, store.exchanges["ex_1"])


async def test_rulings_are_logged_before_and_after() -> None:
    """That somebody is about to, and what came of it; of what is not there too."""
    log, desk = ListedLog(), HumansDesk()
    rulings = AuditedRulings(desk, log)
    held = await rulings.decide("ap_1", HeldState.APPROVED, "lead", "fine", CLOCK.at_ms)
    await rulings.decide("ap_9", HeldState.DENIED, "lead", "", CLOCK.at_ms)
    packet = await rulings.close_handoff("ho_1", "lead", CLOCK.at_ms)

    assert (HeldState.APPROVED, "lead") == (held and held.state, packet and packet.closed_by)
    assert [
        ("asked", "ap_1", "approved"),
        ("ruled", "ap_1", "approved"),
        ("asked", "ap_9", "denied"),
        ("ruled", "ap_9", ""),
        ("asked", "ho_1", "close"),
        ("closed", "ho_1", True),
    ] == [
        (entry["kind"], entry["id"], entry.get("action", entry.get("state", entry.get("found"))))
        for entry in log.entries
    ]
    assert (2, 2) == (len(await rulings.held(None, 9)), len(await rulings.handoffs(False, 9)))


async def test_what_cannot_be_logged_is_not_ruled() -> None:
    """The action still waits, and the conversation stays with its human."""
    desk = HumansDesk()
    rulings = AuditedRulings(desk, ListedLog(refuses=True))

    with pytest.raises(Overloaded):
        await rulings.decide("ap_1", HeldState.APPROVED, "lead", "", CLOCK.at_ms)
    with pytest.raises(Overloaded):
        await rulings.close_handoff("ho_1", "lead", CLOCK.at_ms)
    assert [HeldState.PENDING] == [held.state for held in desk.actions if held.id == "ap_1"]
    assert [0] == [packet.closed_ms for packet in desk.packets if packet.id == "ho_1"]
