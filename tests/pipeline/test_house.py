"""Owns the proof of proxy/pipeline/house.py: what a reload swaps, and what stays."""

from msgspec.structs import replace

from proxy.terms import Exchange
from tests.fakes import Script
from tests.walking import PLAIN, Walked

ASK = {"model": "large", "messages": [{"role": "user", "content": "Hi"}]}
REPLY = (
    b'{"id":"c","model":"large","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)


async def test_a_walk_keeps_its_snapshot_and_the_next_has_the_new_one() -> None:
    """Swapping the snapshot in the middle of a call changes nothing for it, and everything for the next."""
    walked = Walked(Script(chunks=(REPLY,)), Script(chunks=(REPLY,)))
    swapped = replace(PLAIN, prices_digest="new")

    def swap(exchange: Exchange) -> None:
        walked.seen.append(exchange)
        walked.house.snapshot = swapped

    walked.house.observe = swap
    await walked.call(ASK)
    await walked.call(ASK)

    assert [PLAIN.prices_digest, "new"] == [exchange.prices_digest for exchange in walked.seen]
