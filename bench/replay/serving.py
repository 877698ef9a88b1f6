"""Owns the house that recordings are played in: the real hallway, with a provider that says what was recorded.

The recorded reply comes in pieces that are cut at random, so that nothing can depend on how it was sliced.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench.replay.cassettes import Answered
from proxy import accounting, config
from proxy.documents import Source
from proxy.pipeline import House, handle
from proxy.routing import Health
from proxy.snapshot import Snapshot
from proxy.stores.memory import MemoryStore
from proxy.terms import Exchange, Head, Headers, OnDisconnect, RawRequest, UpstreamCall

PRICES = accounting.price_table()
PIECE_BYTES = 60
"""Of the pieces, on average."""


class Stays:
    """A client that stays to the end."""

    gone = False
    given_up = ""

    def leaving(self, then: OnDisconnect) -> None:
        """It does not leave."""


class Replied:
    """One recorded reply."""

    def __init__(self, answered: Answered, dice: random.Random) -> None:
        self._data = answered.data
        self._dice = dice
        self.status = answered.status or 200
        self.headers: Headers = {name.lower(): value for name, value in answered.headers.items()}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        size, at = len(self._data), 0
        while at < size:
            length = 1 + int(self._dice.expovariate(1 / PIECE_BYTES))
            yield self._data[at : at + length]
            at += length


class Recorded:
    """A provider that gives the same recorded reply to whatever it is asked."""

    def __init__(self, answered: Answered, dice: random.Random) -> None:
        self.sent: list[UpstreamCall] = []
        self._answered = answered
        self._dice = dice

    @asynccontextmanager
    async def send(self, call: UpstreamCall) -> AsyncIterator[Replied]:
        """Answer."""
        self.sent.append(call)
        yield Replied(self._answered, self._dice)


class Names:
    """Names in order."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def new(self, prefix: str) -> str:
        """Return the next name."""
        return f"{prefix}_{next(self._count):032x}"


class Clock:
    """A clock that stands still."""

    def wall_ms(self) -> int:
        """Return the time that the recordings are played at."""
        return 1_767_225_600_000

    def monotonic_ms(self) -> float:
        """Return the same."""
        return 0.0


class Bytes:
    """One token per four bytes."""

    def count(self, text: str) -> tuple[int, bool]:
        """Return the estimate, which no tokenizer made."""
        return (len(text.encode()) + 3) // 4, False


class Got(msgspec.Struct, kw_only=True):
    """What a client got, what the provider was sent, and what is on record."""

    status: int = 0
    headers: Headers = {}
    body: bytes = b""
    sent: tuple[UpstreamCall, ...] = ()
    exchange: Exchange | None = None


def snapshot(provider: Mapping[str, Any], more: Mapping[str, Any] = {}) -> Snapshot:
    """Return the configuration for one provider."""
    tree = {"providers": {"one": provider}, "unknown_price": "mark", **more}
    loaded = config.load(Source(path="replay.yaml", text=msgspec.json.encode(tree).decode()), {}, Path())
    return config.build(loaded, {}, simulated_url="", prices=PRICES)


async def play(settings: Snapshot, path: str, body: bytes, answered: Answered, *, seed: str) -> Got:
    """Let one call walk; return what came of it."""
    seen: list[Exchange] = []
    store, upstream = MemoryStore(), Recorded(answered, random.Random(seed))  # noqa: S311 - slices, not secrets
    house = House(
        snapshot=settings,
        clock=Clock(),
        ids=Names(),
        upstream=upstream,
        budgets=store,
        records=store,
        sessions=store,
        desk=store,
        estimator=Bytes(),
        health=Health(),
        observe=seen.append,
        pause=_rest,
        vault_key=b"replay",
        customer_key=b"replay",
    )
    raw = RawRequest(method="POST", path=path, headers={}, body=body, peer="127.0.0.1")
    got = Got()
    pieces: list[bytes] = []
    async with aclosing(handle(house, raw, Stays())) as parts:
        async for part in parts:
            if isinstance(part, Head):
                got.status, got.headers = part.status, part.headers
            else:
                pieces.append(part.frame)
    got.body, got.sent, got.exchange = b"".join(pieces), tuple(upstream.sent), seen[0] if seen else None
    return got


async def _rest(_: float) -> None:
    return
