"""Owns the price of rules that search texts: a long conversation whose personal data never reaches the model.

Whole calls walk from bytes to bytes, turn after turn, the history with each. `turn` is the longest time in which nobody
else had his turn, in CPU time: with a text of number-rich notes in each message, with one that is made to cost most,
and in one that needs no search, for comparison.
Run: python bench/search_cost.py [kilobytes of the first request] [messages]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from proxy import accounting, config
from proxy.documents import Source
from proxy.pipeline import House, handle
from proxy.ports import UpstreamReply
from proxy.routing import Health
from proxy.stores.memory import MemoryStore
from proxy.terms import Headers, OnDisconnect, RawRequest, UpstreamCall

CONFIG = """
agent: {id: support, level: execute}
providers: {openai: {dialect: openai, base_url: "https://provider.invalid/v1"}}
models: {large: {provider: openai, model: large, price: {input_usd_per_mtok: 2, output_usd_per_mtok: 10}}}
policies: [policy.yaml]
"""
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bench, version: 1.0.0}
spec:
"""
RULES = {
    "no search": "  rules: [{id: a, phase: request, action: annotate, when: 'false', annotations: {a: b}}]",
    "tokenize": "  data: [{id: a, direction: in, kinds: [email, card, phone, iban, ssn], action: tokenize}]",
    "a pattern": r"  rules: [{id: a, phase: request, action: mask, pattern: '\bW[0-9]{7,9}\b'}]",
}
NOTE = (
    "2026-01-05 10:42 order #W2378156, 2 items, $54.99 + $120.00, tracking 1Z999AA10123456784, "
    "mail help{number}@example.com, call (212) 555-{number:04}, paid with 4111 1111 1111 1111. "
)
TURNS = 3
SAID = {"role": "assistant", "content": "Noted."}
ANSWER = msgspec.json.encode(
    {
        "id": "c",
        "object": "chat.completion",
        "model": "large",
        "choices": [{"index": 0, "finish_reason": "stop", "message": SAID}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10},
    }
)


class Lag:
    """Time of this process's CPU, and the longest stretch between two turns of the others."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self.since, self.longest = self.monotonic_ms(), 0.0

    def wall_ms(self) -> int:
        """Return a moment."""
        return 1_767_606_000_000

    def monotonic_ms(self) -> float:
        """Return milliseconds of CPU time."""
        return time.process_time_ns() / 1e6

    async def pause(self, _: float) -> None:
        """Note how long the last stretch was."""
        now = self.monotonic_ms()
        self.longest, self.since = max(self.longest, now - self.since), now


class Ids:
    """Numbers."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, prefix: str) -> str:
        """Return the next."""
        self._count += 1
        return f"{prefix}_{self._count}"


class Provider:
    """A provider that notes what it got and always says the same."""

    status = 200

    def __init__(self) -> None:
        self.headers: Headers = {"content-type": "application/json"}
        self.got = b""

    @asynccontextmanager
    async def send(self, call: UpstreamCall) -> AsyncIterator[UpstreamReply]:
        """Take a call."""
        self.got = call.body
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        """Answer."""
        yield ANSWER


class Client:
    """One who stays."""

    gone = False
    given_up = ""

    def leaving(self, then: OnDisconnect) -> None:
        """Stay."""


class Bytes:
    """Counts bytes as tokens."""

    def count(self, text: str) -> tuple[int, bool]:
        """Return a bound."""
        return len(text), False


def house(rules: str, lag: Lag, provider: Provider) -> House:
    """Build the hallway with some rules."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.yaml").write_text(POLICY + rules, encoding="utf-8")
        loaded = config.load(Source(path="handrail.yaml", text=CONFIG), {}, Path(folder))
        snapshot = config.build(loaded, {}, simulated_url="", prices=accounting.price_table())
    store = MemoryStore()
    return House(
        snapshot=snapshot,
        clock=lag,
        ids=Ids(),
        upstream=provider,
        budgets=store,
        records=store,
        sessions=store,
        desk=store,
        estimator=Bytes(),
        health=Health(),
        observe=lambda _: None,
        pause=lag.pause,
        vault_key=b"bench",
        customer_key=b"bench",
    )


def conversation(size: int, messages: int) -> list[dict[str, str]]:
    """Write a history of so many bytes."""
    notes = (NOTE.format(number=number % 10_000) for number in range(10**9))
    said: list[dict[str, str]] = []
    for number in range(messages):
        text = ""
        while len(text) < size // messages:
            text += next(notes)
        said.append({"role": "assistant" if number % 2 else "user", "content": text})
    return [*said, {"role": "user", "content": "And now?"}]


async def main(size: int, messages: int) -> None:
    """Measure and print."""
    print(
        f"{size:,} bytes in {messages} messages      turn    CPU ms   longest ms   verdict, bytes that the model gets"
    )
    for name, rules in RULES.items():
        lag, provider, said = Lag(), Provider(), conversation(size, messages)
        rooms = house(rules, lag, provider)
        for turn in range(TURNS):
            body = msgspec.json.encode({"model": "large", "messages": said})
            raw = RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=body, peer="127.0.0.1")
            gc.collect()
            lag.begin()
            began, verdict = lag.since, ""
            async with aclosing(handle(rooms, raw, Client())) as parts:
                async for part in parts:
                    verdict = verdict or getattr(part, "headers", {}).get("x-handrail-verdict", "")
            await lag.pause(0)
            took = lag.monotonic_ms() - began
            print(f"{name:12} {turn + 1:28}  {took:8.1f}   {lag.longest:10.1f}   {verdict}, {len(provider.got):,}")
            said += [SAID, {"role": "user", "content": NOTE.format(number=turn)}]


if __name__ == "__main__":
    first, second = (*map(int, sys.argv[1:]), *(2048, 40)[len(sys.argv) - 1 :])
    asyncio.run(main(first * 1024, second))
