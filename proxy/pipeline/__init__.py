"""Owns the hallway: every model call, live or replayed, walks `handle` from top to bottom, once.

In: a RawRequest. Out: Head, Delta…, End | Fault, each with the bytes to write; one Exchange in the records; every hold
settled once. Never: a clock, a socket or a store of its own; they come in as ports.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from proxy.errors import Denied, HandrailError, UpstreamError
from proxy.pipeline import answer, endings, entry
from proxy.pipeline.books import CUT
from proxy.pipeline.house import House
from proxy.pipeline.walk import Part, Walk
from proxy.ports import Client, UpstreamReply
from proxy.terms import End, Fault, Phase, RawRequest, Target

__all__ = ["House", "Part", "Walk", "handle"]


async def handle(house: House, raw: RawRequest, client: Client) -> AsyncGenerator[Part, None]:
    """Walk one call through all rooms; iterate under `aclosing`, so that leaving early still settles and records."""
    walk = Walk(house, raw, client)
    try:
        try:
            if answer := entry.identify(walk):
                for part in endings.repeat(walk, answer):
                    yield part
                return
            await entry.enter(walk)
            await entry.check_results(walk)
            await entry.choose(walk, await walk.check(Phase.REQUEST))
            async with aclosing(relay(walk)) as parts:
                async for part in parts:
                    yield walk.noted(part)
        except HandrailError as error:
            async for part in endings.fail(walk, error):
                yield walk.noted(part)
        await endings.rehearse(walk)
    finally:
        endings.leave(walk)


async def relay(walk: Walk) -> AsyncGenerator[Part, None]:
    """Send the call to one target after another until one has answered; nothing is tried again after the first byte."""
    fault: Fault | None = None
    targets = entry.targets(walk)
    target = next(targets, None)
    while target is not None:
        fault = None
        async with aclosing(attempt(walk, target)) as parts:
            async for part in parts:
                if isinstance(part, Fault) and not walk.begun:
                    fault = part
                else:
                    yield part
        if fault is None and not walk.asks_again:
            break
        target = target if fault is None else next(targets, None) if fault.retryable else None
    for part in endings.pass_fault(walk, fault) if fault else ():
        yield part


async def attempt(walk: Walk, target: Target) -> AsyncGenerator[Part, None]:
    """Reserve, dispatch and send to one target; yield what may leave, and a Fault if it failed."""
    provider = walk.snapshot.providers[target.provider]
    await walk.books.reserve(target)
    request = entry.worded(walk, target)
    call = provider.encode(request, target)
    await walk.books.dispatch(call)
    passage = answer.starts(walk)
    end: End | Fault = ABANDONED
    try:
        async with walk.house.upstream.send(call) as reply:
            answer.hears(walk, call, reply)
            if 200 <= reply.status < 300:
                decoder = provider.decoder(request, reply.headers, walk.draft.at_ms)
                async for data in reply.chunks():
                    if passage.slow:
                        await walk.house.pause(0)
                    for part in answer.passes(walk, passage, decoder.feed(data)):
                        yield part
                    if passage.behind:
                        async for part in answer.goes_on(walk, passage):
                            yield part
                    if decoder.over:
                        break
                rest, ended = decoder.close()
                for part in answer.passes(walk, passage, rest):
                    yield part
                end = ended
            else:
                end = provider.error(reply.status, reply.headers, await _whole(reply))
    except UpstreamError as error:
        # Whatever breaks after the provider's own end marker takes nothing from the reply.
        end = End() if walk.ended else _fault(error)
    except Denied:
        end = CUT
        raise
    finally:
        walk.books.close(end, walk.usage, passage.gate.heard)
    async for part in answer.judge(walk, passage, end):
        yield part


ABANDONED = Fault(status=499, type="client_gone", code="abandoned", message="The call was given up before its end.")


async def _whole(reply: UpstreamReply) -> bytes:
    return b"".join([data async for data in reply.chunks()])


def _fault(error: UpstreamError) -> Fault:
    return Fault(
        status=error.status, type=error.type, code=error.code, message=error.message, retryable=error.retryable
    )
