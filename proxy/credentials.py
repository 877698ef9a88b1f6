"""Owns what is fetched to prove others by: the key sets of token issuers, from the addresses that config names.

In: an address, who vouches for it, the clock. Out: key sets that are at hand whenever a call needs one. Never: a fetch
that a call waits for, an address that a token names, or a good set given up for a broken one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from proxy.identity import KeySet, key_set
from proxy.ports import Clock

MAX_BYTES = 1024 * 1024
TIMEOUT_S = 10.0
TICK_S = 1.0
"""How often it is looked whether a set is due."""
AGAIN_MS = 10_000
"""The least time between two fetches, whatever asks for one."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key set is, and how long it may be believed."""

    url: str
    algorithms: tuple[str, ...]
    ca_file: Path | None = None
    token_file: Path | None = None
    refresh_s: float
    max_age_s: float


class Fetched:
    """The newest good set from each address."""

    def __init__(self) -> None:
        self._sets: dict[str, KeySet] = {}
        self._texts: dict[str, bytes] = {}
        self._asked: set[str] = set()
        self._tried_ms: dict[str, float] = {}
        self.trouble = ""
        """Why the newest fetch gave nothing; empty if it did."""

    def find(self, url: str) -> KeySet | None:
        """Return the newest set from there; None where there is none."""
        return self._sets.get(url)

    def ask(self, url: str) -> None:
        """Say that the set from there may be old: a key is missing in it."""
        self._asked.add(url)

    async def refresh(self, source: Source, clock: Clock) -> None:
        """Fetch the set if it is due, and keep the last good one if that fails."""
        now, url = clock.monotonic_ms(), source.url
        rests_ms = AGAIN_MS if self.trouble or url in self._asked else source.refresh_s * 1000
        if url in self._tried_ms and now < self._tried_ms[url] + rests_ms:
            return
        self._tried_ms[url] = now
        self._asked.discard(url)
        try:
            text = await fetched(source)
            keys = await asyncio.to_thread(key_set, text, source.algorithms)
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.trouble = f"{url}: {error if type(error) is ValueError else type(error).__name__}"
            return
        self.trouble = ""
        self._keep(source, text, keys, clock.wall_ms())

    def _keep(self, source: Source, text: bytes, keys: Mapping[str, Any], at_ms: int) -> None:
        known = self._sets.get(source.url)
        if known and self._texts[source.url] == text:
            keys = known.keys  # The very same, so that what was proven by them stays proven.
        self._texts[source.url] = text
        self._sets[source.url] = KeySet(keys=keys, until_ms=at_ms + int(source.max_age_s * 1000))


async def keep_fresh(
    sets: Fetched,
    source: Callable[[], Source | None],
    clock: Clock,
    *,
    tell: Callable[[str], None],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Keep the set of the source that is named now at hand, until cancelled; `tell` hears of each change of trouble."""
    told = ""
    while True:
        if named := source():
            await sets.refresh(named, clock)
        if sets.trouble != told:
            told = sets.trouble
            tell(told)
        await sleep(TICK_S)


async def fetched(source: Source) -> bytes:
    """Return what is at an address; raise ValueError if it is not what was asked for, OSError or ClientError if there
    is no answer. No redirect is followed, and no proxy of the environment asked."""
    trusted = await asyncio.to_thread(ssl.create_default_context, cafile=source.ca_file)
    headers = {"accept": "application/json", "user-agent": "handrail"}
    if source.token_file:
        token = await asyncio.to_thread(source.token_file.read_text)
        headers["authorization"] = f"Bearer {token.strip()}"
    limits = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=limits, trust_env=False) as session,
        session.get(source.url, headers=headers, ssl=trusted, allow_redirects=False) as reply,
    ):
        text = await reply.content.read(MAX_BYTES + 1)
        while len(text) <= MAX_BYTES and (more := await reply.content.read(MAX_BYTES)):
            text += more
    if reply.status != 200 or len(text) > MAX_BYTES:
        raise ValueError(f"HTTP {reply.status}" if reply.status != 200 else f"it is larger than {MAX_BYTES} bytes")
    return text
