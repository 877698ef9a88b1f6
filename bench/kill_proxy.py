"""Owns the proof by force that the whole proxy loses no call and no money: `handrail serve`, killed at random instants.

Usage: python bench/kill_proxy.py [--kills 200] [--seed 1]. Two processes serve on one state file, under load, in front
of a provider that writes a bill: one line per request that it received, and what it charges for it. Each process is
sent SIGKILL at a random instant, start-up included, and started again. At the end the bill is compared with the
records, and the records with the counters. Exits 1 when a billed call has no record or two, when a call is still in
flight or a hold still held after the lease, when the counters are not the sum of the attempts, when a call cost other
than what was billed, when a cap was exceeded at any moment, or when a process ended by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from proxy.recording import digest
from proxy.stores.sqlite import Reader
from proxy.terms import Attempt, Exchange, State, Totals

PROCESSES = 2
CLIENTS = 24
LEASE_S = 2
SLACK_S = 2 * LEASE_S + 2
"""A lease, the beat after it at which another process looks, and the time that a busy machine takes."""
READY_S = 30.0
INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
"""Per token, as `CONFIG` says."""
MOST_INPUT, MOST_OUTPUT = 50, 100
CAP_NANOUSD = 3_000_000
"""Of one conversation: room for a few holds at once, so that some calls are refused."""
CALLS_PER_CONVERSATION = 40
MODELS = ("limited", "free")
CONFIG = """\
listen: "unix:SOCKET"
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {bench: {dialect: openai, base_url: "http://127.0.0.1:PORT/v1"}}
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


# --- the provider ---------------------------------------------------------------------------------------------------


class Provider:
    """An OpenAI-compatible server that charges for a request as soon as it has it, whatever becomes of the reply."""

    def __init__(self, dice: random.Random) -> None:
        self.bill: list[tuple[str, int]] = []
        """Digest of each request's body, and what it costs in nano-dollars."""
        self._dice = dice

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve on a port of this machine, which is given."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                await self._answer(body, writer)
        writer.close()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        sent, got = self._dice.randint(1, MOST_INPUT), self._dice.randint(1, MOST_OUTPUT)
        self.bill.append((digest(body), sent * INPUT_NANOUSD + got * OUTPUT_NANOUSD))
        usage = {"prompt_tokens": sent, "completion_tokens": got, "total_tokens": sent + got}
        for piece in reply(usage) if b'"stream":true' not in body else events(usage):
            await asyncio.sleep(self._dice.random() * 0.02)
            writer.write(piece)
            await writer.drain()


def reply(usage: dict[str, int]) -> Iterator[bytes]:
    """Yield the pieces of an unstreamed reply."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    body = msgspec.json.encode({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    yield body


def events(usage: dict[str, int]) -> Iterator[bytes]:
    """Yield the pieces of a streamed reply, usage at its end."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for text in ("Hel", "lo", " there"):
        yield event({"choices": [{"index": 0, "delta": {"content": text}}]})
    yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield event({"choices": [], "usage": usage})
    yield b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def event(tree: dict[str, object]) -> bytes:
    """Return one event as an HTTP chunk."""
    data = b"data: " + msgspec.json.encode({"id": "c", "object": "chat.completion.chunk", **tree}) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


# --- the load -------------------------------------------------------------------------------------------------------


class Load:
    """Clients that call whichever process is up, streamed or not; some leave before the end."""

    def __init__(self, sockets: list[Path], dice: random.Random) -> None:
        self._sockets = sockets
        self._dice = dice
        self._count = 0
        self.whole = 0
        """Replies that a client got to their end."""
        self.refused = 0
        """Calls for which the budget had no room."""

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
        reader, writer = await asyncio.open_unix_connection(str(self._dice.choice(self._sockets)))
        try:
            writer.write(self._request())
            if self._dice.random() < 0.1:
                await asyncio.sleep(self._dice.random() * 0.05)
                return
            answer = await reader.read(-1)
        finally:
            writer.close()
        self.whole += b" 200 OK" in answer[:20] and answer.endswith((b"0\r\n\r\n", b"}"))
        self.refused += b" 429 " in answer[:20]

    def _request(self) -> bytes:
        self._count += 1
        model = self._dice.choice(MODELS)
        body = msgspec.json.encode(
            {
                "model": model,
                "stream": self._dice.random() < 0.5,
                "max_completion_tokens": MOST_OUTPUT,
                "messages": [{"role": "user", "content": "Where is my order?"}],
                "user": f"call {self._count}",
            }
        )
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: handrail\r\ncontent-type: application/json\r\n"
            f"x-handrail-session: {model} {self._count // CALLS_PER_CONVERSATION}\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


