"""Owns what R10 sends: prompts of one MiB in every shape that is dear to somebody, and rules made to stop the loop.

Each of the expressions of `bench/cel_hostile.py` is a policy of its own, which is asked in every phase about what that
phase is about; a call chooses it by its model, so that each has the whole budget of a phase. None of them matches.
"""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from bench.cel_hostile import CASES
from proxy import cel

MIB = 1 << 20
LISTS: Mapping[str, object] = {
    "n": list(range(1, 1001)),
    "k": list(range(1, 101)),
    "rows": [{"a": {"b": [row, "x" * 50]}} for row in range(1, 101)],
}
"""What rules work on besides; it stands in each policy."""
PARTS = 19_000
"""Names, objects and lists: nearly as many as a request may have."""
TEXTS: Mapping[str, str] = {
    "request": "request.user_text",
    "tool_result": "result.text",
    "tool_call": "tool.args_raw",
    "chunk": "chunk.text",
    "response": "response.text",
}
"""What each phase is about."""
_TEXT = re.compile(r"\b(text|noise|wide|deep)\b")
_LIST = re.compile(r"\b(n|k|rows)\b")


def judges(source: str) -> bool:
    """Say whether an expression is a condition, and gets as far as being asked."""
    try:
        cel.compile(source)
    except cel.CelSyntaxError:
        return False
    return "(" in source


SOURCES = tuple(case for case in CASES if judges(case))


def policy(number: int, source: str) -> str:
    """Return the policy of one expression."""
    asked = _LIST.sub(lambda found: f"params.{found[0]}", source)
    rules = [_rule(phase, _TEXT.sub(text, asked)) for phase, text in TEXTS.items()]
    tree = {
        "apiVersion": "handrail.dev/v1alpha1",
        "kind": "AgentPolicy",
        "metadata": {"name": f"hostile-{number}", "version": "1.0.0"},
        "spec": {"selector": {"models": [f"hostile-{number}"]}, "onError": "allow", "params": LISTS, "rules": rules},
    }
    return msgspec.json.encode(tree).decode()


def _rule(phase: str, source: str) -> dict[str, object]:
    when = f'({source}) && request.model == "nobody"'
    return {"id": phase.replace("_", "-"), "phase": phase, "when": when, "action": "deny"}


# --- prompts ----------------------------------------------------------------------------------------------------------

ASKS = "Where is my order 1042? It should have been here on Monday, and nobody answers the phone. "
PERSON = "Anna Schmidt, anna.schmidt{0}@example.org, card 4111 1111 1111 1111, phone +49 30 901820{0:02}. "


def _user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def _long_text(dice: random.Random) -> list[dict[str, object]]:
    return [_user(ASKS * (MIB // len(ASKS)))]


def _noise(dice: random.Random) -> list[dict[str, object]]:
    return [_user("".join(dice.choices('xyé \n"\\', k=MIB // 2)))]


def _many_messages(dice: random.Random) -> list[dict[str, object]]:
    count = PARTS // 3 - 10
    text = (ASKS * 9)[: MIB // count - 40]
    roles = ("user", "assistant")
    said: list[dict[str, object]] = [
        {"role": roles[number % 2], "content": f"{number} {text}"} for number in range(count)
    ]
    return [*said, _user(ASKS)]


def _images(dice: random.Random) -> list[dict[str, object]]:
    words: dict[str, object] = {"type": "text", "text": ASKS}
    url = "data:image/png;base64," + base64.b64encode(dice.randbytes(MIB // 4 * 3 // 4)).decode()
    pictures: list[dict[str, object]] = [{"type": "image_url", "image_url": {"url": url}}] * 4
    return [_user([words, *pictures])]


def _long_calls(dice: random.Random) -> list[dict[str, object]]:
    """Return eight calls of 128 KiB of arguments."""
    rows = [
        {"order_id": f"A{number}", "note": 'left at "the door"', "tags": [1, [2, {"a": None}]]}
        for number in range(1800)
    ]
    said = msgspec.json.encode({"rows": rows}).decode()
    messages = [_user(ASKS)]
    for number in range(8):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "lookup_order", "arguments": said}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": said[:4000]})
    return messages


def _people(dice: random.Random) -> list[dict[str, object]]:
    """Return personal data all over, nearly as much of it as is taken out of one request."""
    texts = [PERSON.format(number % 100) + ASKS * 3 for number in range(MIB // 390)]
    return [_user("".join(texts[start::8])) for start in range(8)] + [_user(ASKS)]


def _tools(dice: random.Random) -> list[dict[str, object]]:
    """Return tools in place of messages: deep, and wide."""
    deep: dict[str, object] = {"type": "string"}
    for _ in range(25):
        deep = {"type": "object", "properties": {"a": deep}}
    wide = {f"field_{number}": {"type": "string", "description": "d" * 270} for number in range(60)}
    schema = {"type": "object", "properties": {**wide, "deep": deep}}
    named = ({"name": f"tool_{number}", "parameters": schema} for number in range(PARTS // 360))
    return [{"type": "function", "function": function} for function in named]


SHAPES: Mapping[str, Callable[[random.Random], list[dict[str, object]]]] = {
    "one long text": _long_text,
    "noise with escapes": _noise,
    "many messages": _many_messages,
    "images": _images,
    "long tool calls and results": _long_calls,
    "personal data": _people,
    "tools, deep and wide": _tools,
}


def prompts(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield each shape as the rest of a body: what stands behind its model."""
    for name, shape in SHAPES.items():
        made = shape(dice)
        said = {"tools": made, "messages": [_user(ASKS)]} if shape is _tools else {"messages": made}
        yield name, msgspec.json.encode({"max_completion_tokens": 100, **said})
    yield "a long reply", msgspec.json.encode({"max_completion_tokens": 100, "messages": [_user(ASKS)]})


def asked(model: str, prompt: bytes, *, stream: bool) -> bytes:
    """Return the body of a call."""
    return msgspec.json.encode({"model": model, "stream": stream})[:-1] + b"," + prompt[1:]
