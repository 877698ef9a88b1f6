"""Owns whole proxies that are killed: `handrail serve` on one state file, under load, sent SIGKILL at random instants.

Processes are forked from one that has loaded Handrail (so several can start in a second) and from there on run as the
command does: configuration, policies, state file, listeners. Start-up is among the instants at which they are killed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from bench.chaos.checker import Verdict, check, over
from bench.chaos.evidence import Evidence, Pair, read_bill, read_books, read_counters
from bench.chaos.provider import FakeProvider, Script
from bench.chaos.rows_api import Plan
from proxy import cli

SEATS = 4
CLIENTS = 12
LEASE_S = 2
SLACK_S = 2 * LEASE_S + 4
"""A lease, the beat after it at which another process looks, and the time that a busy machine takes."""
READY_S = 60.0
MOST_OUTPUT = 100
CAP_NANOUSD = 3_000_000
"""Of one conversation: room for a few holds at once, so that some calls are refused."""
CALLS_PER_CONVERSATION = 40
MODELS = ("limited", "free")
PACE = Script(pace_ms=20)
CONFIG = """\
listen: "unix:SOCKET"
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {bench: {dialect: openai, base_url: "URL"}}
models:
  limited: {provider: bench, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  free: {provider: bench, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
policies: [policy.yaml]
state: {path: state.sqlite}
limits: {lease_s: 2, drain_s: 5}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bench, version: 1.0.0}
spec:
  selector: {models: [limited]}
  spend: [{id: cap, scope: conversation, limitUSD: 0.003}]
"""

_NURSERY = multiprocessing.get_context("forkserver")
_NURSERY.set_forkserver_preload(["bench.chaos.kills"])


def serve(config: str, log: str) -> None:
    """Run `handrail serve` in this process."""
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.exit(cli.main(["serve", "--config", config]))


class Seat:
    """A place where one process serves after another; each has a socket of its own."""

    def __init__(self, folder: Path, number: int, url: str) -> None:
        self.socket = str(folder / f"{number}.sock")
        config = folder / f"handrail-{number}.yaml"
        config.write_text(CONFIG.replace("SOCKET", self.socket).replace("URL", url))
        self._arguments = (str(config), str(folder / "stderr.log"))
        self._process = _NURSERY.Process(target=serve, args=self._arguments, daemon=True)

    def start(self) -> None:
        """Start a process."""
        self._process = _NURSERY.Process(target=serve, args=self._arguments, daemon=True)
        self._process.start()

    async def ready(self) -> None:
        """Wait until it takes calls, or has ended by itself."""
        async with asyncio.timeout(READY_S):
            while self._process.is_alive():
                with suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(self.socket)
                    writer.close()
                    return
                await asyncio.sleep(0.01)

    async def end(self, *, kill: bool) -> bool:
        """Kill the process, or let it end in order; say whether it did anything but that."""
        ended = not self._process.is_alive()
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        await asyncio.to_thread(self._process.join)
        return ended or (not kill and self._process.exitcode != 0)


class Load:
    """Clients that call whichever process is up, streamed or not; some leave before the end."""

    def __init__(self, sockets: list[str], dice: random.Random, first: str) -> None:
        self._sockets = sockets
        self._dice = dice
        self._first = first
        self._count = 0
        self.whole = 0
        """Replies that a client got to their end."""
        self.refused = 0
        """Calls for which the budget had no room."""
        self.repeated: list[str] = []
        """Calls that were answered once more from what the process remembered."""

    async def run(self) -> None:
        """Call for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        while True:
            try:
                await self._call()
            except (OSError, EOFError):
                await asyncio.sleep(0.05)

    async def _call(self) -> None:
        socket, (user, request) = self._dice.choice(self._sockets), self._request()
        answer = await self._ask(socket, request)
        whole = b" 200 OK" in answer[:20] and answer.endswith((b"0\r\n\r\n", b"}"))
        self.whole += whole
        self.refused += b" 429 " in answer[:20]
        if whole and self._dice.random() < 0.1 and b"x-handrail-idempotent-replay" in await self._ask(socket, request):
            self.repeated.append(user)

    async def _ask(self, socket: str, request: bytes) -> bytes:
        """Send a request and return all that comes; nothing, if this caller leaves before."""
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(request)
            if self._dice.random() < 0.1:
                await asyncio.sleep(self._dice.random() * 0.05)
                return b""
            return await reader.read(-1)
        finally:
            writer.close()

    def _request(self) -> tuple[str, bytes]:
        self._count += 1
        model, user = self._dice.choice(MODELS), f"{self._first} {self._count}"
        body = msgspec.json.encode(
            {
                "model": model,
                "stream": self._dice.random() < 0.5,
                "max_completion_tokens": MOST_OUTPUT,
                "messages": [{"role": "user", "content": "Where is my order?"}],
                "user": user,
            }
        )
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: handrail\r\ncontent-type: application/json\r\n"
            f"x-handrail-session: {model} {self._first} {self._count // CALLS_PER_CONVERSATION}\r\n"
            f"idempotency-key: {user}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return user, head.encode() + body


class Run:
    """A run in a folder that may go on where an earlier one was stopped."""

    def __init__(self, plan: Plan) -> None:
        self.died = 0
        """Processes that ended by themselves."""
        self.whole = self.refused = 0
        self.seen_over: set[str] = set()
        self.left = 0
        """Counters that held money after the last lease."""
        self._plan = plan
        self._state = plan.folder / "state.sqlite"
        self._once = plan.folder / "once.txt"

    async def kill(self, kills: int, done: Callable[[int], None] = lambda _: None) -> None:
        """Kill so many processes under load, then let those that are left clean up; `done` hears how many were."""
        folder, part = self._plan.folder, f"{self._plan.seed}-{self._plan.done}"
        (folder / "policy.yaml").write_text(POLICY)
        with FakeProvider(folder, seed=self._plan.seed) as provider:
            await asyncio.to_thread(provider.script, PACE)
            seats = [Seat(folder, number, provider.url) for number in range(SEATS)]
            load = Load([seat.socket for seat in seats], self._plan.dice(f"load {part}"), part)
            for seat in seats:
                seat.start()
            for seat in seats:
                await seat.ready()
            async with asyncio.TaskGroup() as group:
                clients = group.create_task(load.run())
                watcher = group.create_task(self._watch())
                await self._strike(seats, kills, self._plan.dice(f"kills {part}"), done)
                clients.cancel()
                for seat in seats:
                    await seat.ready()
                await asyncio.sleep(SLACK_S)
                watcher.cancel()
            self.left = self.holds()
            self.died += sum([await seat.end(kill=False) for seat in seats])
        self.whole, self.refused = load.whole, load.refused
        with self._once.open("a") as file:
            file.writelines(f"{user}\n" for user in load.repeated)

    async def _strike(self, seats: list[Seat], kills: int, dice: random.Random, done: Callable[[int], None]) -> None:
        for number in range(1, kills + 1):
            seat = dice.choice(seats)
            if dice.random() < 0.1:
                await asyncio.sleep(dice.uniform(0, 0.3))  # Perhaps in the middle of starting.
            else:
                await seat.ready()
                await asyncio.sleep(dice.uniform(0, 0.3))
            self.died += await seat.end(kill=True)
            seat.start()
            done(number)

    async def _watch(self) -> None:
        """Look into the books while they are written, and note every counter that is over its cap."""
        caps: dict[Pair, int] = {}
        with closing(sqlite3.connect(f"file:{self._state}?mode=ro", uri=True, timeout=30)) as connection:
            while True:
                held = connection.execute("SELECT held_under FROM attempts WHERE held_nanousd > 0").fetchall()
                for (under,) in held:
                    caps.update(dict.fromkeys(msgspec.json.decode(under, type=tuple[Pair, ...]), CAP_NANOUSD))
                counters = {row.pair: row.settled + row.reserved for row in read_counters(connection)}
                self.seen_over.update(over(counters, caps))
                await asyncio.sleep(0.25)

    def holds(self) -> int:
        """Return how many counters hold money."""
        with closing(sqlite3.connect(f"file:{self._state}?mode=ro", uri=True, timeout=30)) as connection:
            return sum(row.reserved != 0 for row in read_counters(connection))

    def bugs(self) -> int:
        """Return how many bugs processes told of."""
        log = self._plan.folder / "stderr.log"
        return log.read_text(errors="replace").count('"event":"bug"')

    def evidence(self) -> Evidence:
        """Return what is left to judge by."""
        books = read_books(self._state)
        caps = {
            pair: CAP_NANOUSD
            for record in books.records
            for attempt in record.attempts
            for pair in attempt.counters
            if attempt.held_nanousd and pair[0].startswith("conversation:")
        }
        return Evidence(
            books=(books,),
            bill=read_bill(self._plan.folder / "bill.jsonl"),
            at_ms=time.time_ns() // 1_000_000,
            caps=caps,
            once=frozenset(self._once.read_text().splitlines()),
            seen_over=tuple(sorted(self.seen_over)),
        )

    def judge(self, evidence: Evidence) -> Verdict:
        """Judge, and leave what was found in the folder."""
        verdict = check(evidence)
        text = "".join(f"{name} {row}\n" for name, row in verdict.findings)
        (self._plan.folder / "findings.txt").write_text(text)
        return verdict
