"""Owns the proof that recorded conversations are told apart and put together when nothing names them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from random import Random

import pytest

from bench.stitching import Judge, conversations, measured
from bench.stitching_variants import VARIANTS, Message, Step, Told, Variant, steps

SAID: list[Message] = [
    {"role": "user", "content": "Where is my order?"},
    {"role": "assistant", "content": "Which order is it?"},
    {"role": "user", "content": "The one with the blue mug."},
    {"role": "assistant", "content": "It is on its way to you."},
]
OTHER: list[Message] = [{"role": "user", "content": "I want my money back."}, *SAID[1:]]
FEW = 40
"""Recorded conversations that a test replays."""


def dice() -> Random:
    """Make the same choices each time."""
    return Random(0)  # noqa: S311 - nothing is secret here


def walked(*sessions: tuple[int, str]) -> tuple[int, int, int, int]:
    """Judge calls of two conversations, as (which of them, session), in their order."""
    running = [list(steps(Told(id=str(n), messages=said), VARIANTS[0], dice())) for n, said in enumerate((SAID, OTHER))]
    judge = Judge()
    for number, session in sessions:
        judge.judge(running[number].pop(0), session)
    return judge.tally.calls, judge.tally.right, judge.tally.wrong, judge.tally.split


@pytest.mark.parametrize(
    ("sessions", "tally"),
    [
        pytest.param(((0, "a"), (1, "b"), (0, "a"), (1, "b")), (2, 2, 0, 0), id="right"),
        pytest.param(((0, "a"), (1, "b"), (0, "b")), (1, 0, 1, 0), id="wrong"),
        pytest.param(((0, "a"), (1, "a")), (0, 0, 1, 0), id="wrong from the first"),
        pytest.param(((0, "a"), (0, "c")), (1, 0, 0, 1), id="split"),
    ],
)
def test_the_judge_tells_right_from_wrong(sessions: tuple[tuple[int, str], ...], tally: tuple[int, ...]) -> None:
    """A call is right in its own session, wrong in another's, split in a new one."""
    assert tally == walked(*sessions)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
async def test_made_up_conversations_are_never_joined(variant: Variant) -> None:
    """In no way of writing two conversations down is a call of one taken for the other's."""
    told = [Told(id=str(number), messages=said) for number, said in enumerate((SAID, OTHER))]

    assert 0 == (await measured(told, variant)).wrong


def test_a_window_shows_the_newest_messages() -> None:
    """A cut history keeps its prompt and so many messages."""
    told = Told(id="a", messages=[*SAID, *OTHER, *SAID])
    last: Step = [*steps(told, Variant(name="w", window=6, summary=True), dice())][-1]

    assert ["system", "user", *(message["role"] for message in last.said[-6:])] == [
        message["role"] for message in last.body["messages"]
    ]


@pytest.mark.parametrize("variant", VARIANTS[:10], ids=lambda variant: variant.name)
async def test_recorded_conversations_are_put_together(real_data: Path, variant: Variant) -> None:
    """Of the recorded conversations nearly every call is joined to its own, and none to another."""
    told = conversations(real_data)
    some = list(chain(told[:FEW], told[-FEW:]))
    tally = await measured(some, variant)

    assert 0 == tally.wrong
    assert tally.share > 95
