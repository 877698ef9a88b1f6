"""Owns the proof of proxy/delivery.py: every packet reaches a real server on loopback, however often that fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest
from aiohttp import web
from msgspec.structs import replace

from proxy.delivery import (
    BATCH,
    CAP_S,
    FIRST_S,
    POLL_S,
    DeliverySettings,
    anchor,
    anchor_once,
    deliver,
    seconds,
    signing_key,
    wait,
)
from proxy.errors import ConfigError, Overloaded
from proxy.ports import Desk
from proxy.terms import Delivery, Handoff, Secret
from tests.fakes import FakeClock

KEY = bytes(range(32))
SECRET = Secret(f"whsec_{base64.b64encode(KEY).decode()}")
WAIT_S = 60.0
"""Longer than anything here takes; a test that needs it all has hung."""
NOW_MS = 1_767_225_600_000
HANDOFF = Handoff(
    id="ho_1", session_id="se_1", exchange_id="ex_1", at_ms=NOW_MS, agent="web", tenant="", queue="gold", rule="p/r@1",
    reason="angry", summary="Où est ma commande ?",
)  # fmt: skip


class Queue:
    """The part of a Desk that deliveries live in. `broken` names calls that fail once."""

    def __init__(self, *handoffs: Handoff) -> None:
        self.waiting = {handoff.id: Delivery(handoff=handoff) for handoff in handoffs}
        self.errors: list[str] = []
        self.waits_ms: list[int] = []
        self.broken: set[str] = set()

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return what is due."""
        self._fail("due")
        return [delivery for delivery in self.waiting.values() if delivery.due_ms <= at_ms][:limit]

    async def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off."""
        self._fail("delivered")
        del self.waiting[handoff_id]

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Note a failure."""
        was = self.waiting[handoff_id]
        self.waiting[handoff_id] = replace(was, tries=was.tries + 1, due_ms=due_ms, error=error)
        self.errors.append(error)
        self.waits_ms.append(due_ms - NOW_MS)

    def _fail(self, name: str) -> None:
        if name in self.broken:
            self.broken.remove(name)
            raise Overloaded(f"{name} failed")


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """A webhook that answers by a script, the last answer for ever, and remembers what it was sent."""

    def __init__(self, *script: Answer | int) -> None:
        self.script = list(script)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.elsewhere = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one delivery."""
        body = await request.read()
        self.seen.append(({name.lower(): value for name, value in request.headers.items()}, body))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return web.Response(status=answer) if isinstance(answer, int) else await answer(request)

    async def other(self, request: web.Request) -> web.StreamResponse:
        """Answer where nothing should ever be sent."""
        self.elsewhere += 1
        return web.Response()

    @property
    def ids(self) -> list[str]:
        """Return the ids of all that came."""
        return [headers["webhook-id"] for headers, _ in self.seen]


async def lost(request: web.Request) -> web.StreamResponse:
    """Take the packet, and lose the answer."""
    transport = request.transport
    if transport:
        transport.abort()
    return web.Response()


async def silent(request: web.Request) -> web.StreamResponse:
    """Take the packet, and answer too late."""
    await asyncio.sleep(WAIT_S)
    return web.Response()


def says(status: int, **headers: str) -> Answer:
    """Answer with headers, underscores for hyphens."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[str]:
    """Serve a webhook while the context is open; gives its URL."""
    application = web.Application()
    application.router.add_post("/hook", receiver.take)
    application.router.add_route("*", "/elsewhere", receiver.other)
    runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def run(queue: Queue, url: str, *, sleeps: int = 1, timeout_s: float = WAIT_S) -> None:
    """Deliver until the queue is empty or the loop has slept so often, each time until all is due."""
    clock, slept = FakeClock(NOW_MS), 0

    async def sleep(_: float) -> None:
        nonlocal slept
        slept += 1
        if slept >= sleeps or not queue.waiting:
            raise asyncio.CancelledError
        queue.waiting = {name: replace(delivery, due_ms=0) for name, delivery in queue.waiting.items()}

    settings = DeliverySettings(url=url, secret=SECRET, timeout_s=timeout_s)
    desk = cast(Desk, queue)
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(WAIT_S):
            await deliver(desk, settings, clock, sleep=sleep, jitter=lambda: 1.0)


