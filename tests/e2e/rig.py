"""Owns the world around the end-to-end tests: a Handrail that is a process of its own, and the provider behind it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy import simulated
from proxy.simulated import Billed, Directives
from proxy.stores.sqlite import Reader
from proxy.terms import Exchange, State, Totals

HANDRAIL = Path(sys.executable).with_name("handrail")
WAIT_S = 60.0
"""Longer than anything here takes on a busy machine: what turns a hang into a failure."""

LISTENERS = "listen: 127.0.0.1:0\nhealth_listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n"
"""Ports that are free: what was given is read from the announcement."""


def until(claim: Callable[[], bool]) -> bool:
    """Wait until a claim is true; return whether it came true."""
    deadline = time.monotonic() + WAIT_S
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# --- the provider ---------------------------------------------------------------------------------------------------


class Provider:
    """The simulated provider on a thread of its own: where it is, and what it would charge."""

    def __init__(self) -> None:
        self.url = ""
        self.bill: list[Billed] = []
        self._plans: deque[Directives] = deque()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def next(self, *plans: Directives) -> None:
        """Say how the next calls are to go."""
        self._plans.extend(plans)

    def _script(self) -> Iterator[Directives]:
        while True:
            yield self._plans.popleft() if self._plans else Directives()

    async def _serve(self) -> None:
        async with simulated.serve(script=self._script(), bill=self.bill.append) as self.url:
            self._ready.set()
            await self._stop.wait()

    @contextmanager
    def running(self) -> Iterator[Provider]:
        """Serve until the block ends."""
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        thread.start()
        assert self._ready.wait(WAIT_S)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(WAIT_S)
            self._loop.close()


# --- Handrail -------------------------------------------------------------------------------------------------------


class Served(msgspec.Struct, kw_only=True):
    """A Handrail that serves."""

    process: subprocess.Popen[str]
    base_url: str
    health_url: str
    state: Path

    def records(self) -> list[Exchange]:
        """Return the finished records, oldest first."""
        with Reader(str(self.state)) as reader:
            return [exchange for _, exchange in reader.tail(10_000)]

    def flying(self) -> list[Exchange]:
        """Return the records of calls that are under way."""
        with Reader(str(self.state)) as reader:
            return reader.in_flight()

    def record(self, decision: str) -> Exchange:
        """Return the finished record that a decision id names; it is written just after the reply has left."""
        found: list[Exchange] = []

        def finished() -> bool:
            with Reader(str(self.state)) as reader:
                exchange = reader.find(decision.partition("-")[0])
            if exchange and exchange.state is not State.DISPATCHED:
                found.append(exchange)
            return bool(found)

        assert until(finished), f"{decision} was never recorded"
        return found[0]

    def totals(self) -> dict[tuple[str, str], Totals]:
        """Return what stands in the books, by scope and window."""
        with Reader(str(self.state)) as reader:
            return {(scope, window): totals for scope, window, totals in reader.totals()}


class World(NamedTuple):
    """A Handrail, and the provider behind it."""

    handrail: Served
    provider: Provider


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, which tests/conftest.py has cleaned, and what a test adds."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **more}


@contextmanager
def handrail(config: Path, *before: str, **environment: str) -> Iterator[Served]:
    """Run `handrail serve --config`, `before` it another program that becomes it, until the block ends; it must then
    leave in order."""
    with ExitStack() as stack:
        errors = stack.enter_context((config.parent / "stderr.log").open("ab"))
        process = stack.enter_context(
            subprocess.Popen(
                [*before, HANDRAIL, "serve", "--config", config],
                env=clean_environment(environment),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        )
        stack.callback(process.kill)
        said = announcement(process)
        assert said, (config.parent / "stderr.log").read_text()
        yield Served(
            process=process,
            base_url=said["OPENAI_BASE_URL"],
            health_url=said["health"],
            state=Path(said["records"]),
        )
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(WAIT_S)


def announcement(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read what a starting Handrail says of itself; nothing if it ends first."""
    assert process.stdout
    said: dict[str, str] = {}
    for line in process.stdout:
        if found := re.search(r"(OPENAI_BASE_URL)=(\S+)|(health|records) +(\S+)", line):
            said[found[1] or found[3]] = found[2] or found[4].removesuffix("/healthz")
        if "records" in said:
            return said
    return {}
