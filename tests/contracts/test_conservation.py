"""Owns the proof that money is conserved: under any interleaving a store's counters are those of a plain model.

The model keeps a list of attempts and adds them up anew each time; a store keeps sums and changes them.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import BudgetExceeded, Overloaded
from proxy.terms import Limit, Reservation, Settlement, State, Totals
from tests.contracts.conftest import Shelf, shelf_of
from tests.stores.samples import AT_MS, LEASE_MS, attempt, exchange, sent

CAPS = {("agent:a", "day"): 100, ("tenant:t", "month"): 150}
PAIRS = tuple(CAPS)
LIMITS = [
    Limit(rule=f"p/{scope}@1", scope=scope, window=window, cap_nanousd=CAPS[scope, window]) for scope, window in CAPS
]
COUNTERS = (("agent:a", "day"),)
"""What `samples.attempt` counts under."""

holds = st.tuples(st.integers(0, 60), st.sets(st.sampled_from([0, 1]), min_size=1))


@dataclass
class Line:
    """One attempt as an accountant would write it down."""

    started_ms: int
    held: int | None = None
    under: tuple[tuple[str, str], ...] = ()
    sent: bool = False
    finished: bool = False
    over: str = ""
    """`settled`, `released` or `expired`; empty while open."""
    owned: bool = True
    booked: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.expires_ms = self.started_ms + LEASE_MS


class Machine(RuleBasedStateMachine):
    """Does to a store and to the model what any number of processes might."""

    shelf_name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.at_ms = AT_MS
        self.lines: dict[str, Line] = {}
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.shelf = self.run(self.stack.enter_async_context(shelf_of(self.shelf_name, Path(self.folder.name))))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run on the machine's own loop."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Close everything."""
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    # --- what may happen --------------------------------------------------------------------------------------------

    @rule(wanted=st.lists(holds, min_size=1, max_size=4))
    def reserve_at_once(self, wanted: list[tuple[int, set[int]]]) -> None:
        """Several calls reserve in one instant."""
        reservations = [
            Reservation(
                id=f"ex_{len(self.lines) + n}:1",
                amount_nanousd=amount,
                limits=tuple(LIMITS[i] for i in sorted(which)),
                expires_ms=self.at_ms + LEASE_MS,
            )
            for n, (amount, which) in enumerate(wanted)
        ]

        for reservation, outcome in zip(reservations, self.run(self.outcomes(reservations)), strict=True):
            full = [limit.rule for limit in reservation.limits if self.left(limit) < reservation.amount_nanousd]
            assert full[:1] == ([outcome.rule] if isinstance(outcome, BudgetExceeded) else [])
            line = Line(self.at_ms, reservation.amount_nanousd)
            line.under = tuple((limit.scope, limit.window) for limit in reservation.limits)
            if outcome:
                line.over, line.owned = "refused", False
            self.lines[reservation.id.removesuffix(":1")] = line

    @rule(data=st.data(), fresh=st.booleans())
    def dispatch(self, data: st.DataObject, fresh: bool) -> None:
        """A call is sent: one with a hold, or one that no limit watches."""
        ready = [name for name, line in self.lines.items() if line.owned and not line.sent and line.over != "settled"]
        name = f"ex_{len(self.lines)}" if fresh or not ready else data.draw(st.sampled_from(ready))
        line = self.lines.setdefault(name, Line(self.at_ms))
        try:
            self.run(self.shelf.store.dispatch(sent(name, started_ms=line.started_ms)))
        except Overloaded:
            assert line.over
        else:
            assert not line.over
            line.sent = True

    @rule(data=st.data(), share=st.floats(0, 1), finish=st.booleans(), twice=st.booleans())
    @precondition(lambda self: any(line.owned for line in self.lines.values()))
    def settle(self, data: st.DataObject, share: float, finish: bool, twice: bool) -> None:
        """A call ends: within its hold, perhaps late, perhaps told twice, perhaps with its record."""
        name = data.draw(st.sampled_from([name for name, line in self.lines.items() if line.owned]))
        line = self.lines[name]
        nanousd = int(share * (50 if line.held is None else line.held)) if line.sent else 0
        if line.sent and finish:
            line.finished = True
            self.shelf.store.finish(exchange(name, State.COMPLETE, attempt(name, 1, State.COMPLETE, nanousd)))
        tokens = 7 if line.sent else 0
        bill = Settlement(reservation_id=f"{name}:1", nanousd=nanousd, tokens=tokens, counters=COUNTERS)
        for _ in range(1 + twice):
            self.shelf.store.settle(bill, self.at_ms)
        if line.over != "settled":
            line.over = "settled"
            line.booked = dict.fromkeys(COUNTERS, (nanousd, tokens, 1)) if line.sent else {}

    @rule(ms=st.sampled_from([1, 20_000, LEASE_MS + 1]))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.at_ms += ms

    @rule(data=st.data())
    @precondition(lambda self: any(line.owned for line in self.lines.values()))
    def heartbeat(self, data: st.DataObject) -> None:
        """Some live processes extend their leases."""
        names = data.draw(st.sets(st.sampled_from([name for name, line in self.lines.items() if line.owned])))
        self.shelf.store.heartbeat([f"{name}:1" for name in sorted(names)], self.at_ms + LEASE_MS)
        for name in names:
            self.lines[name].expires_ms = max(self.lines[name].expires_ms, self.at_ms + LEASE_MS)

    @rule()
    def recover(self) -> None:
        """Some process cleans up."""
        closed = {found.id for found in self.run(self.shelf.store.recover(self.at_ms))}
        lapsed = {name: line for name, line in self.lines.items() if line.expires_ms < self.at_ms}
        assert {name for name, line in lapsed.items() if line.sent and not line.finished} == closed
        for name, line in lapsed.items():
            line.finished = line.finished or name in closed
            if not line.over:
                line.over = "expired" if line.sent else "released"
                line.booked = dict.fromkeys(COUNTERS, (line.held or 0, 0, 1)) if line.sent else {}

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def counters_are_those_of_the_model(self) -> None:
        """Every counter is the sum of its attempts, no more held or spent than its cap."""

        self.run(self.shelf.drain())
        assert [self.total(pair) for pair in PAIRS] == self.run(self.shelf.store.totals(PAIRS))

    @invariant()
    def every_call_has_one_record(self) -> None:
        """What was sent is on record, what was not is not."""
        assert {name for name, line in self.lines.items() if line.sent} == set(self.run(self.shelf.records()))

    async def outcomes(self, reservations: list[Reservation]) -> list[BaseException | None]:
        """Reserve all at once, and say how each ended."""
        holding = [self.shelf.store.reserve(reservation, self.at_ms) for reservation in reservations]
        return [*await asyncio.gather(*holding, return_exceptions=True)]

    def total(self, pair: tuple[str, str]) -> Totals:
        """Add the attempts up."""
        booked = [line.booked[pair] for line in self.lines.values() if pair in line.booked]
        held = [line.held or 0 for line in self.lines.values() if pair in line.under and not line.over]
        return Totals(
            nanousd=sum(nanousd for nanousd, _, _ in booked),
            reserved_nanousd=sum(held),
            tokens=sum(tokens for _, tokens, _ in booked),
            calls=sum(calls for _, _, calls in booked),
        )

    def left(self, limit: Limit) -> int:
        """Return the room under a limit."""
        total = self.total((limit.scope, limit.window))
        return limit.cap_nanousd - total.nanousd - total.reserved_nanousd


class SqliteMachine(Machine):
    """The same, where the process that serves may also be replaced by another on the same file."""

    shelf_name = "sqlite"

    @rule()
    def restart(self) -> None:
        """The process ends; whatever it had open has no owner any more."""
        self.run(self.stack.aclose())
        self.shelf: Shelf = self.run(self.stack.enter_async_context(shelf_of(self.shelf_name, Path(self.folder.name))))
        for line in self.lines.values():
            line.owned = False


class RedisMachine(SqliteMachine):
    """The same, where limits are held in Redis besides."""

    shelf_name = "redis"


TestMemory = Machine.TestCase
TestMemory.settings = settings(max_examples=25, stateful_step_count=25)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=25, stateful_step_count=25)
TestRedis = RedisMachine.TestCase
TestRedis.settings = settings(max_examples=12, stateful_step_count=25)
