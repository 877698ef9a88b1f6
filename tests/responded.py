"""Owns responses of OpenAI's Responses API in tests: whole ones, and the events of the same."""

from __future__ import annotations

import json
from typing import Any

HEAD = {"content-type": "text/event-stream"}
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}
THOUGHT: dict[str, Any] = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "So it is."}],
}


def message(text: str, item_id: str = "msg_1", **more: Any) -> dict[str, Any]:
    """Return a message."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **more}
    return {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def refusal(text: str) -> dict[str, Any]:
    """Return a message that refuses."""
    part = {"type": "refusal", "refusal": text}
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def call(name: str, arguments: str, number: int = 1) -> dict[str, Any]:
    """Return a function call."""
    return {
        "id": f"fc_{number}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{number}",
        "name": name,
        "arguments": arguments,
    }


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """Return a whole response."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m-1",
        "output": list(output),
        "usage": USAGE,
        **more,
    }


def events(whole: dict[str, Any], size: int = 4) -> list[dict[str, Any]]:
    """Return the events in which a response is streamed, its texts in pieces of so many characters."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    told = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]
    for number, item in enumerate(whole["output"]):
        told += _of_item(number, item, size)
    told.append({"type": f"response.{whole['status']}", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(told)]


def _of_item(number: int, item: dict[str, Any], size: int) -> list[dict[str, Any]]:
    at = {"item_id": item["id"], "output_index": number}
    empty: dict[str, dict[str, Any]] = {
        "function_call": {"arguments": ""},
        "custom_tool_call": {"input": ""},
        "reasoning": {"summary": []},
    }
    begun = {**item, **empty.get(item["type"], {"content": []} if item["type"] == "message" else {})}
    told = [{"type": "response.output_item.added", "output_index": number, "item": begun}]
    if item["type"] == "function_call":
        told += _words("response.function_call_arguments", at, "arguments", item["arguments"], size)
    elif item["type"] == "custom_tool_call":
        told += _words("response.custom_tool_call_input", at, "input", item["input"], size)
    for place, part in enumerate(item.get("content") or ()):
        told += _of_part({**at, "content_index": place}, part, size)
    for place, part in enumerate(item.get("summary") or ()):
        spot = {**at, "summary_index": place}
        told += [{"type": "response.reasoning_summary_part.added", **spot, "part": {**part, "text": ""}}]
        told += _words("response.reasoning_summary_text", spot, "text", part["text"], size)
        told += [{"type": "response.reasoning_summary_part.done", **spot, "part": part}]
    return [*told, {"type": "response.output_item.done", "output_index": number, "item": item}]


def _of_part(at: dict[str, Any], part: dict[str, Any], size: int) -> list[dict[str, Any]]:
    key = "refusal" if "refusal" in part else "text"
    name = "response.refusal" if key == "refusal" else "response.output_text"
    return [
        {"type": "response.content_part.added", **at, "part": {**part, key: ""}},
        *_words(name, at, key, part[key], size),
        {"type": "response.content_part.done", **at, "part": part},
    ]


def _words(name: str, at: dict[str, Any], key: str, text: str, size: int) -> list[dict[str, Any]]:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    told = [{"type": f"{name}.delta", **at, "delta": piece} for piece in pieces]
    return [*told, {"type": f"{name}.done", **at, key: text}]


def framed(told: list[dict[str, Any]]) -> bytes:
    """Return the bytes of events."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in told)


def read(data: bytes) -> list[dict[str, Any]]:
    """Return the events in bytes."""
    return [json.loads(block.partition(b"data: ")[2]) for block in data.split(b"\n\n") if block]


def put_together(data: bytes) -> dict[str, Any]:
    """Return the response that a client puts together of events; all that says it twice has to say the same."""
    items: dict[int, dict[str, Any]] = {}
    words: dict[tuple[Any, ...], str] = {}
    ended: dict[str, Any] = {}
    for event in read(data):
        kind, number = event["type"], event.get("output_index", 0)
        about, _, what = kind.rpartition(".")
        spot = (number, about, event.get("content_index"), event.get("summary_index"))
        if what == "delta":
            assert number in items, "words before their item"
            words[spot] = words.get(spot, "") + event["delta"]
        elif what == "done" and (key := next((k for k in ("text", "refusal", "arguments", "input") if k in event), "")):
            assert words.get(spot, "") == event[key], event
        elif kind == "response.output_item.added":
            items[number] = event["item"]
        elif kind == "response.output_item.done":
            assert number in items, "an end without a beginning"
            items[number] = event["item"]
        elif about == "response" and what in ("completed", "incomplete"):
            ended = event["response"]
    said = [items[number] for number in sorted(items)]
    assert ended["output"] == said, (ended["output"], said)
    every = [text for item in said for text in texts(item)]
    assert "".join(every) == "".join(words.values()), (every, words)
    return ended


def texts(item: dict[str, Any]) -> list[str]:
    """Return all that an item says."""
    parts = [*(item.get("content") or ()), *(item.get("summary") or ())]
    own = [item[key] for key in ("arguments", "input") if key in item]
    return own + [part[key] for part in parts for key in ("text", "refusal") if key in part]
