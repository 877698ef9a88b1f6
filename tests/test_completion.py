"""Owns the proof of chat completions that are made from another dialect: bytes, tree and nouns say the same."""

from __future__ import annotations

import json

from proxy.chat_wire import decoder
from proxy.completion import Completion, tool_call
from proxy.terms import Delta, End, Usage
from tests.streams import decoded, request

USED = Usage(input_tokens=7, output_tokens=5, cache_read_tokens=3)


def streamed() -> list[Delta]:
    """Return a stream of two choices, the first with a call in two pieces."""
    made = Completion(1_767_225_600_500)
    made.id, made.model = "msg_1", "m-1"
    return [
        made.chunk({"content": "Hel"}),
        made.chunk({"content": "lo"}, more={"logprobs": {"content": []}}),
        made.chunk({"tool_calls": [tool_call(0, call_id="c", name="f", arguments="")]}),
        made.chunk({"tool_calls": [tool_call(0, arguments="{}")]}),
        made.chunk({}, finish_reason="tool_calls"),
        made.chunk({"reasoning_content": "So."}, index=1, finish_reason="stop"),
        made.used(USED, {"of": "theirs"}),
        made.done(),
    ]


def test_bytes_and_nouns_say_the_same() -> None:
    """A reader of chat completions finds in the bytes exactly what the deltas say."""
    made = streamed()

    read, ended = decoded(b"".join(delta.frame for delta in made), decoder(request(choices=2)))

    assert (made, End()) == (read, ended)


def test_each_choice_has_its_role_once() -> None:
    """In its first event; each event says whose it is."""
    trees = [delta.tree for delta in streamed() if delta.tree]

    roles = [choice["delta"].get("role") for tree in trees for choice in tree["choices"]]  # type: ignore[union-attr, call-overload, index] # Json
    heads = {(tree["id"], tree["object"], tree["created"], tree["model"]) for tree in trees}
    assert ["assistant", None, None, None, None, "assistant"] == roles
    assert {("msg_1", "chat.completion.chunk", 1_767_225_600, "m-1")} == heads


def test_usage_comes_alone() -> None:
    """So that it can be hidden from a client that did not ask for it; with what only this provider says."""
    used = streamed()[-2]

    assert (True, USED, ()) == (used.usage_only, used.usage, used.choices)
    assert "theirs" == json.loads(used.frame.removeprefix(b"data: "))["usage"]["of"]


def test_a_whole_reply() -> None:
    """Its bytes are read as its nouns; beside the choices stands what only this provider says."""
    made = Completion(0)
    made.id, made.model = "msg_1", "m-1"

    delta = made.whole([{"message": {"content": "Hello"}, "finish_reason": "stop"}], USED, {"citations": []})

    (read,), ended = decoded(delta.frame, decoder(request(stream=False)))
    assert (delta, End()) == (read, ended)
    assert ("Hello", "stop", []) == (
        delta.choices[0].text,
        delta.choices[0].finish_reason,
        json.loads(delta.frame)["citations"],
    )


def test_a_whole_reply_need_not_say_usage() -> None:
    """What the provider did not say is not said."""
    delta = Completion(0).whole([], None)

    assert (None, False) == (delta.usage, b"usage" in delta.frame)
