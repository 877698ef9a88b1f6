"""Owns one walk in a test: a House from a config text with scripted outside, and what came out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

import msgspec

from proxy import accounting, config
from proxy.documents import Source
from proxy.pipeline import House, Part, handle
from proxy.routing import Health
from proxy.snapshot import Snapshot
from proxy.stores.memory import MemoryStore
from proxy.terms import Exchange, Head, HeldState, RawRequest
from tests.fakes import ByteEstimator, CountingIds, FakeClient, FakeClock, Script, ScriptedUpstream

CHAT = "/v1/chat/completions"
PRICES = accounting.price_table()

CONFIG = """
agent: {id: support, level: execute}
providers: {openai: {dialect: openai, base_url: "https://provider.invalid/v1"}}
models:
  large: {provider: openai, model: large, tags: [tools], price: {input_usd_per_mtok: 2, output_usd_per_mtok: 10}}
  small: {provider: openai, model: small, tags: [tools, cheap], price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
pools: {both: [large, small]}
"""


def compiled(text: str = CONFIG, policy: str = "", folder: Path | None = None) -> Snapshot:
    """Compile a config, with a policy that is written into `folder` first. Reads files: not on the loop."""
    if policy and folder:
        (folder / "policy.yaml").write_text(policy)
        text += "\npolicies: [policy.yaml]\n"
    loaded = config.load(Source(path="handrail.yaml", text=text), {}, folder or Path())
    return config.build(loaded, {}, simulated_url="", prices=PRICES)


PLAIN = compiled()


class Outcome(msgspec.Struct, kw_only=True):
    """What one walk left."""

    head: Head | None = None
    parts: list[Part] = msgspec.field(default_factory=list)

    @property
    def body(self) -> bytes:
        """Return all bytes after the head."""
        return b"".join(part.frame for part in self.parts if not isinstance(part, Head))


class Walked:
    """A House with scripted outside, through which any number of calls can walk."""

    def __init__(self, *scripts: Script, snapshot: Snapshot | None = None) -> None:
        self.store = MemoryStore()
        self.seen: list[Exchange] = []
        self.clock = FakeClock()
        self.upstream = ScriptedUpstream(*scripts)
        self.house = House(
            snapshot=snapshot or PLAIN,
            clock=self.clock,
            ids=CountingIds(),
            upstream=self.upstream,
            budgets=self.store,
            records=self.store,
            sessions=self.store,
            desk=self.store,
            estimator=ByteEstimator(),
            health=Health(),
            observe=self.seen.append,
            pause=self._pause,
            vault_key=b"a key of these tests",
            customer_key=b"another key of these tests",
        )
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What happens while a call waits; the first time only."""

    async def _pause(self, seconds: float) -> None:
        self.clock.at_ms += int(seconds * 1000)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            await meanwhile()

    async def decide(self, state: HeldState) -> None:
        """Approve or deny whatever waits at the desk."""
        for held in await self.store.held(HeldState.PENDING, 100):
            await self.store.decide(held.id, state, "lead", "", self.clock.at_ms)

    async def close(self) -> None:
        """Give every conversation back to its agent."""
        for packet in await self.store.handoffs(True, 100):
            await self.store.close_handoff(packet.id, "lead", self.clock.at_ms)

    async def call(
        self,
        body: object,
        *,
        headers: Mapping[str, str] | None = None,
        gone: bool = False,
        leave_after: int | None = None,
        client: FakeClient | None = None,
        path: str = CHAT,
    ) -> Outcome:
        """Walk one call; `leave_after` closes the walk after so many parts."""
        outcome = Outcome()
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        raw = RawRequest(method="POST", path=path, headers=dict(headers or {}), body=data, peer="127.0.0.1")
        async with aclosing(handle(self.house, raw, client or FakeClient(gone))) as parts:
            async for part in parts:
                if isinstance(part, Head):
                    outcome.head = part
                outcome.parts.append(part)
                if len(outcome.parts) == leave_after:
                    break
        await asyncio.sleep(0)
        return outcome
