"""Owns the bytes of the Responses API that Handrail changes or says itself.

In: Deltas as they leave, of this dialect or of chat completions; a Reply, a failure. Out: the bytes a client of the
Responses API expects. Never: a call or a word in a later event that was taken out of an earlier one: this API says
everything several times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy import openai_json, responses_json
from proxy.openai_json import Tree
from proxy.terms import ChoiceDelta, Delta, End, Fault, Reply, Request, ToolCallDelta, Usage
from proxy.wire.responses_events import ENDS, Followed, Said, framed

_ECHOED: Mapping[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where that says nothing."""


class ResponsesWriter:
    """Writes the reply to one request."""

    def __init__(self, request: Request, *, reply_id: str, at_ms: int) -> None:
        self._request = request
        echoed = {key: request.body.get(key) or value for key, value in _ECHOED.items()}
        self._response: Tree = {
            "id": f"resp_{reply_id}",
            "object": "response",
            "created_at": at_ms // 1000,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": request.model,
            "output": [],
            "usage": None,
            **echoed,
        }
        self._said = Said(reply_id)
        self._followed = Followed()
        self._begun = False
        self._finish = ""
        self._usage: Usage | None = None

    def write(self, delta: Delta, *, native: bool) -> bytes:
        """Return the bytes of a delta."""
        if self._request.stream:
            return self._follow(delta) if native else self._translate(delta)
        return (delta.frame or _patched(delta)) if native else self._whole(delta)

    def end(self) -> bytes:
        """Return what ends a stream that began as chat completions: those end where nothing more comes."""
        return self._close(self._finish or "stop", self._usage) if self._begun else b""

    def compose(self, reply: Reply, usage: Usage) -> list[Delta | End]:
        """Return a whole reply that Handrail makes itself."""
        if self._request.stream:
            return self.cut(reply, usage)
        finish = reply.finish_reason or "content_filter"
        self._said.say(ChoiceDelta(text=reply.text, tool_calls=_calls(reply)))
        self._said.close()
        return [Delta(frame=openai_json.dump(self._ending(finish, usage))), End()]

    def cut(self, reply: Reply, usage: Usage) -> list[Delta | End]:
        """Return the end of a stream: what the provider has begun is ended, then comes the text."""
        frame = self._begin()
        for number, item in self._followed.end():
            frame += self._said.event("response.output_item.done", output_index=number, item=item)
        frame += self._said.say(ChoiceDelta(text=reply.text, tool_calls=_calls(reply)))
        frame += self._close(reply.finish_reason or "content_filter", usage)
        return [Delta(frame=frame), End()]

    def fault(self, fault: Fault) -> bytes:
        """Return the events that tell of a failure."""
        error = {"code": fault.code, "message": fault.message}
        failed = {**self._response, **self._followed.response, "status": "failed", "error": error}
        return self._said.event("error", **error, param=None) + self._said.event("response.failed", response=failed)

    def _begin(self) -> bytes:
        """Return the events that begin a stream, where nothing has."""
        if self._begun or self._followed.response:
            return b""
        self._begun = True
        names = ("response.created", "response.in_progress")
        return b"".join(self._said.event(name, response=self._response) for name in names)

    def _close(self, finish: str, usage: Usage | None) -> bytes:
        frame, self._begun = self._said.close(), False
        ended = self._ending(finish, usage)
        return frame + self._said.event(f"response.{ended['status']}", response=ended)

    def _ending(self, finish: str, usage: Usage | None) -> Tree:
        """Return the response as it ended, with all that was said."""
        status, why = responses_json.ending(finish)
        before = [self._followed.item(number, item) for number, item in sorted(self._followed.items.items())]
        return {
            **self._response,
            **self._followed.response,
            "status": status,
            "incomplete_details": {"reason": why} if why else None,
            "output": [*before, *self._said.output()],
            "usage": responses_json.usage_object(usage) if usage else None,
        }

    # --- the provider's own events

    def _follow(self, delta: Delta) -> bytes:
        tree = self._followed.event(delta)
        frame = b""
        if self._followed.items:
            self._said.first = max(self._followed.items) + 1
        self._said.sequence = max(self._said.sequence, self._followed.sequence + 1)
        if tree is not None and tree.get("type") in ENDS and delta.choices:
            (now,) = delta.choices
            # What nothing before has said: what was said in the place of calls, above all.
            frame = (
                self._said.say(ChoiceDelta(text=now.text, reasoning=now.reasoning, refusal=now.refusal))
                + self._said.close()
            )
            if own := self._said.output():
                response = tree["response"]
                tree = {**tree, "response": {**response, "output": [*(response.get("output") or ()), *own]}}
        if tree is None or delta.tree is None:
            return frame + (delta.frame if tree is not None else b"")
        return frame + (delta.frame if delta.frame and tree == delta.tree else framed(tree))

    # --- chat completions, said in this dialect

    def _translate(self, delta: Delta) -> bytes:
        self._response["model"] = delta.model or self._response["model"]
        self._usage = delta.usage or self._usage
        listed: Any = (delta.tree or {}).get("choices") or ()
        frame = self._begin() if delta.choices else b""
        for choice, entry in zip(delta.choices, listed, strict=False):
            if choice.index == 0:
                self._said.blocks += _blocks(entry, "delta")
                frame += self._said.say(choice)
                self._finish = choice.finish_reason or self._finish
        return frame

    def _whole(self, delta: Delta) -> bytes:
        self._response["model"] = delta.model or self._response["model"]
        listed: Any = (delta.tree or {}).get("choices") or ()
        for choice, entry in zip(delta.choices[:1], listed, strict=False):
            self._said.blocks += _blocks(entry, "message")
            self._said.say(choice)
            self._finish = choice.finish_reason
        self._said.close()
        return openai_json.dump(self._ending(self._finish, delta.usage))


