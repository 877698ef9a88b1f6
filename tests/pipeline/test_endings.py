"""Owns the proof that a walk leaves one record and settles each hold once, however it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from proxy.errors import Overloaded, Unauthenticated
from proxy.terms import Caller, Exchange, Fault, Head, OnDisconnect, RawRequest, State, UsageSource
from tests.fakes import FakeClient, Script
from tests.pipeline.calls import (
    ASK,
    CUSTOMER_TOPIC,
    DONE,
    HEAD,
    HELLO,
    STOP,
    STREAM,
    WHOLE,
    asks,
    check_books,
    mailed,
)
from tests.walking import CONFIG, Walked, compiled


async def test_ending_complete() -> None:
    """A reply that ends as its protocol says is complete, with the provider's own usage."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    outcome = await walked.call(STREAM)

    exchange = check_books(walked, State.COMPLETE, [State.COMPLETE])
    assert HELLO + STOP + DONE == outcome.body
    assert (10, 5, UsageSource.PROVIDER) == (
        exchange.attempts[0].usage.input_tokens,
        exchange.attempts[0].usage.output_tokens,
        exchange.attempts[0].usage.source,
    )


async def test_ending_denied(tmp_path: Path) -> None:
    """A denied call sends nothing, costs nothing and is on record."""
    policy = CUSTOMER_TOPIC.replace('guards.topics.label == "x"', "true")
    walked = Walked(snapshot=await asyncio.to_thread(compiled, CONFIG, policy, tmp_path))

    await walked.call(STREAM)

    assert 0 == check_books(walked, State.DENIED, []).cost.nanousd


async def test_ending_provider_fault_mid_stream() -> None:
    """A stream that breaks is billed by what was seen, and its error event is the last thing the client gets."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO,), fail="stream_cut"))

    outcome = await walked.call(STREAM)

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert exchange.cost.estimated
    assert isinstance(outcome.parts[-1], Fault)
    assert b"[DONE]" not in outcome.body


async def test_ending_client_gone() -> None:
    """A client that left while the reply was read on for the books is billed by the provider's own usage."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    await walked.call(STREAM, gone=True)

    exchange = check_books(walked, State.CLIENT_GONE, [State.COMPLETE])
    assert (499, False) == (exchange.status, exchange.cost.estimated)


ABORTS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {onDisconnect: abort, selector: {models: [large]}}
"""


@pytest.mark.parametrize(
    ("body", "then"),
    [
        pytest.param(STREAM, OnDisconnect.ABORT, id="as policy says"),
        pytest.param({**STREAM, "model": "small"}, OnDisconnect.DRAIN, id="no policy says"),
        pytest.param(ASK, None, id="not streamed"),
    ],
)
async def test_what_becomes_of_a_call_without_its_client(
    body: dict[str, Any], then: OnDisconnect | None, tmp_path: Path
) -> None:
    """Whoever has the connection is told what policy says of replies that are streamed; any other is drained."""
    walked = Walked(Script(fail="hang"), snapshot=await asyncio.to_thread(compiled, CONFIG, ABORTS, tmp_path))
    client = FakeClient()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(walked.call(body, client=client))
        await walked.upstream.hung.wait()
        task.cancel()

    assert then is client.then


@pytest.mark.parametrize("why", ["aborted", "drain_limit", "drain_timeout"])
async def test_ending_without_a_client(why: str) -> None:
    """A call that was given up since nobody listened is billed by what was seen, and its record says why."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO,), fail="hang"))
    client = FakeClient()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(walked.call(STREAM, client=client))
        await walked.upstream.hung.wait()
        client.gone, client.given_up = True, why
        task.cancel()

    exchange = check_books(walked, State.CLIENT_GONE, [State.FAULT])
    assert (499, why, True) == (exchange.status, exchange.error, exchange.cost.estimated)


async def test_ending_given_up() -> None:
    """A walk that is closed in the middle closes the provider and is billed by what was seen."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    await walked.call(STREAM, leave_after=2)

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert ("abandoned", True) == (exchange.attempts[0].error, exchange.cost.estimated)


async def test_ending_cancelled() -> None:
    """A cancelled walk, as at shutdown, closes the provider, settles and records, and does not blame the client."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO,), fail="hang"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(walked.call(STREAM))
        await walked.upstream.hung.wait()
        task.cancel()

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert (503, "abandoned") == (exchange.status, exchange.error)


@pytest.mark.parametrize("left", range(1, 6))
async def test_leaving_after_any_part_settles_once(left: int) -> None:
    """Wherever a walk is left, there is one record and nothing stays open."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    await walked.call(STREAM, leave_after=left)

    assert 1 == len(walked.seen)
    assert (0, set()) == (walked.upstream.open, walked.house.open_holds)


async def test_strangers_are_counted_but_not_recorded() -> None:
    """A call that nobody authenticated for is observed and written nowhere."""
    walked = Walked()

    def nobody(raw: RawRequest, at_ms: int) -> Caller:
        raise Unauthenticated("no key")

    walked.house.snapshot = replace(walked.house.snapshot, identify=nobody)

    outcome = await walked.call(ASK)

    assert 401 == (outcome.head or Head(status=0)).status
    assert (1, 0) == (len(walked.seen), len(walked.store.exchanges))


async def test_a_record_that_cannot_be_written_stops_the_call() -> None:
    """Without a DISPATCHED record nothing is sent: 503, and the attempt has cost nothing."""
    walked = Walked()

    async def full(exchange: Exchange) -> None:
        raise Overloaded("disk full")

    walked.store.dispatch = full  # type: ignore[method-assign]  # the one store that cannot write

    outcome = await walked.call(ASK)

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert 503 == (outcome.head or Head(status=0)).status
    assert ("not_sent", 0, ()) == (
        exchange.attempts[0].error,
        exchange.attempts[0].cost.nanousd,
        exchange.attempts[0].counters,
    )


async def test_records_keep_nothing_that_rules_compute(tmp_path: Path) -> None:
    """Neither what a rule says of a value nor the error that a value has led to puts it on record."""
    walked = await mailed(tmp_path, asks(0), asks(0))

    assert b"ann@example.org" not in msgspec.json.encode(walked.seen[0])
    assert {"no such key", "a call adds a number from 0 to 1000000000"} == {
        hit.error for decision in walked.seen[0].decisions for hit in decision.rules if hit.error
    }
