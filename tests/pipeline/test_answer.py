"""Owns the proof of the reply side of a walk: what passes, what waits, and what is said in its place."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.framing import LIMIT_BYTES
from proxy.providers.openai import OpenAI
from proxy.snapshot import Limits
from proxy.terms import End, ProviderSettings, Request, State, Target, UpstreamCall, UsageSource
from tests.fakes import Script
from tests.pipeline.calls import ASK, DONE, HEAD, HELLO, SPEAKS, STOP, STREAM, WHOLE, asks, check_books, event, mailed
from tests.walking import CONFIG, PLAIN, Walked, compiled


class Forgetful(OpenAI):
    """A provider of another dialect, that has no way to say some fields."""

    def encode(self, request: Request, target: Target) -> UpstreamCall:
        """Leave them out."""
        return replace(super().encode(request, target), dropped=("seed", "top_k"))


async def test_what_was_left_out_is_told() -> None:
    """A client learns from the head which fields of its request the provider never got."""
    forgetful = Forgetful(ProviderSettings(name="openai", base_url="https://provider.invalid/v1"))
    forgetful.dialects = frozenset()
    walked = Walked(Script(headers=HEAD, chunks=WHOLE), snapshot=replace(PLAIN, providers={"openai": forgetful}))

    outcome = await walked.call(STREAM)

    assert outcome.head is not None
    assert ("seed, top_k", HELLO) == (outcome.head.headers["x-handrail-dropped"], outcome.body[: len(HELLO)])


async def test_a_break_after_the_end_marker_takes_nothing() -> None:
    """Once the provider has said [DONE], a reset of its connection is no fault."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE, fail="stream_cut"))

    outcome = await walked.call(STREAM)

    check_books(walked, State.COMPLETE, [State.COMPLETE])
    assert isinstance(outcome.parts[-1], End)


async def test_a_stream_without_usage_is_estimated() -> None:
    """A provider that reports no usage is billed by a count of ours, flagged as such."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO, STOP, DONE)))

    await walked.call(STREAM)

    usage = check_books(walked, State.COMPLETE, [State.COMPLETE]).attempts[0].usage
    assert (8, 2, UsageSource.BYTES) == (usage.input_tokens, usage.output_tokens, usage.source)


async def test_a_fault_of_the_provider_in_the_stream_keeps_its_words() -> None:
    """An error event of the provider passes as it is and ends the stream."""
    said = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
    walked = Walked(Script(headers=HEAD, chunks=(HELLO, said)))

    outcome = await walked.call(STREAM)

    check_books(walked, State.FAULT, [State.FAULT])
    assert HELLO + said == outcome.body


async def test_a_model_is_told_of_a_call_without_its_values(tmp_path: Path) -> None:
    """What a rule says of a call goes back to the provider with placeholders, as the request did."""
    walked = await mailed(tmp_path, asks(0), asks())

    assert [False, False] == [b"ann@example.org" in call.body for call in walked.upstream.sent]


async def test_reasoning_comes_back_without_values(tmp_path: Path) -> None:
    """Where an agent sends reasoning back that values were put into, the provider gets the placeholders again."""
    said = [
        {"role": "user", "content": "ann@example.org"},
        {"role": "assistant", "content": "Hi", "reasoning_content": "It is ann@example.org."},
    ]
    walked = Walked(asks(), snapshot=await asyncio.to_thread(compiled, CONFIG, SPEAKS, tmp_path))

    await walked.call({**ASK, "messages": said})

    assert b"ann@example.org" not in walked.upstream.sent[0].body


async def test_a_model_is_not_told_of_one_of_several_choices(tmp_path: Path) -> None:
    """Where the provider gives more choices than were asked for, none of them is taken back to be said anew."""
    walked = await mailed(tmp_path, asks(0, 1))

    assert 1 == len(walked.upstream.sent)


async def test_a_model_cannot_be_told_of_a_call_without_a_name(tmp_path: Path) -> None:
    """A provider would refuse a result that answers no call: the denial is said as any other."""
    nameless = asks(0)
    chunks = tuple(chunk.replace(b'"id": "c1", ', b"") for chunk in nameless.chunks)

    walked = await mailed(tmp_path, replace(nameless, chunks=chunks))

    assert (1, "stop") == (len(walked.upstream.sent), walked.seen[0].finish_reason)


async def test_a_reply_without_choices_passes() -> None:
    """A reply that says nothing has nothing to judge, and leaves its conversation nowhere."""
    body = b'{"id":"c","model":"large","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}'
    walked = Walked(*[Script(chunks=(body,))] * 2)

    outcome = await walked.call(ASK)

    check_books(walked, State.COMPLETE, [State.COMPLETE])
    await walked.call({**ASK, "messages": [*ASK["messages"], {"role": "assistant", "content": ""}]})
    assert (body, ["new", "new"]) == (outcome.body, [exchange.session.link for exchange in walked.seen])


async def test_an_attempt_takes_nothing_from_the_one_before() -> None:
    """A call that hangs after another target refused it is booked by an estimate: the refusal's zero is not its own."""
    walked = Walked(Script(status=429), Script(refuse="first_byte_timeout"))

    await walked.call({**ASK, "model": "both"})

    refused, hung = check_books(walked, State.FAULT, [State.FAULT, State.FAULT]).attempts
    assert (0, 0) == (refused.usage.input_tokens, refused.cost.nanousd)
    assert (UsageSource.BYTES, True) == (hung.usage.source, (hung.cost.nanousd or 0) > 0)


