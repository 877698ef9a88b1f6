"""Owns what a message of a request says after stretches of its texts were covered.

In: one message's JSON tree, covers that count in the text that rules saw. Out: another tree. Never: the caller's own
tree changed, or a field lost that is not concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from proxy import openai_json
from proxy.stretches import reworded
from proxy.terms import Cover

SEPARATOR = "\n"
"""What stands between two texts of a message where rules see them as one."""


def edited(message: dict[str, Any], covers: Sequence[Cover], arguments: Mapping[int, str]) -> dict[str, Any]:
    """Return the message with what `covers` say in the place of its words, and with other arguments of its calls.

    Of a cover that reaches over several texts the first gets the words, the others lose theirs.
    """
    changed = {**message, "content": _copied(message.get("content"))} if "content" in message else dict(message)
    start = 0
    for holder, key in list(_texts(changed)):
        text = holder[key]
        holder[key] = _covered(text, start, covers)
        start += len(text) + len(SEPARATOR)
    if arguments:
        _call(changed, arguments)
    return changed


def reasoned(message: dict[str, Any], say: Callable[[str], str]) -> dict[str, Any]:
    """Return the message with what `say` makes of its reasoning, wherever vendors put that."""
    changed = _reasoned(message, openai_json.REASONING, say)
    if type(changed.get("content")) is list:
        changed["content"] = [
            _reasoned(part, ("thinking",), say) if type(part) is dict else part for part in changed["content"]
        ]
    return changed


def _reasoned(holder: dict[str, Any], keys: Sequence[str], say: Callable[[str], str]) -> dict[str, Any]:
    return {key: reworded(value, lambda _, text: say(text)) if key in keys else value for key, value in holder.items()}


def _copied(content: Any) -> Any:
    return [dict(part) if type(part) is dict else part for part in content] if type(content) is list else content


def _texts(message: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield where each text stands, in the order in which rules see them."""
    content = message.get("content")
    holders = [(message, "content")] if type(content) is str else []
    holders += [(part, key) for part in _parts(content) for key in ("text", "refusal")]
    holders.append((message, "refusal"))
    yield from ((holder, key) for holder, key in holders if type(holder.get(key)) is str and holder[key])


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in content if type(part) is dict] if type(content) is list else []


def _covered(text: str, start: int, covers: Sequence[Cover]) -> str:
    made, place, end = [], start, start + len(text)
    for cover in covers:
        if cover.end <= start or cover.start >= end:
            continue
        made.append(text[place - start : max(cover.start, start) - start])
        if cover.start >= start - len(SEPARATOR):  # else it has touched the text before
            made.append(cover.text)
        place = min(cover.end, end)
    return "".join((*made, text[place - start :]))


def _call(message: dict[str, Any], arguments: Mapping[int, str]) -> None:
    listed = message.get("tool_calls") or []
    message["tool_calls"] = [_argued(call, arguments.get(place)) for place, call in enumerate(listed)]
    if not listed:
        del message["tool_calls"]
    if len(listed) in arguments:
        message["function_call"] = {**message["function_call"], "arguments": arguments[len(listed)]}


def _argued(call: dict[str, Any], arguments: str | None) -> dict[str, Any]:
    if arguments is None:
        return call
    return {
        key: {**body, openai_json.ARGUMENTS[key]: arguments} if key in openai_json.ARGUMENTS and body else body
        for key, body in call.items()
    }
