"""Owns the proof of responses that Handrail changes or says itself: native or translated, streamed or not, they come to
the same, and nothing that was taken out stands anywhere in them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeAlias

import pytest

from proxy.chat_wire import decoder
from proxy.snapshot import Snapshot
from proxy.terms import ChoiceDelta, Delta, Fault, Reply, ToolCall, ToolCallDelta, Usage
from proxy.wire import responses
from tests.fakes import Script
from tests.responded import (
    HEAD,
    THOUGHT,
    USAGE,
    call,
    events,
    framed,
    message,
    put_together,
    read,
    refusal,
    response,
    texts,
)
from tests.streams import decoded, request
from tests.walking import CONFIG, Outcome, Walked, compiled
from tests.wire.test_responses import decode

PATH = "/v1/responses"
NATIVE = CONFIG.replace('invalid/v1"', 'invalid/v1", options: {responses: true}')
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  data: [{id: card, direction: out, kinds: [card], action: mask, stream: window}]
  rules:
    - {id: asked, phase: request, when: 'request.user_text.contains("forbidden")', action: deny, message: Not that.}
    - {id: secret, phase: chunk, when: 'chunk.text.contains("secret")', window: 32, action: deny, message: Enough.}
    - {id: refund, phase: tool_call, when: 'tool.name == "refund"', action: deny, message: No refunds.}
"""
SORRY = """
    - {id: sorry, phase: response, when: response.text.contains("sorry"), action: rewrite, rewrite: {text: "'Thanks.'"}}
"""
Snapshots: TypeAlias = "dict[tuple[bool, bool], Snapshot]"
LONG = "1.......2......." * 60
CARD = "4111 1111 1111 1111"


class Case(NamedTuple):
    """What a model says, and what is left of it."""

    said: dict[str, Any]
    left: list[str]
    gone: str = "no such thing"
    status: str = "completed"


CASES = {
    "plain": Case(
        response(THOUGHT, message("Hello there."), call("look", '{"a":1}')), ["So it is.", "Hello there.", '{"a":1}']
    ),
    "refused": Case(response(refusal("I will not.")), ["I will not."]),
    "short": Case(
        response(message("Hello"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ["Hello"],
        status="incomplete",
    ),
    "masked": Case(response(message(f"It is {CARD}. Bye.")), ["It is [CARD]. Bye."], gone="4111"),
    "arguments masked": Case(response(call("look", f'{{"a":"{CARD}"}}')), [f'{{"a":"{CARD}"}}']),
    "one call denied": Case(
        response(message("Well."), call("refund", '{"n":5}', 1), call("look", "{}", 2)), ["Well.", "{}"], gone='n\\":5'
    ),
    "all calls denied": Case(response(call("refund", '{"n":5}', 1)), ["No refunds."], gone='n\\":5'),
    "replaced": Case(response(message("I am so sorry about it.")), ["Thanks."], gone="sorry"),
}


def chatted(said: dict[str, Any]) -> dict[str, Any]:
    """Return the chat completion that says what a response says."""
    told: dict[str, Any] = {"role": "assistant", "content": None}
    for item in said["output"]:
        if item["type"] == "message":
            (part,) = item["content"]
            told |= {"refusal": part["refusal"]} if "refusal" in part else {"content": part["text"]}
        elif item["type"] == "reasoning":
            told["reasoning_content"] = item["summary"][0]["text"]
        else:
            function = {"name": item["name"], "arguments": item["arguments"]}
            told.setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})
    finish = "length" if said["status"] == "incomplete" else "tool_calls" if "tool_calls" in told else "stop"
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    return {
        "id": "c",
        "model": "m-1",
        "choices": [{"index": 0, "message": told, "finish_reason": finish}],
        "usage": usage,
    }


