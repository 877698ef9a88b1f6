"""Owns the proof of proxy/stores/memory.py beyond the contracts in tests/contracts."""

from __future__ import annotations

from proxy.stores import memory
from proxy.terms import State
from tests.stores.samples import LATER_MS, exchange, sent


async def test_each_store_starts_empty() -> None:
    """Nothing is shared between two stores of one process."""
    async with memory.open(memory.Settings()) as first, memory.open(memory.Settings()) as second:
        first.finish(exchange("ex_1"))

        assert (["ex_1"], []) == (list(first.exchanges), list(second.exchanges))


async def test_the_lease_is_configured() -> None:
    """A dispatched call without a hold lives as long as the settings say."""
    store = memory.MemoryStore(memory.Settings(lease_ms=10 * LATER_MS))
    await store.dispatch(sent("ex_1"))

    assert [] == await store.recover(LATER_MS)


async def test_records_are_listed_as_they_were_written() -> None:
    """A finished exchange moves behind those that were written before it ended."""
    store = memory.MemoryStore()
    await store.dispatch(sent("ex_1"))
    await store.dispatch(sent("ex_2"))
    store.finish(exchange("ex_1"))

    assert [("ex_2", State.DISPATCHED), ("ex_1", State.COMPLETE)] == [
        (found.id, found.state) for found in store.exchanges.values()
    ]
