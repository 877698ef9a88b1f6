"""Owns whether a client got what was recorded: its text, tool calls, finish reason, usage, model or error.

Read from the client's bytes by the few lines below, by none of Handrail's own readers; and the ledger has to say the
provider's usage to the token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bench.replay.asking import CHAT, RESPONSES, Play
from bench.replay.cassettes import Cassette, Expected
from bench.replay.serving import Got
from proxy.terms import UsageSource


class Heard(NamedTuple):
    """What a client makes of a reply."""

    text: str
    calls: list[tuple[str, str]]
    finish: str
    usage: Mapping[str, int]
    model: str


def problems(cassette: Cassette, play: Play, got: Got) -> Iterator[str]:
    """Yield what is not as it was recorded."""
    status = cassette.response.status or 200
    if got.status >= 400 or status >= 400 or _failed(cassette):
        yield from _of_failure(cassette, status, got)
        return
    if got.exchange is None or got.exchange.state != "complete":
        yield f"the record says {got.exchange and got.exchange.state} {got.exchange and got.exchange.error}"
    if cassette.expect is None:
        return
    try:
        heard = HEAR[play.path](got.body, cassette.stream)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        yield f"a client cannot read it: {type(error).__name__} {error}"
        return
    yield from _differences(cassette.expect, heard, play)
    yield from _usage(cassette, heard, got)


def _failed(cassette: Cassette) -> bool:
    """Tell a recording that lost its status, and is an error by what it says."""
    if cassette.stream or cassette.response.status:
        return False
    try:
        tree = json.loads(cassette.response.data)
    except ValueError:
        return True
    return isinstance(tree, dict) and bool(tree.get("error"))


def _of_failure(cassette: Cassette, status: int, got: Got) -> Iterator[str]:
    if got.status < 400:
        yield f"it failed with {status}, and the client got {got.status}"
        return
    try:
        error = json.loads(got.body)["error"]
    except (ValueError, KeyError, TypeError):
        yield f"no error object: {got.body[:80]!r}"
        return
    if not got.sent and status < 400 and not _failed(cassette):
        yield f"refused: {error['message']}"
    elif got.sent and 400 <= status < 500 and status not in (401, 403) and got.status != status:
        yield f"status {got.status} instead of {status}"
    elif got.sent and status not in (401, 403) and not error.get("message"):
        yield "the error says nothing"


def _differences(expected: Expected, heard: Heard, play: Play) -> Iterator[str]:
    if expected.text is not None and heard.text != expected.text:
        yield f"text {heard.text[:60]!r} instead of {expected.text[:60]!r}"
    if expected.tool_calls is not None:
        calls = [(call.name or "", call.arguments or "") for call in expected.tool_calls]
        same = heard.calls == calls if play.native else list(map(_plain, heard.calls)) == list(map(_plain, calls))
        if not same:
            yield f"tool calls {heard.calls} instead of {calls}"
    finish = expected.finish if play.native else FINISH.get(str(expected.finish), expected.finish)
    if expected.finish is not None and heard.finish != finish:
        yield f"finish reason {heard.finish!r} instead of {finish!r}"
    if expected.model and heard.model != expected.model:
        yield f"model {heard.model!r} instead of {expected.model!r}"


def _plain(call: tuple[str, str]) -> tuple[str, str]:
    """Return a call with its arguments in one spelling: a translated call has them written anew."""
    try:
        return call[0], json.dumps(json.loads(call[1] or "{}"), sort_keys=True)
    except ValueError:
        return call


FINISH: Mapping[str, str] = {}
"""What other dialects call an end, in OpenAI's words."""
BESIDE = frozenset({"anthropic", "bedrock"})
"""Whose input tokens leave out those read from a cache or written to it."""


def _usage(cassette: Cassette, heard: Heard, got: Got) -> Iterator[str]:
    """Compare usage with what the provider said, in the ledger and before the client."""
    said = cassette.expect.usage if cassette.expect else None
    if not said:
        return
    sent, out = said.get("input_tokens") or 0, said.get("output_tokens") or 0
    if cassette.provider in BESIDE:
        sent += (said.get("cached_input_tokens") or 0) + (said.get("cache_creation_input_tokens") or 0)
    booked = got.exchange.attempts[-1].usage if got.exchange and got.exchange.attempts else None
    if booked is None or (booked.input_tokens, booked.output_tokens) != (sent, out):
        yield f"booked {booked and (booked.input_tokens, booked.output_tokens)} instead of {(sent, out)}"
    elif booked.source is not UsageSource.PROVIDER:
        yield f"usage is from {booked.source}"
    if heard.usage and (heard.usage["in"], heard.usage["out"]) != (sent, out):
        yield f"told {heard.usage} instead of {(sent, out)}"


# --- clients --------------------------------------------------------------------------------------------------------


def _events(body: bytes) -> Iterator[Any]:
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].lstrip() for line in block.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            yield json.loads(data)


def _chat(body: bytes, stream: bool) -> Heard:
    text, finish, model = "", "", ""
    calls: dict[int, list[str]] = {}
    usage: dict[str, int] = {}
    for tree in _events(body) if stream else [json.loads(body)]:
        model = tree.get("model") or model
        if tree.get("usage"):
            usage = {"in": tree["usage"]["prompt_tokens"], "out": tree["usage"].get("completion_tokens") or 0}
        for choice in tree.get("choices") or ():
            if choice.get("index", 0):
                continue
            part = choice.get("delta" if stream else "message") or {}
            content = part.get("content") or ""
            text += content if isinstance(content, str) else "".join(piece.get("text") or "" for piece in content)
            finish = choice.get("finish_reason") or finish
            for place, call in enumerate(part.get("tool_calls") or ()):
                held = calls.setdefault(call["index"] if stream and "index" in call else place, ["", ""])
                held[0] = call["function"].get("name") or held[0]
                held[1] += call["function"].get("arguments") or ""
    return Heard(text, [(name, said) for name, said in calls.values()], finish, usage, model)


def _responses(body: bytes, stream: bool) -> Heard:
    if stream:
        events = list(_events(body))
        tree = next(
            event["response"] for event in events if event["type"] in ("response.completed", "response.incomplete")
        )
        text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    else:
        tree = json.loads(body)
        text = ""
    items = tree["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    said = "".join(part.get("text") or "" for part in parts)
    if stream and said != text:
        raise ValueError("the events and the response say different texts")
    calls = [(item["name"], item["arguments"]) for item in items if item["type"] == "function_call"]
    used = tree.get("usage") or {}
    usage = {"in": used["input_tokens"], "out": used["output_tokens"]} if used else {}
    return Heard(said, calls, tree["status"], usage, tree["model"])


HEAR: Mapping[str, Callable[[bytes, bool], Heard]] = {CHAT: _chat, RESPONSES: _responses}
"""How a client reads a reply, by the path that it asked at."""