async def test_a_packet_is_delivered_once_and_signed() -> None:
    """The receiver gets the packet as JSON with a signature that its own copy of the secret confirms."""
    queue, receiver = Queue(HANDOFF), Receiver(204)

    async with listening(receiver) as url:
        await run(queue, url, sleeps=3)

    ((headers, body),) = receiver.seen
    content = f"ho_1.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(KEY, content, hashlib.sha256)).decode()
    assert (f"v1,{expected}", "ho_1", str(NOW_MS // 1000)) == (
        headers["webhook-signature"], headers["webhook-id"], headers["webhook-timestamp"],
    )  # fmt: skip
    event = msgspec.json.decode(body)
    assert ("handoff.created", "2026-01-01T00:00:00.000+00:00") == (event["type"], event["timestamp"])
    assert HANDOFF == msgspec.convert(event["data"], Handoff)
    assert {} == queue.waiting


@pytest.mark.parametrize(
    ("failure", "timeout_s", "error"),
    [
        pytest.param(lost, WAIT_S, "no answer: ServerDisconnectedError", id="answer lost"),
        pytest.param(silent, 0.1, "no answer: TimeoutError", id="answer too late"),
        pytest.param(500, WAIT_S, "HTTP 500", id="500"),
        pytest.param(429, WAIT_S, "HTTP 429", id="429"),
        pytest.param(404, WAIT_S, "HTTP 404", id="404"),
    ],
)
async def test_what_was_not_confirmed_is_sent_again(failure: Answer | int, timeout_s: float, error: str) -> None:
    """A packet whose taking was not confirmed comes again, with the same id and the same body, until it is."""
    queue, receiver = Queue(HANDOFF), Receiver(failure, failure, 200)

    async with listening(receiver) as url:
        await run(queue, url, sleeps=9, timeout_s=timeout_s)

    assert (["ho_1"] * 3, 1) == (receiver.ids, len({body for _, body in receiver.seen}))
    assert ([error] * 2, {}) == (queue.errors, queue.waiting)


async def test_nothing_listens() -> None:
    """A webhook that is down costs a packet nothing but time."""
    async with listening(Receiver(200)) as url:
        pass
    queue = Queue(HANDOFF)

    await run(queue, url)

    assert (["no answer: ClientConnectorError"], ["ho_1"]) == (queue.errors, list(queue.waiting))


@pytest.mark.parametrize(
    ("answer", "expected_s"),
    [
        pytest.param(500, FIRST_S, id="500"),
        pytest.param(says(503, retry_after="17"), 17, id="asks for seconds"),
        pytest.param(says(429, retry_after="Thu, 01 Jan 2026 00:01:00 GMT"), 60, id="asks for a date"),
        pytest.param(says(429, retry_after="86400"), CAP_S, id="asks for too much"),
        pytest.param(says(429, retry_after="0"), FIRST_S, id="asks for less"),
        pytest.param(400, CAP_S, id="400"),
        pytest.param(410, CAP_S, id="410"),
        pytest.param(says(302, location="/elsewhere"), CAP_S, id="302"),
    ],
)
async def test_a_failure_says_when_to_come_again(answer: Answer | int, expected_s: float) -> None:
    """Overload is waited out as asked, what asking again will not help waits longest, and nobody is redirected."""
    queue, receiver = Queue(HANDOFF), Receiver(answer)

    async with listening(receiver) as url:
        await run(queue, url)

    assert ([expected_s * 1000], 0) == (queue.waits_ms, receiver.elsewhere)


async def test_one_bad_packet_holds_up_no_other() -> None:
    """More packets than are sent at once all arrive, also when the first is never taken."""
    many = [replace(HANDOFF, id=f"ho_{n}") for n in range(2 * BATCH + 1)]

    async def picky(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400 if request.headers["webhook-id"] == "ho_0" else 200)

    queue, receiver = Queue(*many), Receiver(picky)
    async with listening(receiver) as url:
        await run(queue, url)

    assert (["ho_0"], {handoff.id for handoff in many}) == (list(queue.waiting), set(receiver.ids))


@pytest.mark.parametrize("broken", ["due", "delivered"])
async def test_a_store_that_fails_ends_nothing(broken: str) -> None:
    """When a store fails once the packet is delivered later, by the same id."""
    queue, receiver = Queue(HANDOFF), Receiver(200)
    queue.broken = {broken}

    async with listening(receiver) as url:
        await run(queue, url, sleeps=9)

    assert ({}, set()) == (queue.waiting, queue.broken)
    assert {"ho_1"} == set(receiver.ids)


async def test_a_bug_ends_the_loop() -> None:
    """What no store should raise is not passed over: whoever runs the loop hears of it."""
    queue = Queue(HANDOFF)
    queue.waiting["ho_1"] = cast(Delivery, None)
    settings = DeliverySettings(url="http://127.0.0.1/", secret=SECRET)

    with pytest.raises(AttributeError):
        await deliver(cast(Desk, queue), settings, FakeClock(NOW_MS))


async def test_shutdown_waits_for_nobody() -> None:
    """Cancelled while the webhook keeps it waiting, it ends, and the packet is still there."""
    queue, receiver = Queue(HANDOFF), Receiver(silent)
    async with listening(receiver) as url, asyncio.timeout(WAIT_S / 2), asyncio.TaskGroup() as group:
        settings = DeliverySettings(url=url, secret=SECRET, timeout_s=WAIT_S)
        task = group.create_task(deliver(cast(Desk, queue), settings, FakeClock(NOW_MS)))
        while not receiver.seen:  # noqa: ASYNC110 - the server's list has no event
            await asyncio.sleep(0.002)
        task.cancel()

    assert (True, ["ho_1"]) == (task.cancelled(), list(queue.waiting))


@pytest.mark.parametrize(
    ("tries", "jitter", "expected"),
    [
        pytest.param(0, 0.0, FIRST_S / 2, id="first, least"),
        pytest.param(0, 1.0, FIRST_S, id="first, most"),
        pytest.param(3, 1.0, FIRST_S * 8, id="fourth"),
        pytest.param(10**9, 1.0, CAP_S, id="never more"),
        pytest.param(10**9, 0.0, CAP_S / 2, id="and never less"),
    ],
)
def test_waits_double_up_to_the_cap(tries: int, jitter: float, expected: float) -> None:
    """The wait doubles with each failure up to five minutes, and half of it is left to chance."""
    assert expected == wait(tries, jitter)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("", 0, id="none"),
        pytest.param("soon", 0, id="words"),
        pytest.param("-5", 0, id="negative"),
        pytest.param("²", 0, id="no ASCII digit"),
        pytest.param("9" * 400, 999_999_999, id="endless"),
        pytest.param("Mon, 01 Jan 2001 00:00:00 GMT", 0, id="past"),
    ],
)
def test_a_retry_after_that_makes_no_sense_asks_for_nothing(header: str, expected: float) -> None:
    """Whatever the receiver sends, the wait is a number that is not negative."""
    assert expected == seconds(header, NOW_MS)


