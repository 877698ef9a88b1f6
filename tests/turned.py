"""Owns the other way to say the same: a scripted reply streamed or not, and what both say to a client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SPOKEN = ("content", "reasoning_content", "refusal")


def turned(script: dict[str, Any]) -> dict[str, Any]:
    """Return a script with its reply streamed if it was not, and whole if it was; an error stays what it is."""
    if "events" in script:
        rest = {key: value for key, value in script.items() if key != "events"}
        return {**rest, "json": whole(script["events"])}
    if "choices" in script.get("json", {}):
        rest = {key: value for key, value in script.items() if key != "json"}
        return {**rest, "events": [*events(script["json"]), "[DONE]"]}
    return script


def whole(stream: list[Any]) -> dict[str, Any]:
    """Put the events of a stream together to the reply that they bring."""
    trees = [event for event in stream if isinstance(event, dict)]
    usage = next((tree["usage"] for tree in trees if tree.get("usage")), None)
    envelope = {key: value for key, value in trees[0].items() if key not in ("choices", "usage")}
    choices = [
        {
            "index": index,
            "finish_reason": choice["finish_reason"] or None,
            "message": {"role": "assistant", **choice["texts"], **_listed(choice["calls"])},
        }
        for index, choice in folded(trees).items()
    ]
    return {**envelope, "choices": choices, **({"usage": usage} if usage else {})}


def _listed(calls: dict[int, dict[str, Any]]) -> dict[str, Any]:
    return {"tool_calls": list(calls.values())} if calls else {}


def folded(trees: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Add up what trees say, whether in events or whole: each choice's texts, calls and finish reason."""
    found: dict[int, dict[str, Any]] = {}
    for entry in (entry for tree in trees for entry in tree["choices"]):
        choice = found.setdefault(entry["index"], {"texts": {}, "calls": {}, "finish_reason": ""})
        said = entry.get("delta") or entry.get("message") or {}
        for key in SPOKEN:
            if said.get(key):
                choice["texts"][key] = choice["texts"].get(key, "") + said[key]
        for place, call in enumerate(said.get("tool_calls") or ()):
            _add(choice["calls"], call.get("index", place), call)
        choice["finish_reason"] = entry.get("finish_reason") or choice["finish_reason"]
    return found


def _add(calls: dict[int, dict[str, Any]], index: int, call: dict[str, Any]) -> None:
    known = calls.setdefault(
        index, {"id": call.get("id"), "type": "function", "function": {"name": "", "arguments": ""}}
    )
    for key in ("name", "arguments"):
        known["function"][key] += call["function"].get(key) or ""


def events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Cut a reply into the events of a stream: texts letter by letter, calls opened and then filled, usage last."""
    envelope = {key: value for key, value in reply.items() if key not in ("choices", "usage")}
    for choice in reply["choices"]:
        for delta in ({"role": "assistant"}, *_deltas(choice["message"])):
            yield {**envelope, "choices": [{"index": choice["index"], "delta": delta}]}
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield {**envelope, "choices": [last]}
    if "usage" in reply:
        yield {**envelope, "choices": [], "usage": reply["usage"]}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in sorted(SPOKEN, key=["reasoning_content", "content", "refusal"].index):
        for piece in _pieces(message.get(key)):
            yield {key: piece}
    for index, call in enumerate(message.get("tool_calls") or ()):
        arguments = call["function"]["arguments"]
        yield {"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]}
        for piece in _pieces(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str | None) -> list[str]:
    return re.findall(r"ECHO|.", text, re.DOTALL) if text else []


def said(body: object) -> object:
    """Return what a client takes from a body: of each choice texts, calls and end, or the error."""
    trees = [tree for tree in (body if isinstance(body, list) else [body]) if isinstance(tree, dict)]
    errors = [tree["error"] for tree in trees if "error" in tree]
    return errors or folded(trees)
