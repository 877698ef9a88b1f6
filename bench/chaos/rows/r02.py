"""Owns row R2: whether limits hold while many race, processes are killed, and Redis fails over and forgets."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
import redis

from bench.chaos.checker import INVARIANTS, check
from bench.chaos.evidence import Evidence, Ledger, read_bill, read_books, read_ledger
from bench.chaos.race import CAP, SCOPE, WORKERS, peaks
from bench.chaos.redis_pair import RedisPair
from bench.chaos.rows_api import Figure, Outcome, Plan, within

TITLE = "budget overshoot, 64 workers x 4 processes, crashes + Redis failover"
GATE = "0 in 10^6 reserves"
STRETCH = "0 in 10^7"
RESERVES = 1_000_000
PROCESSES = 4
PART_S = 120.0
"""Of a full run, after which everybody ends in order and progress is noted."""
SHORT_S = 4.0
CLEAN_UP_S = 4.0
"""Longer than a lease and the beats after it."""


def run(plan: Plan) -> Outcome:
    """Race in parts, until there were enough reserves; then judge."""
    wanted, part_s = (RESERVES, PART_S) if plan.full else (1, SHORT_S)
    while plan.wants(wanted):
        began_s, race = time.monotonic(), Race(plan)
        asyncio.run(race.part(part_s))
        more = {
            "kills": race.kills,
            "failovers that lost writes": race.failovers,
            "processes that ended by themselves": race.died,
            "seconds": round(time.monotonic() - began_s),
        }
        figures = {name: number + int(plan.figures.get(name, 0)) for name, number in more.items()}
        plan.note(reserves(plan.folder), figures)
    last = Race(plan)
    asyncio.run(last.clean_up())
    return judged(plan, wanted, last.died)


def reserves(folder: Path) -> int:
    """Count what was granted and what was refused so far."""
    journals = [file.read_bytes() for file in folder.glob("p*/journal")]
    return sum(journal.count(kind) for journal in journals for kind in (b" g ", b" r "))


class Race:
    """One part of the run: processes that race, are killed and started again, while Redis fails over."""

    def __init__(self, plan: Plan) -> None:
        self._folder = plan.folder
        self._dice = plan.dice(plan.done)
        self._folders = [plan.folder / f"p{number}" for number in range(PROCESSES)]
        self._processes: dict[Path, asyncio.subprocess.Process] = {}
        self.died = self.kills = self.failovers = 0

    async def part(self, for_s: float) -> None:
        """Race for some seconds."""
        with RedisPair(self._folder / "redis") as pair:
            await self._start(pair.url, WORKERS, self._folders)
            await self._break(pair, for_s)
            await self._end()

    async def clean_up(self) -> None:
        """Have everybody close what killed processes left, and keep what a new ledger is told."""
        with RedisPair(self._folder / "redis") as pair:
            await self._start(pair.url, 0, self._folders)
            await asyncio.sleep(CLEAN_UP_S)
            await self._end()
            with redis.Redis(port=pair.primary.port, decode_responses=True, driver_info=None) as client:
                ledger = read_ledger(client, "default")
        (self._folder / "ledger.json").write_bytes(msgspec.json.encode(ledger))

    async def _break(self, pair: RedisPair, for_s: float) -> None:
        """Kill processes and the primary for so many seconds, once each at least."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + for_s
        while loop.time() < ends_s or not (self.kills and self.failovers):
            await asyncio.sleep(self._dice.uniform(0.5, 10.0 if for_s > SHORT_S else 2.0))
            if self._dice.random() < 0.4:
                await asyncio.to_thread(pair.fail_over, self._dice.uniform(0.01, 0.5))
                self.failovers += 1
                continue
            folder = self._dice.choice(self._folders)
            self._processes[folder].kill()
            self.died += await self._processes.pop(folder).wait() != -9
            self.kills += 1
            await self._start(pair.url, WORKERS, [folder])

    async def _start(self, url: str, workers: int, folders: list[Path]) -> None:
        with (self._folder / "stderr.log").open("ab") as log:
            for folder in folders:
                folder.mkdir(exist_ok=True)
                program = [sys.executable, "-m", "bench.chaos.race", url, str(folder), str(workers)]
                self._processes[folder] = await asyncio.create_subprocess_exec(
                    *program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log
                )
        for folder in folders:
            if stdout := self._processes[folder].stdout:
                await stdout.readline()

    async def _end(self) -> None:
        for process in self._processes.values():
            if process.stdin:
                process.stdin.close()
        self.died += sum([await process.wait() != 0 for process in self._processes.values()])
        self._processes.clear()


def judged(plan: Plan, wanted: int, died: int) -> Outcome:
    """Judge what all parts left: the journals by the oracle, books, bills and ledger by the checker."""
    folders = [plan.folder / f"p{number}" for number in range(PROCESSES)]
    highest, granted, refused = peaks(folder / "journal" for folder in folders)
    evidence = Evidence(
        books=tuple(read_books(folder / "books.db") for folder in folders),
        bill=tuple(charge for folder in folders for charge in read_bill(folder / "bill.jsonl")),
        at_ms=time.time_ns() // 1_000_000,
        caps={(SCOPE, window): CAP for window in highest},
        ledger=msgspec.json.decode((plan.folder / "ledger.json").read_bytes(), type=Ledger),
        seen_over=tuple(f"{window}: {peak} of {CAP}" for window, peak in highest.items() if peak > CAP),
    )
    verdict = check(evidence)
    (plan.folder / "findings.txt").write_text("".join(f"{name} {row}\n" for name, row in verdict.findings))
    figures: dict[str, Figure] = {
        "overshoot in nano-USD": max(max(highest.values()) - CAP, 0),
        "reserves": granted + refused,
        "granted": granted,
        "refused": refused,
        "limits": len(highest),
        "most that was used of a limit, in %": round(100 * max(highest.values()) / CAP, 1),
        "calls billed": len(evidence.bill),
        **plan.figures,
        "processes that ended by themselves": died + int(plan.figures["processes that ended by themselves"]),
        **{f"{name} {text.partition(':')[0]}: contradictions": verdict.count(name) for name, text in INVARIANTS.items()
           if name not in verdict.unchecked},
    }  # fmt: skip
    zero = [
        "overshoot in nano-USD",
        "processes that ended by themselves",
        *(n for n in figures if n.endswith("contradictions")),
    ]
    least = {"reserves": wanted, "kills": 1, "failovers that lost writes": 1, "refused": 1}
    met = within(figures, most=dict.fromkeys(zero, 0), least=least)
    return Outcome(
        figures=figures,
        met=met,
        stretch=met and granted + refused >= 10_000_000,
        notes=(
            f"no evidence here for {', '.join(verdict.unchecked)}",
            "reserves are granted and refused ones; each is against two limits at once, one of which is never full",
        ),
    )
