"""Owns the doubles of the outside world: they implement the ports and are scripted, never patched in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from proxy.errors import UpstreamError
from proxy.terms import Headers, OnDisconnect, UpstreamCall


class FakeClock:
    """A clock that moves only when told."""

    def __init__(self, at_ms: int = 1_767_225_600_000) -> None:
        self.at_ms = at_ms
        self.tick_ms = 0
        """By how much it moves whenever a duration is read off it."""

    def wall_ms(self) -> int:
        """Return the time that was set."""
        return self.at_ms

    def monotonic_ms(self) -> float:
        """Return the same time, as a duration from the epoch."""
        self.at_ms += self.tick_ms
        return float(self.at_ms)


class CountingIds:
    """Names in order: `ex_1`, `se_2`, …"""

    def __init__(self) -> None:
        self.count = 0

    def new(self, prefix: str) -> str:
        """Return the next name."""
        self.count += 1
        return f"{prefix}_{self.count}"


class ByteEstimator:
    """One token per four bytes."""

    def count(self, text: str) -> tuple[int, bool]:
        """Return the estimate, which no tokenizer made."""
        return (len(text.encode()) + 3) // 4, False


class FakeClient:
    """A client that stays, or has left."""

    def __init__(self, gone: bool = False) -> None:
        self.gone = gone
        self.given_up = ""
        self.then: OnDisconnect | None = None
        """What the hallway said is to become of the call without it."""

    def leaving(self, then: OnDisconnect) -> None:
        """Remember what becomes of the call."""
        self.then = then


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One scripted reply: its head, its chunks, and how it ends (an error code, or `hang`)."""

    status: int = 200
    headers: Headers = {}
    chunks: tuple[bytes, ...] = ()
    refuse: str = ""
    """Error code with which entering fails, before any head."""
    fail: str = ""
    """Error code with which the body ends; `hang` never ends."""
    retryable: bool = True
    echo: str = ""
    """Pattern: what it finds in the request stands wherever the chunks say `ECHO`."""


class ScriptedUpstream:
    """Answers calls from a list of scripts and remembers what was sent, and that everything was closed."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.sent: list[UpstreamCall] = []
        self.open = 0
        self.hung = asyncio.Event()
        """Set when a script hangs."""

    @asynccontextmanager
    async def send(self, call: UpstreamCall) -> AsyncIterator[ScriptedReply]:
        """Play the next script."""
        self.sent.append(call)
        script = self.scripts.pop(0)
        if script.refuse:
            raise UpstreamError("refused", code=script.refuse, retryable=script.retryable)
        self.open += 1
        try:
            yield ScriptedReply(_echoing(script, call), self.hung)
        finally:
            self.open -= 1


def _echoing(script: Script, call: UpstreamCall) -> Script:
    if not script.echo:
        return script
    found = re.search(script.echo.encode(), call.body)
    assert found, f"the request has nothing like {script.echo}"
    return msgspec.structs.replace(script, chunks=tuple(c.replace(b"ECHO", found[0]) for c in script.chunks))


class ScriptedReply:
    """One scripted reply."""

    def __init__(self, script: Script, hung: asyncio.Event) -> None:
        self._script = script
        self._hung = hung
        self.status = script.status
        self.headers = script.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the script's chunks, then end as it says."""
        for chunk in self._script.chunks:
            yield chunk
        if self._script.fail == "hang":
            self._hung.set()
            await asyncio.Event().wait()
        if self._script.fail:
            raise UpstreamError("cut", code=self._script.fail, retryable=self._script.retryable)