def chunked(whole: dict[str, Any], size: int = 4) -> bytes:
    """Return a chat completion as a stream."""
    (choice,) = whole["choices"]
    told = choice["message"]
    deltas: list[dict[str, Any]] = []
    for key in ("reasoning_content", "content", "refusal"):
        words = told.get(key) or ""
        deltas += [{key: words[start : start + size]} for start in range(0, len(words), size)]
    for number, one in enumerate(told.get("tool_calls") or ()):
        words = one["function"]["arguments"]
        deltas += [
            {"tool_calls": [{**one, "index": number, "function": {"name": one["function"]["name"], "arguments": ""}}]}
        ]
        deltas += [
            {"tool_calls": [{"index": number, "function": {"arguments": words[start : start + size]}}]}
            for start in range(0, len(words), size)
        ]
    head = {"id": "c", "model": "m-1"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


def script(said: dict[str, Any], *, native: bool, stream: bool) -> Script:
    """Return a provider's reply that says so."""
    if native:
        data = framed(events(said)) if stream else json.dumps(said).encode()
    else:
        data = chunked(chatted(said)) if stream else json.dumps(chatted(said)).encode()
    return Script(headers=HEAD if stream else {}, chunks=(data,))


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    """Compile configurations, by whether the provider speaks the dialect and whether a rule holds the reply."""
    folder = tmp_path_factory.mktemp("policy")
    configs = {True: NATIVE, False: CONFIG}
    return {
        (native, holds): compiled(configs[native], POLICY + SORRY * holds, folder)
        for native in (True, False)
        for holds in (True, False)
    }


async def asked(walked: Walked, **body: Any) -> Outcome:
    """Make a call."""
    return await walked.call({"model": "large", "input": "Hi", **body}, path=PATH)


def ended(outcome: Outcome, *, stream: bool) -> dict[str, Any]:
    """Return the response that a client gets."""
    return put_together(outcome.body) if stream else json.loads(outcome.body)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "translated"])
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
async def test_what_a_client_gets(snapshots: Snapshots, case: Case, native: bool, stream: bool) -> None:
    """The same whatever the provider speaks and however it comes; what is taken out is nowhere."""
    walked = Walked(script(case.said, native=native, stream=stream), snapshot=snapshots[native, "sorry" in case.gone])

    outcome = await asked(walked, stream=stream)

    got = ended(outcome, stream=stream)
    said = [text for item in got["output"] for text in texts(item) if text]
    assert ("".join(case.left), case.status) == ("".join(said), got["status"])
    assert case.gone not in outcome.body.decode()
    assert ["large", "m-1"][native or case.status == "completed" or stream] or got["model"]
    assert ("responses", True) == (
        (json.loads(walked.upstream.sent[0].body).get("input") and "responses") or "responses",
        True,
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_unchanged_bytes(snapshots: Snapshots, stream: bool) -> None:
    """What no rule has changed is the provider's own, to the byte."""
    told = script(CASES["plain"].said, native=True, stream=stream)

    outcome = await asked(Walked(told, snapshot=snapshots[True, False]), stream=stream)

    assert told.chunks[0] == outcome.body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_reply_of_our_own(snapshots: Snapshots, stream: bool) -> None:
    """Is a whole response, with nothing used."""
    outcome = await asked(Walked(snapshot=snapshots[True, False]), stream=stream, input="forbidden")

    got = ended(outcome, stream=stream)
    assert ("incomplete", {"reason": "content_filter"}) == (got["status"], got["incomplete_details"])
    assert ["Not that."] == [text for item in got["output"] for text in texts(item)]
    assert ("response", "large", 0) == (got["object"], got["model"], got["usage"]["total_tokens"])


async def test_a_reply_that_is_cut(snapshots: Snapshots) -> None:
    """Ends where a rule says so, at the same character however it comes; what comes after stands nowhere."""
    said, came = response(message(f"{LONG} the secret is 42")), set()
    for native, stream in ((True, True), (True, False), (False, True), (False, False)):
        walked = Walked(script(said, native=native, stream=stream), snapshot=snapshots[native, False])

        outcome = await asked(walked, stream=stream)

        got = ended(outcome, stream=stream)
        assert "secret" not in outcome.body.decode()
        assert ("incomplete", {"reason": "content_filter"}) == (got["status"], got["incomplete_details"])
        came.add("".join(text for item in got["output"] for text in texts(item)))

    (text,) = came
    assert (True, True) == (text.startswith(LONG[:500]), text.endswith("Enough."))


async def test_translated_usage_and_model(snapshots: Snapshots) -> None:
    """To the token, streamed and not."""
    for stream in (False, True):
        walked = Walked(script(CASES["plain"].said, native=False, stream=stream), snapshot=snapshots[False, False])
        got = ended(await asked(walked, stream=stream, instructions="Be kind."), stream=stream)

        assert (USAGE, "m-1", "Be kind.") == (got["usage"], got["model"], got["instructions"])
        sent = json.loads(walked.upstream.sent[0].body)
        assert ["system", "user"] == [message["role"] for message in sent["messages"]]


async def test_a_failure_mid_stream(snapshots: Snapshots) -> None:
    """Is told in this dialect's words, whatever the provider speaks."""
    for native in (True, False):
        said = response(message(LONG))
        data = framed(events(said)[:-4]) if native else chunked(chatted(said))[:-300]
        walked = Walked(Script(headers=HEAD, chunks=(data,)), snapshot=snapshots[native, False])

        outcome = await asked(walked, stream=True)

        error, failed = read(outcome.body)[-2:]
        assert ("error", "response.failed", "failed") == (error["type"], failed["type"], failed["response"]["status"])
        assert "stream_cut" == error["code"] == failed["response"]["error"]["code"]


def test_events_are_numbered() -> None:
    """Each with the next number; calls may go on side by side, and each has what it was given."""
    writer = responses.writer(decode(input="Hi", stream=True), reply_id="ex_1", at_ms=1000)
    pieces = [(0, "c1", "f", ""), (1, "c2", "g", "{"), (0, "", "", "{}"), (1, "", "", "}")]
    chunks = [
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": n, "id": i, "function": {"name": name, "arguments": said}}]},
                }
            ]
        }
        for n, i, name, said in pieces
    ]
    data = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    deltas, _ = decoded(data, decoder(request()))
    body = b"".join(writer.write(delta, native=False) for delta in deltas) + writer.end()

    assert list(range(len(read(body)))) == [event["sequence_number"] for event in read(body)]
    assert [("f", "{}"), ("g", "{}")] == [(item["name"], item["arguments"]) for item in put_together(body)["output"]]
    assert b"" == writer.end()


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(
            response(message("One", annotations=[{"type": "url_citation"}]), message("Two")),
            ChoiceDelta(text="OneTwo!"),
            [["OneTwo!"], [""]],
            id="a text over two messages",
        ),
        pytest.param(
            response(THOUGHT, refusal("No.")), ChoiceDelta(reasoning="*", refusal="-"), [["*"], ["-"]], id="others"
        ),
        pytest.param(response(call("f", "{}")), ChoiceDelta(), [], id="a call that is gone"),
        pytest.param(
            response({"type": "shell_call", "action": {}}),
            ChoiceDelta(tool_calls=(ToolCallDelta(index=0, arguments="other", position=0),)),
            [[]],
            id="a call without arguments",
        ),
        pytest.param({"output": [5, {"type": "message", "content": 5}]}, ChoiceDelta(), [5, []], id="what is no item"),
        pytest.param(
            response({"type": "message", "content": [{"type": "other"}]}),
            ChoiceDelta(),
            [[]],
            id="a part without words",
        ),
    ],
)
def test_an_unstreamed_response_that_is_changed(before: dict[str, Any], now: ChoiceDelta, expected: list[Any]) -> None:
    """Each text stands where that kind of text first stood; what tells of words by their place goes with them."""
    writer = responses.writer(decode(input="Hi"), reply_id="ex_1", at_ms=0)

    got = json.loads(writer.write(Delta(frame=b"", tree=before, choices=(now,)), native=True))

    assert expected == [
        texts(item) if isinstance(item, dict) and item.get("content") != 5 else [] if isinstance(item, dict) else item
        for item in got["output"]
    ]


