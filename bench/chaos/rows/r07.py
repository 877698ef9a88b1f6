"""Owns row R7: calls at a steady rate while policies and configuration are changed and broken in turn.

A valid change of `reloading.WAYS` is followed by an invalid one of its `FAULTS`. After each valid one a call shows that
the new generation decides; after each invalid one `/status` names file and line, and a call shows that the old one
still does. Streams that were open before a change go on to their end. Afterwards the records say of every call by which
versions of the rules it was decided in all its phases: of each policy by one.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.chaos.clients import LAST_CHUNK, Got, Open, Steady, body, opened, rests
from bench.chaos.durable import quantile
from bench.chaos.provider import FakeProvider, Script
from bench.chaos.reloading import MOUNTED, PLAIN, Files
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.serving import Served, serving
from proxy.terms import Exchange

TITLE = "failed requests in 200 reloads (100 invalid) at 500 rps"
GATE = "0"
STRETCH = "0 at 1,000 rps"

WAIT_S = 60.0
"""Longer than it takes on a busy machine until a change is noticed and in force, which is polled for."""
REACHED = 0.98
"""Of the rate that was asked for; below it the row is not met, whatever failed."""
LONG = Script(texts=("a ",) * 12, gap_ms=100)
"""A stream that is open for longer than a reload takes."""
DONE = b"data: [DONE]\n\n" + LAST_CHUNK


class Watched:
    """What is seen of one Handrail while its files change."""

    def __init__(self, here: Served, files: Files, seed: int) -> None:
        self._here = here
        self._files = files
        self._first = seed
        self._token = (here.state.parent / "admin.token").read_text().strip()
        self.wrong: Counter[str] = Counter()
        self.in_force_s: list[float] = []

    async def valid(self, number: int) -> None:
        """Make a valid change and wait until a call shows it; streams that are open go on to their ends."""
        streams = await opened(self._here.port, [body("m", stream=True, provider=LONG)] * 2)
        began = time.monotonic()
        way = self._files.change(self._first + number // 2)
        if not await _until(self._decides):
            self.wrong["valid changes not in force"] += 1
            print(f"not in force: {way}")
        self.in_force_s.append(time.monotonic() - began)
        await self._ended(streams)

    async def invalid(self, number: int) -> None:
        """Break something, wait until that is told with its place, and look who decides."""
        fault, place = self._files.spoil(self._first + number // 2)

        async def told() -> bool:
            return any(re.search(place, problem) for problem in (await asyncio.to_thread(self._status))["stale"])

        if not await _until(told):
            self.wrong["invalid changes not told by their place"] += 1
            print(f"not told: {fault}: {(await asyncio.to_thread(self._status))['stale']}")
        if not await self._decides():
            self.wrong["invalid changes after which the old did not decide"] += 1

    async def _decides(self) -> bool:
        """Say whether calls show just the generation that should be in force."""
        now = self._files.now
        model = f"gen-{now.config}"
        said = [await self._said(model, f"which {name}?") for name in (PLAIN, MOUNTED)]
        return said == [f"generation {now.plain}", f"generation {now.mount}"]

    async def _said(self, model: str, text: str) -> str:
        one = Steady(self._here.port, 1000, lambda _: body(model, text=text), connections=1)
        while not one.got:
            await one.run(0.001)
        got = one.got[0]
        return str(json.loads(got.body)["choices"][0]["message"]["content"]) if got.status == 200 else ""

    async def _ended(self, streams: list[Open]) -> None:
        self.wrong["open streams that were cut"] += sum(not got.endswith(DONE) for got in await rests(streams))

    def _status(self) -> Any:
        asked = urllib.request.Request(  # noqa: S310 - our own page
            f"{self._here.admin_url}/status", headers={"authorization": f"Bearer {self._token}"}
        )
        with urllib.request.urlopen(asked, timeout=WAIT_S) as page:  # noqa: S310 - our own page
            return json.load(page)


def run(plan: Plan) -> Outcome:
    """Run at the gate's rate, then at the stretch's if this machine serves so many."""
    reloads, rate = (200, 500) if plan.full else (4, 50)
    figures = _pass(plan.folder / "gate", reloads, rate, plan.seed)
    notes = ["Handrail notices changes by itself, twice a second; it has no other way to be told of them."]
    met = _holds(figures, reloads, rate)
    stretch = False
    if plan.full and met:
        more = _pass(plan.folder / "stretch", reloads, 2 * rate, plan.seed)
        stretch = _holds(more, reloads, 2 * rate)
        figures |= {f"at {2 * rate:,} rps: {name}": figure for name, figure in more.items()}
    if not within(figures, least={"calls per second": rate * REACHED}):
        notes.append(f"This machine did not serve {rate} calls a second beside those that make and answer them.")
    return Outcome(figures=figures, met=met, stretch=stretch, notes=tuple(notes))


def _holds(figures: dict[str, Figure], reloads: int, rate: int) -> bool:
    reached = {"calls per second": rate * REACHED, "reloads": reloads, "of them refused": reloads // 2}
    return within(figures, most=dict.fromkeys(NOTHING, 0), least=reached)


NOTHING = (
    "failed calls",
    "valid changes not in force",
    "invalid changes not told by their place",
    "invalid changes after which the old did not decide",
    "open streams that were cut",
    "calls decided by other than one version of each policy",
    "calls without a record",
)
"""What must not have happened."""


def _pass(folder: Path, reloads: int, rate: int, seed: int) -> dict[str, Figure]:
    """Serve calls at a rate and change files meanwhile; return what came of it."""
    folder.mkdir(exist_ok=True)
    with FakeProvider(folder, seed=seed) as provider:
        files = Files(folder, provider.url)
        with serving(folder, files.begin()) as here:
            figures = asyncio.run(_changed(here, Watched(here, files, seed), reloads, rate))
            here.stop()
            records = here.records()
            log = here.errors.read_bytes()
    made = int(figures["calls"])
    return {
        **{name: figures.get(name, 0) for name in NOTHING},
        **figures,
        "calls decided by other than one version of each policy": _mixed(records),
        "calls without a record": max(0, made - len(records)),
        "of them refused": log.count(b'"event":"reload_refused"'),
        "put in force": log.count(b'"event":"reloaded"'),
    }


async def _changed(here: Served, watched: Watched, reloads: int, rate: int) -> dict[str, Figure]:
    whole, streamed = body("m"), body("m", stream=True)
    load = Steady(here.port, rate, lambda number: streamed if number % 10 == 0 else whole, connections=64)
    async with asyncio.TaskGroup() as group:
        began = time.monotonic()
        group.create_task(load.run())
        for number in range(reloads):
            await (watched.invalid if number % 2 else watched.valid)(number)
        load.stopped = True
    took_s = time.monotonic() - began
    took = [got.took_s * 1000 for got in load.got]
    return {
        "failed calls": sum(not _well(got) for got in load.got),
        **watched.wrong,
        "calls per second": round(len(load.got) / took_s, 1),
        "calls": len(load.got),
        "reloads": reloads,
        "a call, p50/p99/max ms": _shares(took, 0.5, 0.99, 1.0),
        "until a change is in force, median/max s": _shares(watched.in_force_s, 0.5, 1.0),
    }


def _shares(values: list[float], *shares: float) -> str:
    return "/".join(f"{quantile(values, share):.1f}" for share in shares)


def _well(got: Got) -> bool:
    """Say whether a reply is whole, with what the policies cover in the provider's words."""
    end = DONE if b"text/event-stream" in got.head else b"}"
    said = b"".join(re.findall(rb'"content":"([^"]*)"', got.body))
    return got.status == 200 and said == b"Hel[PATTERN]" and got.body.endswith(end)


def _mixed(records: list[Exchange]) -> int:
    """Return how many calls were not decided by one version of each policy: each leaves a mark on every call."""
    return sum(len(_versions(record)) != len((PLAIN, MOUNTED)) for record in records)


def _versions(record: Exchange) -> set[tuple[str, str]]:
    """Return the policies that decided a call, each with its version."""
    rules = (hit.id for decision in record.decisions for hit in decision.rules)
    return {(rule.partition("/")[0], rule.partition("@")[2]) for rule in rules}


async def _until(claim: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until a claim is true; return whether it came true."""
    deadline = time.monotonic() + WAIT_S
    while not await claim():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
