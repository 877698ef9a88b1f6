"""Owns the shape of the simulated replies: a chat completion as one document or as a stream of events.

In: a request tree, an Answer, Directives. Out: JSON bytes and the usage they report. Never: a clock; `id` and `created`
come from a digest of the request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import cast

import msgspec

from proxy.simulated import model
from proxy.simulated.directives import Directives
from proxy.simulated.filling import Tree, tree
from proxy.terms import Json

EPOCH = 1_735_689_600
"""2025-01-01, from which the made-up creation times are counted."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream, and how many tokens were generated for it."""

    frame: bytes
    tokens: int = 0


class Completion:
    """The reply to one request, in either shape."""

    def __init__(self, body: Tree, answer: model.Answer, plan: Directives) -> None:
        digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
        self.id = f"chatcmpl-sim{digest[:24]}"
        self.model = str(body.get("model"))
        self.stream = body.get("stream") is True
        self.choices = n if isinstance(n := body.get("n"), int) else 1
        self.prompt_tokens, self.cached_tokens = model.prompt_tokens(body)
        self._created = EPOCH + int(digest[:6], 16)
        self._usage_asked = tree(body.get("stream_options")).get("include_usage") is True
        self._plan = plan
        self._answer = answer
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        self._text = model.tokens(answer.text)
        self._cut = isinstance(limit, int) and len(self._text) > limit
        if isinstance(limit, int):
            self._text = self._text[:limit]
        self._calls = [(f"call_sim{digest[at : at + 20]}", call) for at, call in enumerate(answer.calls)]

    @property
    def completion_tokens(self) -> int:
        """Tokens of all choices, thinking included."""
        arguments = sum(len(model.tokens(call.arguments)) for _, call in self._calls)
        return self.choices * (len(self._text) + arguments) + self._plan.reasoning_tokens

    @property
    def usage(self) -> Json:
        """The usage object as it is reported."""
        if self._plan.usage is not None:
            return cast(Json, self._plan.usage)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self._plan.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    @property
    def _finish(self) -> str:
        return self._plan.finish or ("tool_calls" if self._calls else "length" if self._cut else "stop")

    def _envelope(self, kind: str, choices: list[Json]) -> Tree:
        return {
            "id": self.id,
            "object": kind,
            "created": self._created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": "fp_simulated",
        }

    def document(self) -> bytes:
        """Return the whole reply as one JSON document."""
        message: Tree = {"role": "assistant", "content": "".join(self._text) or None, "refusal": None}
        if self._calls:
            message["tool_calls"] = [
                {"id": name, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for name, call in self._calls
            ]
        choices: list[Json] = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": self._finish}
            for index in range(self.choices)
        ]
        body = self._envelope("chat.completion", choices)
        if not self._plan.no_usage:
            body["usage"] = self.usage
        return msgspec.json.encode(body)

    def events(self) -> Iterator[Event]:
        """Yield the reply as events, `[DONE]` last."""
        for delta, count in self._deltas():
            for index in range(self.choices):
                yield Event(frame=self._frame(index, delta, None), tokens=count)
        for index in range(self.choices):
            yield Event(frame=self._frame(index, {}, self._finish))
        if self._usage_asked and not self._plan.no_usage:
            yield Event(frame=sse({**self._envelope("chat.completion.chunk", []), "usage": self.usage}))
        if not self._plan.no_done:
            yield Event(frame=b"data: [DONE]\n\n")

    def _deltas(self) -> Iterator[tuple[Tree, int]]:
        yield {"role": "assistant", "content": None if self._calls else "", "refusal": None}, 0
        for token in self._text:
            yield {"content": token}, 1
        for at, (name, call) in enumerate(self._calls):
            function: Tree = {"name": call.name, "arguments": ""}
            yield {"tool_calls": [{"index": at, "id": name, "type": "function", "function": function}]}, 0
            for token in model.tokens(call.arguments):
                yield {"tool_calls": [{"index": at, "function": {"arguments": token}}]}, 1

    def _frame(self, index: int, delta: Tree, finish: str | None) -> bytes:
        choice: Tree = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        event = self._envelope("chat.completion.chunk", [choice])
        if self._usage_asked and not self._plan.no_usage:
            event["usage"] = None
        return sse(event)


def sse(event: Json) -> bytes:
    """Return the bytes of one server-sent event."""
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def error_object(status: int, message: str, code: str) -> bytes:
    """Return an error object as OpenAI sends it with this status."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
