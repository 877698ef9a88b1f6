"""Owns the proof that both shapes of a simulated reply say the same, and count it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import pytest

from proxy.simulated.completion import Completion, error_object
from proxy.simulated.directives import Directives
from proxy.simulated.model import Answer, Call
from proxy.terms import Json

BODY: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PLAIN = Directives()
WORDS = Answer(text="Order A1001 is on its way to you.")
CALLS = Answer(calls=(Call(name="f", arguments='{"a": 1}'), Call(name="g", arguments="{}")))


def completion(answer: Answer, fields: dict[str, Json] | None = None, plan: Directives = PLAIN) -> Completion:
    """Build the completion of a request."""
    return Completion({**BODY, **(fields or {})}, answer, plan)


def stream(reply: Completion) -> list[Any]:
    """Decode the events of a stream, all but `[DONE]`."""
    frames = [event.frame for event in reply.events()]
    return [msgspec.json.decode(frame[6:]) for frame in frames if frame != b"data: [DONE]\n\n"]


def joined(events: list[Any]) -> list[Any]:
    """Put the choices of a stream together: text, tool calls and finish reason by index."""
    choices: dict[int, Any] = defaultdict(
        lambda: {"text": "", "calls": defaultdict(lambda: ["", "", ""]), "finish": ""}
    )
    for choice in (choice for event in events for choice in event["choices"]):
        into, delta = choices[choice["index"]], choice["delta"]
        into["text"] += delta.get("content") or ""
        into["finish"] += choice["finish_reason"] or ""
        for call in delta.get("tool_calls", []):
            parts = into["calls"][call["index"]]
            parts[0] += call.get("id", "")
            parts[1] += call["function"].get("name", "")
            parts[2] += call["function"]["arguments"]
    return [(c["text"], list(c["calls"].values()), c["finish"]) for _, c in sorted(choices.items())]


def whole(document: Any) -> list[Any]:
    """Read the same from an unstreamed reply."""
    return [
        (
            choice["message"]["content"] or "",
            [
                [call["id"], call["function"]["name"], call["function"]["arguments"]]
                for call in choice["message"].get("tool_calls", [])
            ],
            choice["finish_reason"],
        )
        for choice in document["choices"]
    ]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("answer", [pytest.param(WORDS, id="words"), pytest.param(CALLS, id="calls")])
def test_both_shapes_say_the_same(answer: Answer, n: int) -> None:
    """A stream put together is the unstreamed reply, and as many tokens were generated for it as usage reports."""
    reply = completion(answer, {"n": n})

    document = msgspec.json.decode(reply.document())

    assert whole(document) == joined(stream(reply))
    assert document["usage"]["completion_tokens"] == sum(event.tokens for event in reply.events())


@pytest.mark.parametrize(
    ("fields", "finish", "size"),
    [
        pytest.param({}, "stop", 9, id="no limit"),
        pytest.param({"max_tokens": 3}, "length", 3, id="max_tokens"),
        pytest.param({"max_completion_tokens": 4}, "length", 4, id="max_completion_tokens"),
        pytest.param({"max_tokens": 9}, "stop", 9, id="just enough"),
    ],
)
def test_output_limits_are_kept(fields: dict[str, Json], finish: str, size: int) -> None:
    """A reply is cut at the limit, says so, and is counted as cut."""
    document = msgspec.json.decode(completion(WORDS, fields).document())

    assert (finish, size) == (document["choices"][0]["finish_reason"], document["usage"]["completion_tokens"])


@pytest.mark.parametrize(
    ("options", "plan", "last"),
    [
        pytest.param(None, Directives(), None, id="not asked"),
        pytest.param({"include_usage": False}, Directives(), None, id="declined"),
        pytest.param({"include_usage": True}, Directives(), {"total_tokens"}, id="asked"),
        pytest.param({"include_usage": True}, Directives(no_usage=True), None, id="withheld"),
        pytest.param({"include_usage": True}, Directives(usage={"lie": -1}), {"lie"}, id="a lie"),
    ],
)
def test_a_stream_reports_usage_when_asked(options: Json, plan: Directives, last: set[str] | None) -> None:
    """The usage event is the last, has no choices, and every other event says `usage: null` where it is asked for."""
    events = stream(completion(WORDS, {"stream_options": options}, plan))

    assert last is None or (last <= set(events[-1]["usage"]) and events[-1]["choices"] == [])
    assert {last is not None} == {"usage" in event for event in events}


def test_usage_in_a_document_can_be_withheld() -> None:
    """A provider may report no usage, or count its thinking."""
    assert "usage" not in msgspec.json.decode(completion(WORDS, plan=Directives(no_usage=True)).document())
    details = msgspec.json.decode(completion(WORDS, plan=Directives(reasoning_tokens=7)).document())["usage"]
    assert (16, 7) == (details["completion_tokens"], details["completion_tokens_details"]["reasoning_tokens"])


def test_the_same_request_gets_the_same_bytes() -> None:
    """Ids and times come from the request, whatever the order of its fields; another request has others."""
    first = Completion({"a": 1, **BODY}, WORDS, Directives())
    same = Completion({**BODY, "a": 1}, WORDS, Directives())
    other = Completion({"a": 2, **BODY}, WORDS, Directives())

    assert first.document() == same.document()
    assert first.id != other.id


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (429, "rate_limit_error"), (503, "server_error")],
)
def test_errors_have_the_type_of_their_status(status: int, kind: str) -> None:
    """Error objects are what OpenAI sends with the status."""
    assert kind == msgspec.json.decode(error_object(status, "m", "c"))["error"]["type"]