# --- the killing ----------------------------------------------------------------------------------------------------


class Seat:
    """A place where one process serves after another; each has a socket of its own."""

    def __init__(self, folder: Path, number: int, port: int) -> None:
        self.socket = folder / f"{number}.sock"
        self._config = folder / f"handrail-{number}.yaml"
        self._config.write_text(CONFIG.replace("SOCKET", str(self.socket)).replace("PORT", str(port)))
        self._log = folder / "stderr.log"
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start a process."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", "--config", self._config, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        """Wait until it takes calls."""
        async with asyncio.timeout(READY_S):
            while self._process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(str(self.socket))
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def kill(self) -> bool:
        """Kill the process; say whether it had ended by itself."""
        ended = self._process.returncode is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        return ended

    async def stop(self) -> bool:
        """Let the process end in order; say whether it did anything but that."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        return await self._process.wait() != 0


async def run(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill under load, then let the last processes clean up; print what was done, return what does not add up."""
    dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    provider = Provider(random.Random(seed + 1))  # noqa: S311 - the same
    (folder / "policy.yaml").write_text(POLICY)
    over: set[str] = set()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(provider.serving())
        seats = [Seat(folder, number, port) for number in range(PROCESSES)]
        load = Load([seat.socket for seat in seats], random.Random(seed + 2))  # noqa: S311 - the same
        for seat in seats:
            await seat.start()
        for seat in seats:
            await seat.ready()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            watcher = group.create_task(watch_caps(folder / "state.sqlite", over))
            died = await kill(seats, kills, dice)
            clients.cancel()
            for seat in seats:
                await seat.ready()
            await asyncio.sleep(SLACK_S)
            watcher.cancel()
        left = leftovers(folder / "state.sqlite")
        died += sum([await seat.stop() for seat in seats])
    summary, problems = audit(folder / "state.sqlite", provider.bill)
    print(f"{summary}; {load.whole} replies whole, {load.refused} refused for their budget")
    problems += [f"{len(over)} caps exceeded for a moment"] if over else []
    problems += [f"{died} processes ended by themselves"] if died else []
    bugs = (folder / "stderr.log").read_text().count('"event":"bug"')
    return problems + left + ([f"{bugs} bugs in the log"] if bugs else [])


async def kill(seats: list[Seat], kills: int, dice: random.Random) -> int:
    """Kill one process after another and start it again; return how many had ended by themselves."""
    ended = 0
    for number in range(kills):
        seat = dice.choice(seats)
        if dice.random() < 0.1:
            await asyncio.sleep(dice.uniform(0, 1))  # Perhaps in the middle of starting.
        else:
            await seat.ready()
            await asyncio.sleep(dice.uniform(0, 0.4))
        ended += await seat.kill()
        await seat.start()
        if (number + 1) % 50 == 0:
            print(f"{number + 1} kills", file=sys.stderr, flush=True)
    return ended


async def watch_caps(path: Path, over: set[str]) -> None:
    """Look into the books while they are written, and note every conversation that is over its cap."""
    with Reader(str(path)) as reader:
        limited = {record_scope(record) for record in reader.in_flight() if record.model_asked == "limited"}
        while True:
            limited |= {record_scope(record) for record in reader.in_flight() if record.model_asked == "limited"}
            over |= exceeded(reader.totals(), limited)
            await asyncio.sleep(0.1)


# --- the audit ------------------------------------------------------------------------------------------------------


def record_scope(record: Exchange) -> str:
    """Return the scope of the conversation that a record belongs to."""
    return f"conversation:{record.session.id}"


