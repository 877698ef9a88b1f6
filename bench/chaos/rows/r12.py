"""Owns row R12: what replicas that share limits do while Redis is dead, and how soon they are back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from bench.chaos.fault_proxy import FaultProxy, Latency
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from proxy.errors import BudgetExceeded, Overloaded
from proxy.stores import redis, sqlite
from proxy.stores.redis import SharedBudgets
from proxy.terms import Limit, Reservation, Settlement
from tests.redis_servers import RedisServer, whichever

TITLE = "Redis dead: decision p99; overshoot in slice mode; recovery"
GATE = "50 ms; 0; 2 s"
STRETCH = "10 ms; 0; 1 s"
REPLICAS, WORKERS = 2, 4
ROUNDS = 3
MOST = 1_000
CAP = 60_000
"""Of each outage's limit: calls before it, slices in it and the rest after it use it up."""
BEFORE_S, AFTER_S = 0.3, 0.5
AWAY_S, SHORT_AWAY_S = 4.0, 1.5
"""How long an outage lasts: the calls that are under way as it begins wait for a whole timeout, no later one does."""
PAUSE_S = 0.01
PATIENCE_S = 20.0


class Scene:
    """Replicas on one server, behind a network that can fail, and what they were granted."""

    def __init__(self, server: RedisServer, network: FaultProxy, replicas: list[SharedBudgets]) -> None:
        self.server = server
        self.network = network
        self.granted = self.refused = 0
        """Decisions while the server was away."""
        self.took_s: list[float] = []
        """How long these took."""
        self.overshoot = 0
        """The most that was ever granted or spent beyond a limit at one moment."""
        self._replicas = replicas
        self._away = False
        self._spent = 0
        self._number = 0

    async def outage(self, window: str, fault: Fault, away_s: float) -> float:
        """Call before, while and after Redis is away; return how long after its end all replicas were back."""
        begin, end = fault
        async with asyncio.TaskGroup() as group:
            calling = [group.create_task(self._call_on(one, window)) for one in self._replicas for _ in range(WORKERS)]
            await asyncio.sleep(BEFORE_S)
            await begin(self)
            self._away = True
            await asyncio.sleep(away_s)
            self._away = False
            await end(self)
            ended_s = time.monotonic()
            await self._all_back()
            back_s = time.monotonic() - ended_s
            await asyncio.sleep(AFTER_S)
            for task in calling:
                task.cancel()
        self._spent = 0
        return back_s

    async def _all_back(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while any(one.trouble for one in self._replicas):  # noqa: ASYNC110 - the keepers' work
                await asyncio.sleep(0.005)

    async def _call_on(self, budgets: SharedBudgets, window: str) -> None:
        limit = Limit(rule="bench/cap@1", scope="agent:a", window=window, cap_nanousd=CAP)
        while True:
            self._number += 1
            await self._call(budgets, f"{window}{self._number}:1", limit)
            await asyncio.sleep(PAUSE_S)

    async def _call(self, budgets: SharedBudgets, name: str, limit: Limit) -> None:
        now_ms = time.time_ns() // 1_000_000
        hold = Reservation(id=name, amount_nanousd=MOST, limits=(limit,), expires_ms=now_ms + 60_000)
        away, began_s = self._away, time.perf_counter()
        try:
            await budgets.reserve(hold, now_ms)
        except (BudgetExceeded, Overloaded):
            self._decided(away, began_s, granted=False)
            return
        self._decided(away, began_s, granted=True)
        self.note(MOST)
        await asyncio.sleep(PAUSE_S)
        used = MOST // 4
        self.note(used - MOST)
        counters = ((limit.scope, limit.window),)
        budgets.settle(Settlement(reservation_id=name, nanousd=used, tokens=1, counters=counters), now_ms)

    def note(self, amount: int) -> None:
        """Add to what is granted or spent under the newest limit."""
        self._spent += amount
        self.overshoot = max(self.overshoot, self._spent - CAP)

    def _decided(self, away: bool, began_s: float, *, granted: bool) -> None:
        if away:
            self.took_s.append(time.perf_counter() - began_s)
            self.granted += granted
            self.refused += not granted


# --- the faults -----------------------------------------------------------------------------------------------------

Step: TypeAlias = Callable[[Scene], Awaitable[object]]
Fault: TypeAlias = tuple[Step, Step]


def _server(act: Callable[[RedisServer], object]) -> Step:
    return lambda scene: asyncio.to_thread(act, scene.server)


def _told(*command: str | int) -> Step:
    return _server(lambda server: server.command(*command))


async def _late(scene: Scene) -> None:
    scene.network.toxics = [Latency(ms=5_000)]


async def _punctual(scene: Scene) -> None:
    scene.network.toxics = []


FAULTS: Mapping[str, Fault] = {
    "stopped": (_server(RedisServer.freeze), _server(RedisServer.thaw)),
    "killed": (_server(RedisServer.kill), _server(RedisServer.start)),
    "5 s late": (_late, _punctual),
    "unreachable": (lambda scene: scene.network.down(), lambda scene: scene.network.up()),
    "out of memory": (_told("CONFIG", "SET", "maxmemory", 1), _told("CONFIG", "SET", "maxmemory", 0)),
    "read-only": (_told("REPLICAOF", "127.0.0.1", 9), _told("REPLICAOF", "NO", "ONE")),
    "without scripts": (_told("SCRIPT", "FLUSH"), _told("PING")),
}


# --- the row --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Start a server, a network and replicas, all as they are configured by default."""
    async with AsyncExitStack() as stack:
        server = RedisServer(whichever(), folder / "redis")
        await asyncio.to_thread(server.start)
        stack.callback(server.kill)
        network = await stack.enter_async_context(FaultProxy(server.port))
        replicas = []
        for number in range(REPLICAS):
            own = folder / f"p{number}"
            own.mkdir(parents=True, exist_ok=True)
            books = await stack.enter_async_context(sqlite.open(sqlite.Settings(path=str(own / "books.db"))))
            settings = redis.Settings(url=f"redis://127.0.0.1:{network.port}", replica_path=str(own / "id"))
            replicas.append(await stack.enter_async_context(redis.open(settings, books)))
        yield Scene(server, network, replicas)


async def suffer(folder: Path, away_s: float) -> dict[str, float]:
    """Go through every fault once; return the figures."""
    figures: dict[str, float] = {}
    async with scene(folder) as here:
        for name, fault in FAULTS.items():
            here.took_s.clear()
            back_s = await here.outage(name, fault, away_s)
            took_ms = sorted(took_s * 1e3 for took_s in here.took_s)
            figures[f"{name}: decision p99, ms"] = took_ms[len(took_ms) * 99 // 100]
            figures[f"{name}: recovery, s"] = back_s
        figures["overshoot in nano-USD"] = here.overshoot
        figures["granted while away"] = here.granted
        figures["refused while away"] = here.refused
    return figures


def run(plan: Plan) -> Outcome:
    """Go through every fault several times; each figure is the worst of all rounds."""
    rounds, away_s = (ROUNDS, AWAY_S) if plan.full else (1, SHORT_AWAY_S)
    while plan.wants(rounds):
        figures = asyncio.run(suffer(plan.folder / f"round-{plan.done}", away_s))
        plan.note(plan.done + 1, {name: max(one, float(plan.figures.get(name, 0))) for name, one in figures.items()})
    all_of = {
        "worst decision p99, ms": _worst(plan.figures, "decision p99, ms"),
        "overshoot in nano-USD": int(float(plan.figures["overshoot in nano-USD"])),
        "worst recovery, s": _worst(plan.figures, "recovery, s"),
        "rounds": plan.done,
        **{name: figure for name, figure in plan.figures.items() if name != "overshoot in nano-USD"},
    }
    names = ("worst decision p99, ms", "overshoot in nano-USD", "worst recovery, s")
    least = {"rounds": rounds, "granted while away": 1, "refused while away": 1}
    gate, stretch = (
        within(all_of, most=dict(zip(names, bounds, strict=True)), least=least) for bounds in ((50, 0, 2), (10, 0, 1))
    )
    notes = (
        "each figure is the worst of all rounds; replicas and clients share one loop, whose lag is in them",
        "without scripts nothing is away: replicas send the script with each call",
    )
    return Outcome(figures=all_of, met=gate, stretch=stretch, notes=notes)


def _worst(figures: Mapping[str, Figure], kind: str) -> float:
    return max(float(figure) for name, figure in figures.items() if name.endswith(f": {kind}"))