def _patched(delta: Delta) -> bytes:
    """Return an unstreamed response with what it says now."""
    tree: Any = delta.tree or {}
    now = next(iter(delta.choices), ChoiceDelta())
    calls = {call.position: call for call in now.tool_calls}
    texts = {"text": now.text, "refusal": now.refusal, "reasoning": now.reasoning}
    output = []
    for number, item in enumerate(tree.get("output") or ()):
        if type(item) is not dict or not responses_json.is_call(item):
            output.append(_reworded(item, texts) if type(item) is dict else item)
        elif number in calls:
            output.append(_argued(item, calls[number].arguments))
    if texts["text"]:
        output.append(_message(f"msg_{tree.get('id')}", texts["text"]))
    tree = {**tree, "output": output}
    if now.finish_reason != responses_json.finish_reason(tree, bool(calls)):
        status, why = responses_json.ending(now.finish_reason)
        tree |= {"status": status, "incomplete_details": {"reason": why} if why else None}
    return openai_json.dump(tree)


def _calls(reply: Reply) -> tuple[ToolCallDelta, ...]:
    return tuple(
        ToolCallDelta(index=number, id=call.id, name=call.name, arguments=call.arguments)
        for number, call in enumerate(reply.tool_calls)
    )


def _message(item_id: str, text: str) -> Tree:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _reworded(item: Tree, texts: dict[str, str]) -> Tree:
    """Return an item with the texts of now: each stands where that kind of text first stood, and is then used up."""
    if item.get("type") == "reasoning":
        return {
            key: [_spoken(part, "text", "reasoning", texts) for part in value]
            if key in ("summary", "content")
            else value
            for key, value in item.items()
            if value is not None
        }
    if item.get("type") != "message" or type(item.get("content")) is not list:
        return item
    parts = [
        _spoken(part, "refusal", "refusal", texts) if "refusal" in part else _spoken(part, "text", "text", texts)
        for part in item["content"]
    ]
    return {**item, "content": parts}


def _spoken(part: Tree, key: str, kind: str, texts: dict[str, str]) -> Tree:
    """Return a part with what is left to say of its kind."""
    if key not in part:
        return part
    said, texts[kind] = texts[kind], ""
    if said == part[key]:
        return part
    bare = {name: value for name, value in part.items() if name not in ("logprobs", "annotations")}
    return {**bare, key: said, **({"annotations": []} if "annotations" in part else {})}


def _argued(item: Tree, arguments: str) -> Tree:
    key = responses_json.ARGUMENTS.get(item["type"])
    return {**item, key: arguments} if key and responses_json.arguments(item) != arguments else item


def _blocks(choice: Any, key: str) -> list[Any]:
    """Return what a provider wants back of what its model thought."""
    part = choice.get(key) if type(choice) is dict else None
    blocks = part.get("thinking_blocks") if type(part) is dict else None
    return blocks if type(blocks) is list else []
