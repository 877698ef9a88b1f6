"""Owns the proof that recordings are played as they were, and that one which comes out otherwise is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.replay import __main__ as replay
from bench.replay import cassettes
from bench.replay.asking import play
from bench.replay.cassettes import Cassette

FEW = 7
"""Every so many-th of the real recordings is played by the tests; `make replay` plays all."""
CHUNKS: list[dict[str, Any]] = [
    {"model": "m-1", "choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {"model": "m-1", "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {"model": "m-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
]
WHOLE = {
    "model": "m-1",
    "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
}
EXPECT = {"usage": {"input_tokens": 5, "output_tokens": 2}, "text": "Hello", "finish": "stop", "model": "m-1"}


def cassette(body: str, *, stream: bool = False, status: int = 200, **expect: object) -> dict[str, Any]:
    """Return a recording of a chat completion."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    return {
        "id": "c1",
        "provider": "openai",
        "endpoint": "chat.completions",
        "stream": stream,
        "request": {"path": "/v1/chat/completions", "body": json.dumps(asked)},
        "response": {"status": status, "headers": {"content-type": "application/json"}, "body": body},
        "expect": {**EXPECT, **expect},
    }


def streamed() -> str:
    """Return a stream's body."""
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        pytest.param(cassette(json.dumps(WHOLE)), [], id="whole"),
        pytest.param(cassette(streamed(), stream=True), [], id="streamed"),
        pytest.param(cassette(json.dumps(WHOLE), text="Hallo"), ["text 'Hello' instead of 'Hallo'"], id="text"),
        pytest.param(
            cassette(json.dumps(WHOLE), tool_calls=[{"name": "f", "arguments": "{}"}]),
            ["tool calls [] instead of [('f', '{}')]"],
            id="calls",
        ),
        pytest.param(
            cassette(json.dumps(WHOLE), finish="length"), ["finish reason 'stop' instead of 'length'"], id="finish"
        ),
        pytest.param(
            cassette(json.dumps(WHOLE), usage={"input_tokens": 5, "output_tokens": 3}),
            ["booked (5, 2) instead of (5, 3)", "told {'in': 5, 'out': 2} instead of (5, 3)"],
            id="usage",
        ),
        pytest.param(cassette(json.dumps(WHOLE), model="m-2"), ["model 'm-1' instead of 'm-2'"], id="model"),
        pytest.param(cassette('{"error":{"message":"No."}}', status=404), [], id="a failure"),
        pytest.param(cassette('{"error":{}}', status=404), ["the error says nothing"], id="a failure without words"),
        pytest.param(
            cassette(streamed()[:90], stream=True), ["the record says fault stream_cut"], id="a stream that breaks off"
        ),
    ],
)
def test_what_differs_is_told(recorded: dict[str, Any], told: list[str]) -> None:
    """First what the record says, if that is it; of what is as it was recorded nothing is."""
    one = msgspec.convert(recorded, Cassette)
    way = play(one)

    assert way is not None
    said = replay.checked(one, way)
    assert (told, bool(told)) == (said[: len(told)], bool(said))


def test_recordings_are_read(tmp_path: Path) -> None:
    """Line by line, compressed or not; a line that is none is named."""
    line = json.dumps(cassette("{}")).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line + b"\n" + line))
    (tmp_path / "b.jsonl").write_bytes(line + b"\n{}")

    found = cassettes.read(tmp_path)

    assert ["c1", "c1", "c1"] == [next(found).id for _ in range(3)]
    with pytest.raises(ValueError, match=r"b.jsonl:2: Object missing required field `id`"):
        next(found)


def test_real_recordings(real_data: Path) -> None:
    """Of each provider and endpoint that Handrail serves, some: all come out as they were recorded."""
    some = [one for number, one in enumerate(cassettes.read(real_data / "cassettes")) if not number % FEW]

    played = {one.id: replay.checked(one, way) for one in some if (way := play(one))}

    assert len(played) > 50
    assert {} == {name: said for name, said in played.items() if said}