def exceeded(totals: list[tuple[str, str, Totals]], limited: set[str]) -> set[str]:
    """Return the scopes under the cap that have spent or hold more."""
    spent = {scope: total.nanousd + total.reserved_nanousd for scope, _, total in totals if scope in limited}
    return {scope for scope, nanousd in spent.items() if nanousd > CAP_NANOUSD}


def leftovers(path: Path) -> list[str]:
    """Return what processes that are alive should have cleaned up after dead ones, and have not."""
    with Reader(str(path)) as reader:
        flying = len(reader.in_flight())
        held = sum(total.reserved_nanousd != 0 for _, _, total in reader.totals())
    problems = [f"{flying} calls in flight after the lease"] if flying else []
    return problems + ([f"{held} counters with holds after the lease"] if held else [])


def booked(attempt: Attempt) -> int:
    """Return what the books say that an attempt cost: what was held, where its cost was never learned."""
    return attempt.held_nanousd if attempt.cost.nanousd is None else attempt.cost.nanousd


def miscounted(records: list[Exchange], totals: list[tuple[str, str, Totals]]) -> int:
    """Return how many counters are not the sum of their attempts."""
    spent: Counter[tuple[str, str]] = Counter()
    calls: Counter[tuple[str, str]] = Counter()
    for attempt in (attempt for record in records for attempt in record.attempts):
        for pair in attempt.counters:
            spent[pair] += booked(attempt)
            calls[pair] += 1
    said = {(scope, window): (total.nanousd, total.calls) for scope, window, total in totals}
    return sum(said.get(pair, (0, 0)) != (spent[pair], calls[pair]) for pair in {*said, *calls})


def mispriced(record: Exchange, nanousd: int) -> bool:
    """Say whether a call that the provider billed was booked wrongly: exactly if it was seen to its end, else never for
    less than the bill where money was held for it."""
    attempt = record.attempts[-1]
    if attempt.state is State.COMPLETE:
        return booked(attempt) != nanousd
    return attempt.held_nanousd > 0 and booked(attempt) < nanousd


def audit(path: Path, bill: list[tuple[str, int]]) -> tuple[str, list[str]]:
    """Compare the provider's bill, the records and the counters; return a summary and all that does not add up."""
    with Reader(str(path)) as reader:
        flying, totals = reader.in_flight(), reader.totals()
        records = [*reader.between(0, 1 << 62), *flying]
    sent = {record.sent_digest: record for record in records if record.sent_digest}
    costs = [(sent[name], nanousd) for name, nanousd in bill if name in sent]
    counts = {
        "billed calls without a record": sum(name not in sent for name, _ in bill),
        "calls with two records": sum(bool(record.sent_digest) for record in records) - len(sent),
        "calls sent twice": len(bill) - len({name for name, _ in bill}),
        "calls left in flight": len(flying),
        "counters that still hold money": sum(total.reserved_nanousd != 0 for _, _, total in totals),
        "counters that are not the sum of their attempts": miscounted(records, totals),
        "calls booked at other than their bill": sum(mispriced(record, nanousd) for record, nanousd in costs),
        "caps exceeded": len(exceeded(totals, {record_scope(r) for r in records if r.model_asked == "limited"})),
    }
    recovered = sum(record.state is State.RECOVERED for record in records)
    summary = f"{len(bill)} calls billed, {len(records)} recorded, {recovered} of them by recovery"
    return summary, [f"{count} {what}" for what, count in counts.items() if count]


def main() -> int:
    """Kill, audit, report."""
    parser = argparse.ArgumentParser(description="Kill whole proxies under load, and look for what was lost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave the state in this folder")
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        problems = asyncio.run(run(Path(folder), chosen.kills, chosen.seed))
        if chosen.keep:
            shutil.copytree(folder, chosen.keep, ignore=shutil.ignore_patterns("*.sock"))
    verdict = "; ".join(problems) or "nothing lost, nothing doubled"
    print(f"{chosen.kills} kills, seed {chosen.seed}, {time.monotonic() - began:.0f} s: {verdict}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