def test_a_secret_may_come_without_its_prefix() -> None:
    """The key is the same with and without `whsec_`, as the specification's libraries read it."""
    assert KEY == signing_key(SECRET) == signing_key(Secret(SECRET.reveal().removeprefix("whsec_")))


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("", id="empty"),
        pytest.param("whsec_", id="only the prefix"),
        pytest.param("a password, not base64", id="not base64"),
        pytest.param("é" * 40, id="not ASCII"),
        pytest.param(base64.b64encode(bytes(23)).decode(), id="too short"),
        pytest.param(base64.b64encode(bytes(65)).decode(), id="too long"),
    ],
)
def test_a_secret_that_no_receiver_could_check_with_is_refused(secret: str) -> None:
    """Settings with a bad secret are not made, and the refusal does not repeat it."""
    with pytest.raises(ConfigError, match="24 to 64 random bytes in base64") as refused:
        DeliverySettings(url="http://127.0.0.1/", secret=Secret(secret))

    assert not secret or secret == "whsec_" or secret not in str(refused.value)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(200, "", id="taken"),
        pytest.param(204, "", id="without a word"),
        pytest.param(302, "HTTP 302", id="a redirect is not followed"),
        pytest.param(500, "HTTP 500", id="not taken"),
    ],
)
async def test_a_checkpoint_is_sent_as_it_is(status: int, said: str) -> None:
    """Its own signature is enough; what the keeper says decides whether it was taken."""
    took: list[str] = []

    async def take(request: web.Request) -> web.Response:
        took.append(await request.text())
        return web.Response(status=status, headers={"location": "/elsewhere"})

    async with _served(take) as url:
        assert said == await anchor_once("note — one\n", url)
    assert ["note — one\n"] == took


async def test_a_keeper_that_does_not_answer_is_told_without_its_address() -> None:
    """An address may be a credential."""
    assert "no answer: ClientConnectorError" == await anchor_once("note", "http://127.0.0.1:1/secret")


async def test_the_newest_checkpoint_is_sent_until_it_is_taken() -> None:
    """An older one that was not taken is not sent once there is a newer; one that was taken is not sent again; after a
    failure the next waits longer."""
    newest = iter(["one", "one", "two", "two", "two", "three"])
    took: list[str] = []
    told: list[str] = []
    waited: list[float] = []

    async def take(request: web.Request) -> web.Response:
        took.append(await request.text())
        return web.Response(status=503 if len(took) < 3 else 200)

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 6:
            raise asyncio.CancelledError

    async with _served(take) as url:
        with pytest.raises(asyncio.CancelledError):
            await anchor(lambda: next(newest), url, told.append, sleep=sleep, jitter=lambda: 1.0)

    assert ["one", "one", "two", "three"] == took
    assert ["HTTP 503", "HTTP 503", "", ""] == told
    assert [FIRST_S, FIRST_S * 2, POLL_S, POLL_S, POLL_S, POLL_S] == waited


@asynccontextmanager
async def _served(take: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    site = web.Application()
    site.router.add_post("/keep", take)
    runner = web.AppRunner(site)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/keep"
    finally:
        await runner.cleanup()