async def test_an_end_marker_ends_its_own_attempt_only(tmp_path: Path) -> None:
    """A stream that breaks is cut, though the attempt before it had shown an end marker."""
    policy = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules: [{id: held, phase: response, when: 'response.text == "x"', action: deny}]
"""
    broken = Script(headers=HEAD, chunks=(HELLO, DONE, b'data: {"error":{"message":"late"}}\n\n'))
    cut = Script(headers=HEAD, chunks=(HELLO,), fail="stream_cut")
    walked = Walked(broken, cut, snapshot=await asyncio.to_thread(compiled, CONFIG, policy, tmp_path))

    outcome = await walked.call({**STREAM, "model": "both"})

    check_books(walked, State.FAULT, [State.FAULT, State.FAULT])
    assert b"Hello" not in outcome.body


NO_REFUND = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  actions: [{id: no-refund, tools: [refund], require: 'false'}]
"""


TWICE = (
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"refund","arguments":'
    b'"{}"}}],"tool_calls":null}}]}\n\n'
)


async def test_what_clients_read_differently_is_not_let_past_rules(tmp_path: Path) -> None:
    """A reply in which only some clients find a call fails where rules judge calls."""
    chunks = (HELLO, TWICE, STOP, DONE)
    walked = Walked(
        Script(headers=HEAD, chunks=chunks), snapshot=await asyncio.to_thread(compiled, CONFIG, NO_REFUND, tmp_path)
    )

    outcome = await walked.call(STREAM)

    assert "reply_ambiguous" == check_books(walked, State.FAULT, [State.COMPLETE]).error
    assert outcome.body.startswith(HELLO + b'data: {"error"')
    assert b"refund" not in outcome.body


async def test_without_rules_every_byte_passes() -> None:
    """Where no rule judges replies, what clients read differently is theirs to read."""
    chunks = (HELLO, TWICE, STOP, DONE)
    walked = Walked(Script(headers=HEAD, chunks=chunks))

    assert b"".join(chunks) == (await walked.call(STREAM)).body


async def test_a_call_without_end_is_not_kept_without_end() -> None:
    """What is held back may grow to `limits.max_reply_bytes`; then the reply fails, and nothing more of it is read."""
    call = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"aaaa"}}]}}]}\n\n'
    limits = Limits(max_reply_bytes=10 * len(call))
    walked = Walked(
        Script(headers=HEAD, chunks=(HELLO, *[call] * 12), fail="hang"), snapshot=replace(PLAIN, limits=limits)
    )

    outcome = await walked.call(STREAM)

    assert "too_large" == check_books(walked, State.FAULT, [State.FAULT]).error
    assert b"aaaa" not in outcome.body


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b'data: {"error":{"message":"boom"}}\n\n', "provider_error", id="an error in the stream"),
        pytest.param(b"data: " + b"x" * LIMIT_BYTES, "event_too_large", id="an event without end"),
    ],
)
async def test_a_reply_that_has_failed_is_not_read_on(data: bytes, code: str) -> None:
    """What a provider sends after its reply has failed, for ever perhaps, is not waited for."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO, data), fail="stream_cut"))

    outcome = await walked.call(STREAM)

    assert code == check_books(walked, State.FAULT, [State.FAULT]).error
    assert outcome.body.startswith(HELLO)


WINDOW = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: numbers, phase: chunk, action: mask, pattern: 'N-[0-9]{1,8}'}
    - {id: secret, phase: chunk, action: deny, when: 'chunk.text.contains("secret")', window: 32, message: No.}
"""


@pytest.mark.parametrize("secret", [pytest.param("", id="covered"), pytest.param("secret", id="cut")])
async def test_a_long_text_comes_to_the_same_in_turns(tmp_path: Path, secret: str) -> None:
    """More steps than are judged at once, in one event or in a whole reply: each is judged, others have their turn."""
    said = f"{'so. ' * 700}N-42{' so.' * 700}{secret}"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    whole = Script(chunks=(json.dumps({"id": "c", "model": "large", "choices": [choice]}).encode(),))
    streamed = Script(headers=HEAD, chunks=(event(said[:-100]) + event(said[-100:]), event(finish_reason="stop"), DONE))
    walked = Walked(whole, streamed, snapshot=await asyncio.to_thread(compiled, CONFIG, WINDOW, tmp_path))
    walked.clock.tick_ms = 3  # a step takes more than is left of a turn

    body = json.loads((await walked.call(ASK)).body)
    stream = (await walked.call(STREAM)).body.decode().split("\n\n")

    events = [json.loads(line.removeprefix("data: ")) for line in stream if line.startswith("data: {")]
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in events)
    assert text == body["choices"][0]["message"]["content"]
    assert said.replace("N-42", "[PATTERN]")[:5000] == text[:5000]
    assert text.endswith("No." if secret else "so.")