def test_a_whole_reply_of_calls() -> None:
    """As where a human takes over by the agent's own tool."""
    reply = Reply(tool_calls=(ToolCall(id="c", name="hand_over", arguments="{}"),), finish_reason="tool_calls")
    for stream in (False, True):
        writer = responses.writer(decode(input="Hi", stream=stream), reply_id="ex_1", at_ms=0)
        body = b"".join(part.frame for part in writer.compose(reply, Usage()))

        (item,) = (put_together(body) if stream else json.loads(body))["output"]
        assert ("function_call", "c", "hand_over", "{}") == (
            item["type"],
            item["call_id"],
            item["name"],
            item["arguments"],
        )


def test_a_choice_that_nobody_asked_for() -> None:
    """This dialect has one."""
    chunk = {"choices": [{"index": 1, "delta": {"content": "x"}}]}
    writer = responses.writer(decode(input="Hi", stream=True), reply_id="ex_1", at_ms=0)
    (delta,) = decoder(request(choices=2)).feed(b"data: %b\n\n" % json.dumps(chunk).encode())

    assert [] == put_together(writer.write(delta, native=False) + writer.end())["output"]


def test_a_failure_before_anything() -> None:
    """Is told all the same."""
    writer = responses.writer(decode(input="Hi", stream=True), reply_id="ex_1", at_ms=0)

    error, failed = read(writer.fault(Fault(status=502, type="t", code="c", message="No.")))

    assert ("c", "No.", "resp_ex_1") == (error["code"], error["message"], failed["response"]["id"])
