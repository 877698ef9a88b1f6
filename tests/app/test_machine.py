"""Owns the proof of names and of the tokenizer that is loaded late."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy import app
from tests.app.running import until


async def test_the_tokenizer_is_loaded_by_the_first_need(folder: Path) -> None:
    """The first count is an estimate that starts the loading; a later one is a tokenizer's."""
    estimator = app.LazyEstimator()

    first = estimator.count("one two three")

    assert (4, False) == first

    async def exact() -> bool:
        return estimator.count("one two three") == (3, True)

    assert await until(exact)


async def test_no_tokenizer_is_loaded_at_the_end() -> None:
    """Once closed, the first need starts nothing that the end of the process would wait for: bytes go on to count."""
    estimator = app.LazyEstimator()

    estimator.close()
    counts = [estimator.count("one two three")]
    await asyncio.get_running_loop().shutdown_default_executor()

    assert [(4, False)] * 2 == [*counts, estimator.count("one two three")]


def test_names_are_new_and_stand_in_the_order_of_time() -> None:
    """A name is 32 hexadecimal digits that begin with the millisecond, and none is made twice."""
    clock, ids = app.SystemClock(), app.RandomIds()

    before = clock.wall_ms()
    names = [ids.new("ex") for _ in range(1000)]
    after = clock.wall_ms()

    assert 1000 == len(set(names))
    assert {("ex", 32)} == {(name[:2], len(name[3:])) for name in names}
    assert all(before <= int(name[3:15], 16) <= after for name in names)
