"""Owns the proof that a spend limit holds under concurrency, in one Handrail and across two that share their state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.simulated import Billed
from proxy.stores.sqlite import Reader
from proxy.terms import Totals
from tests.e2e.endings import says, simulate
from tests.e2e.rig import LISTENERS, Provider, Served, handrail, until

CLIENTS = 64
CALLS_EACH = 4
CAP_NANOUSD = 20_000_000
INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 10_000
"""Per token, as the configuration says by the million."""

CONFIG = """\
agent: {id: desk}
providers: {model: {dialect: openai, base_url: "PROVIDER"}}
models: {small: {provider: model, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 10}}}
policies: [policy.yaml]
state: {path: STATE}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {spend: [{id: month, scope: agent, window: month, limitUSD: 0.02}]}
"""


@contextmanager
def serving(folder: Path, provider: Provider, count: int) -> Iterator[list[Served]]:
    """Run so many Handrails on one state file."""
    with ExitStack() as stack:
        many = []
        for number in range(count):
            home = folder / str(number)
            home.mkdir()
            (home / "policy.yaml").write_text(POLICY)
            text = CONFIG.replace("PROVIDER", provider.url).replace("STATE", str(folder / "shared.sqlite"))
            (home / "handrail.yaml").write_text(LISTENERS + text)
            many.append(stack.enter_context(handrail(home / "handrail.yaml")))
        yield many


class Sampler:
    """Reads the books again and again while calls are made, and remembers what it saw of the limited month."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[Totals] = []

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Reader(str(self._state)) as reader:
            while not self._stop.wait(0.002):
                self.seen += months(reader)


def months(reader: Reader) -> list[Totals]:
    """Return the totals that the limit is about."""
    return [totals for scope, window, totals in reader.totals() if scope == "agent:desk" and window.startswith("month")]


async def one_client(url: str, outcomes: list[str]) -> None:
    """Make the calls of one client with the SDK, every other one streamed."""
    async with openai.AsyncOpenAI(base_url=url, api_key="placeholder") as client:
        create: Any = client.chat.completions.create
        for number in range(CALLS_EACH):
            streamed = number % 2 == 1
            try:
                reply = await create(
                    model="small",
                    messages=says("Hello"),
                    max_completion_tokens=40,
                    metadata=simulate(text="word " * 30, delay_ms=5),
                    stream=streamed,
                )
                if streamed:
                    [chunk async for chunk in reply]
                outcomes.append("answered")
            except openai.RateLimitError as error:
                outcomes.append(str(error.code))


def hammer(many: list[Served]) -> list[str]:
    """Let all clients call at once, spread over the Handrails; return how their calls went."""
    outcomes: list[str] = []

    async def all_at_once() -> None:
        await asyncio.gather(*(one_client(many[n % len(many)].base_url, outcomes) for n in range(CLIENTS)))

    asyncio.run(all_at_once())
    return outcomes


def charge(line: Billed) -> int:
    """Return what the provider charges for a call."""
    return line.prompt_tokens * INPUT_NANOUSD + line.completion_tokens * OUTPUT_NANOUSD


@pytest.mark.parametrize("processes", [1, 2], ids=["one process", "two that share their state"])
def test_a_limit_holds_at_every_moment(processes: int, tmp_path: Path) -> None:
    """64 clients at once never bring settled and held money above the limit, and in the end the books say to the
    nano-dollar what the provider bills, with nothing held."""
    with Provider().running() as provider, serving(tmp_path, provider, processes) as many:
        with Sampler(many[0].state) as sampler:
            outcomes = hammer(many)
        assert until(lambda: CLIENTS * CALLS_EACH == len(many[0].records()))
        with Reader(str(many[0].state)) as reader:
            [end] = months(reader)

    answered = outcomes.count("answered")
    assert {"answered", "insufficient_quota"} == set(outcomes)
    assert CLIENTS * CALLS_EACH == len(outcomes)
    assert any(totals.reserved_nanousd for totals in sampler.seen), "nothing was ever seen held"
    assert CAP_NANOUSD >= max(totals.nanousd + totals.reserved_nanousd for totals in sampler.seen)
    assert (answered, sum(map(charge, provider.bill)), 0) == (end.calls, end.nanousd, end.reserved_nanousd)
    assert answered == len(provider.bill)
