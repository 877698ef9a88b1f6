"""Owns the walks: one YAML file is one conversation through the hallway, with all that must come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from proxy.terms import Head, HeldState
from tests.fakes import Script
from tests.turned import said, turned
from tests.walking import CONFIG, Outcome, Walked, compiled

ONE_WAY = {
    "chunk_held": "of an unstreamed reply that breaks off nothing can be read",
    "stream_cut": "of an unstreamed reply that breaks off nothing can be read",
}
"""Walks that have no counterpart, and why."""
FILES = sorted((Path(__file__).parent / "walks").glob("*.yaml"))


def script(entry: dict[str, Any]) -> Script:
    """Make a script: `json` is a whole body, `events` become a stream, `raw` is sent as it is."""
    if "json" in entry:
        chunks: tuple[bytes, ...] = (json.dumps(entry["json"]).encode(),)
    else:
        chunks = tuple(event.encode() for event in entry.get("raw", []))
        chunks += tuple(
            f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
            for event in entry.get("events", [])
        )
    kind = "text/event-stream" if "events" in entry or "raw" in entry else "application/json"
    return Script(
        status=entry.get("status", 200),
        headers={"content-type": kind, **entry.get("headers", {})},
        chunks=chunks,
        refuse=entry.get("refuse", ""),
        fail=entry.get("fail", ""),
        echo=entry.get("echo", ""),
    )


def part_of(expected: object, actual: object, path: str = "") -> list[str]:
    """Return where `actual` lacks something of `expected`; mappings may have more, everything else must be equal."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [
            problem for key, value in expected.items() for problem in part_of(value, actual.get(key), f"{path}.{key}")
        ]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [p for i, (e, a) in enumerate(zip(expected, actual, strict=True)) for p in part_of(e, a, f"{path}[{i}]")]
    return [] if expected == actual else [f"{path}: expected {expected!r}, got {actual!r}"]


def body_of(data: bytes) -> object:
    """Return a JSON body, or the list of a stream's events with JSON read."""
    if not data.startswith(b"data: "):
        return json.loads(data)
    events = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


class Walk(NamedTuple):
    """One file, and the house that its calls walk through."""

    file: dict[str, Any]
    house: Walked


def built(file: dict[str, Any], folder: Path) -> Walk:
    """Build the house that a walk's file describes."""
    text, policy = CONFIG + file.get("config", ""), file.get("policy", "")
    return Walk(file, Walked(*map(script, file.get("upstream", [])), snapshot=compiled(text, policy, folder)))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def walk(request: pytest.FixtureRequest, tmp_path: Path) -> Walk:
    """Build the house of one walk."""
    return built(yaml.safe_load(request.param.read_text()), tmp_path)


@pytest.fixture(params=[path for path in FILES if path.stem not in ONE_WAY], ids=lambda path: path.stem)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Walk, Walk]:
    """Build the house of one walk, and one in which every call and reply is streamed if it was not, and the reverse."""
    file = yaml.safe_load(request.param.read_text())
    calls = [{**call, "request": other(call["request"])} for call in file["calls"]]
    upstream = list(map(turned, file.get("upstream", [])))
    return built(file, tmp_path), built({**file, "calls": calls, "upstream": upstream}, tmp_path)


def other(request: Any) -> Any:
    """Return a request for the other way to answer."""
    return {**request, "stream": not request.get("stream", False)} if isinstance(request, dict) else request


async def made(walk: Walk, call: dict[str, Any]) -> Outcome:
    """Let one call walk, after what happens at the desk before it."""
    if "desk" in call:
        await (walk.house.close() if call["desk"] == "closed" else walk.house.decide(HeldState(call["desk"])))
    return await walk.house.call(call["request"], headers=call.get("headers"), gone=call.get("gone", False))


async def test_walk(walk: Walk) -> None:
    """What the file says must come of its calls does: what the client sees, what was sent, the record and the books."""
    problems: list[str] = []

    for number, call in enumerate(walk.file["calls"]):
        outcome = await made(walk, call)
        head = outcome.head or Head(status=0)
        actual = {
            "status": head.status,
            "headers": dict(head.headers),
            "body": body_of(outcome.body),
            "exchange": json.loads(msgspec.json.encode(walk.house.seen[number])),
        }
        problems += part_of(call["expect"], actual, f"calls[{number}]")
    sent = [json.loads(call.body) for call in walk.house.upstream.sent]
    problems += part_of(walk.file.get("sent", sent), sent, "sent")

    assert [] == problems
    assert (0, []) == (walk.house.upstream.open, walk.house.upstream.scripts)
    assert set() == walk.house.house.open_holds


async def test_streamed_or_not_a_walk_comes_to_the_same(both: tuple[Walk, Walk]) -> None:
    """The same calls and replies the other way round: status, decisions, texts, tool calls and ends are the same."""
    came: list[list[object]] = []
    for walk in both:
        came.append([])
        for number, call in enumerate(walk.file["calls"]):
            outcome = await made(walk, call)
            exchange = walk.house.seen[number]
            decisions = [replace(decision, id="") for decision in exchange.decisions]
            head = outcome.head or Head(status=0)
            came[-1].append((head.status, said(body_of(outcome.body)), exchange.state, decisions))

    assert came[0] == came[1]
