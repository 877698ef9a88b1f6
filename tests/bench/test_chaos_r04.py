"""Owns the proof of row R4: what it counts, and its short slice."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos.rows import r04
from bench.chaos.rows.r04 import Seen, figures, invented, leaves
from bench.chaos.rows_api import Plan
from bench.chaos.writing import Call, asked_tokens
from proxy.terms import State


def seen(
    booked: int | None = 100, *, model: str = "abort", state: State = State.CLIENT_GONE, ended: bool = False
) -> Seen:
    """Make a call that was charged 100."""
    records = 0 if booked is None else 1
    return Seen(
        model=model, stream=True, kind="said", ended=ended, charged=100, booked=booked, state=state, records=records
    )


@pytest.mark.parametrize(
    ("call", "name", "figure"),
    [
        pytest.param(seen(None), "records missing", 1, id="no record"),
        pytest.param(seen(101, model="drain"), "worst error of a drained call, %", 1.0, id="drained, not exact"),
        pytest.param(seen(89), "lowest error, %", -11.0, id="booked below"),
        pytest.param(seen(89), "below -10 %", 1, id="booked far below"),
        pytest.param(seen(ended=True), "whole replies taken for left ones", 1, id="no disconnect"),
    ],
)
def test_what_is_wrong_is_counted(call: Seen, name: str, figure: float) -> None:
    """Whatever the row looks for shows in a figure."""
    assert figure == figures([seen(), call])[name]


def test_replies_are_left_at_every_place() -> None:
    """Before the head, after each event and after the end marker, streamed and not, under both policies."""
    made = leaves(invented(), 3000, Plan(seed=1, full=False, folder=Path()).dice())

    events = max(len(Call(told).events) for _, told in invented())
    assert {None, *range(-1, events)} <= {one.after for one in made if one.stream}
    assert {("drain", True), ("drain", False), ("abort", True), ("abort", False)} == {(m.model, m.stream) for m in made}


def test_the_provider_counts_for_itself() -> None:
    """The cookbook's own example of a request with a tool is 101 tokens for gpt-4o."""
    function = {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        },
    }
    messages = [
        {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
        {"role": "user", "content": "What's the weather like in San Francisco?"},
    ]

    assert 101 == asked_tokens({"messages": messages, "tools": [{"type": "function", "function": function}]})


def test_the_short_slice(tmp_path: Path) -> None:
    """No record is missing, drained calls cost what the provider charges, and aborted ones no less than they should."""
    outcome = r04.run(Plan(seed=3, full=False, folder=tmp_path))

    assert outcome.met, outcome.figures
