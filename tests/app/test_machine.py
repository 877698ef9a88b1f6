"""Owns the proof of names and of the tokenizer that is loaded late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy import app
from proxy.app.machine import Turns
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


async def test_of_those_that_have_much_to_do_one_goes_on_in_a_round() -> None:
    """In the order in which they came, and one that was given up takes nobody's turn."""
    turns, went = Turns(), list[tuple[int, int]]()
    rounds = 0

    async def work(number: int) -> None:
        await turns.pause(0)
        went.append((number, rounds))

    def count() -> None:
        nonlocal rounds
        rounds += 1
        asyncio.get_running_loop().call_soon(count)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(number)) for number in range(5)]
        await asyncio.sleep(0)
        count()
        tasks[1].cancel()

    assert [0, 2, 3, 4] == [number for number, _ in went]
    assert 4 == len({at for _, at in went})


async def test_a_pause_of_some_time_is_one() -> None:
    """Whoever waits for an hour takes no turn."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Turns().pause(3600), 0.01)
