"""Owns what is sent to other systems: hand-off packets to a webhook, the audit log's checkpoints to their keeper.

In: the Desk's queue of deliveries; the newest checkpoint. Out: POSTs: packets signed as Standard Webhooks has them
(https://www.standardwebhooks.com), each until it is taken, under one id; checkpoints as they are, for they are signed
themselves. Never: a packet lost or given up, a redirect followed, or an answer's words kept.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import aiohttp
import msgspec

from proxy.errors import ConfigError, HandrailError
from proxy.ports import Clock, Desk
from proxy.terms import Delivery, Handoff, Secret

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)
"""Lengths of a signing key that the specification allows."""
POLL_S = 1.0
"""How often the queue is looked at."""
ANCHOR_S = 10.0
"""How long the place where checkpoints are kept may take to answer."""
BATCH = 8
"""Packets that are on their way at once."""
FIRST_S, CAP_S = 2.0, 300.0
"""The wait after the first failure, which doubles with each further one, and the longest."""


class DeliverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where packets go; raises ConfigError for a secret that no receiver could check with."""

    url: str
    secret: Secret
    """`whsec_` and 24 to 64 bytes in base64; the prefix may be left out."""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        signing_key(self.secret)


Sleep: TypeAlias = Callable[[float], Awaitable[object]]
Jitter: TypeAlias = Callable[[], float]


class _Failed(Exception):
    """A delivery that was not taken, and the least time until the next."""

    def __init__(self, why: str, least_s: float = 0.0) -> None:
        super().__init__(why)
        self.least_s = least_s


async def deliver(
    desk: Desk,
    settings: DeliverySettings,
    clock: Clock,
    *,
    sleep: Sleep = asyncio.sleep,
    jitter: Jitter = random.random,
) -> None:
    """Send what is due, for ever; cancel it to stop: what was not confirmed by then is sent again by whoever is next.
    `jitter` gives 0 to 1."""
    door = _Door(settings, clock)
    async with door.session():
        while True:
            with contextlib.suppress(HandrailError):  # a store in trouble says so itself, in /readyz
                while await _round(desk, door, clock, jitter) == BATCH:
                    pass
            await sleep(POLL_S)


async def _round(desk: Desk, door: _Door, clock: Clock, jitter: Jitter) -> int:
    """Try what is due; return how many that were."""
    due = await desk.due(clock.wall_ms(), BATCH)
    tries = (_attempt(desk, door, clock, jitter, delivery) for delivery in due)
    failed = [failure for failure in await asyncio.gather(*tries, return_exceptions=True) if failure]
    if failed:
        raise failed[0]
    return len(due)


async def _attempt(desk: Desk, door: _Door, clock: Clock, jitter: Jitter, delivery: Delivery) -> None:
    try:
        await door.post(delivery.handoff)
    except _Failed as failure:
        wait_s = max(wait(delivery.tries, jitter()), failure.least_s)
        await desk.postpone(delivery.handoff.id, clock.wall_ms() + round(wait_s * 1000), str(failure))
    else:
        await desk.delivered(delivery.handoff.id, clock.wall_ms())


class _Door:
    """Sends one packet at a time to the webhook."""

    def __init__(self, settings: DeliverySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._key = signing_key(settings.secret)
        self._session: aiohttp.ClientSession

    def session(self) -> aiohttp.ClientSession:
        """Return the session, to be entered while packets are sent. Connections are not kept: packets are rare, and one
        that dies on a stale connection is one failure more."""
        self._session = _session(self._settings.timeout_s)
        return self._session

    async def post(self, handoff: Handoff) -> None:
        """Return when the packet was taken; raise _Failed if it was not."""
        body = body_of(handoff)
        headers = signed(handoff.id, self._clock.wall_ms() // 1000, body, self._key)
        status, retry_after = await _posted(self._session, self._settings.url, body, headers)
        if status not in range(200, 300):
            raise _Failed(f"HTTP {status}", self._least_s(status, retry_after))

    def _least_s(self, status: int, retry_after: str) -> float:
        """Return the least wait: as asked by who is overloaded, the longest where asking again will hardly help."""
        if status == 429 or status >= 500:
            return min(seconds(retry_after, self._clock.wall_ms()), CAP_S)
        return CAP_S


def _session(timeout_s: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
    )


async def _posted(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return the answer's status and what it says of when to ask again; raise _Failed when there is none."""
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("retry-after", "")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # Its own words may quote the URL, and a webhook's URL is often a credential.
        raise _Failed(f"no answer: {type(error).__name__}") from None


async def anchor(
    newest: Callable[[], str],
    url: str,
    tell: Callable[[str], None],
    *,
    sleep: Sleep = asyncio.sleep,
    jitter: Jitter = random.random,
) -> None:
    """Send the newest checkpoint whenever there is one that was not taken, for ever; older ones say nothing that it
    does not. `tell` learns each time why it was not taken, or an empty text."""
    taken, tries = "", 0
    while True:
        note = newest()
        if note != taken:
            failure = await anchor_once(note, url)
            tell(failure)
            taken, tries = (taken, tries + 1) if failure else (note, 0)
        await sleep(wait(tries - 1, jitter()) if tries else POLL_S)


async def anchor_once(note: str, url: str) -> str:
    """Send one checkpoint; return why it was not taken, an empty text if it was."""
    headers = {"content-type": "text/plain; charset=utf-8", "user-agent": "handrail"}
    async with _session(ANCHOR_S) as session:
        try:
            status, _ = await _posted(session, url, note.encode(), headers)
        except _Failed as failure:
            return str(failure)
    return "" if status in range(200, 300) else f"HTTP {status}"


def body_of(handoff: Handoff) -> bytes:
    """Return the event: the same bytes each time it is sent."""
    at = datetime.fromtimestamp(handoff.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"type": "handoff.created", "timestamp": at, "data": handoff})


def signed(message_id: str, at_s: int, body: bytes, key: bytes) -> dict[str, str]:
    """Return the headers of one sending; the id is that of the packet, so that a receiver knows it again."""
    content = f"{message_id}.{at_s}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "user-agent": "handrail",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{signature}",
    }


def signing_key(secret: Secret) -> bytes:
    """Return the key's bytes; raise ConfigError if it is none."""
    try:
        key = base64.b64decode(secret.reveal().strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in KEY_BYTES:
        fewest, most = KEY_BYTES[0], KEY_BYTES[-1]
        raise ConfigError([f"the webhook's secret must be {PREFIX} and {fewest} to {most} random bytes in base64"])
    return key


def wait(tries: int, jitter: float) -> float:
    """Return seconds until the next try, after so many before the one that failed now: between half and all of what
    doubling gives, so that many packets do not come back at once."""
    return float(min(FIRST_S * 2 ** min(tries, 16), CAP_S) * (1 + jitter) / 2)


def seconds(retry_after: str, at_ms: int) -> float:
    """Return what a Retry-After header asks for (RFC 9110, 10.2.3): seconds or a date; 0 if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - at_ms / 1000)
    except (ValueError, OverflowError):
        return 0.0
