"""Owns the proof that a call with an Idempotency-Key is made once, and that its answer is its principal's alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from proxy.accounting import ENDLESS
from proxy.errors import Conflict
from proxy.pipeline.once import KEPT_MS, MOST_KEYS, Answer, Answers
from proxy.terms import Caller, Head, Level, RawRequest, State
from tests.fakes import Script
from tests.pipeline.calls import ASK, DONE, HEAD, HELLO, STOP, STREAM, WHOLE
from tests.walking import CONFIG, Outcome, Walked, compiled

DOCUMENT = msgspec.json.encode(
    {
        "id": "c",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
)
JSON = {"content-type": "application/json"}
KEY = {"idempotency-key": "k"}
REPLAYED = "x-handrail-idempotent-replay"
ANSWERS = {
    "streamed": (STREAM, Script(headers=HEAD, chunks=WHOLE)),
    "whole": (ASK, Script(headers=JSON, chunks=(DOCUMENT,))),
}


def head(outcome: Outcome) -> Head:
    """Return the head of a reply."""
    return outcome.head or Head(status=0)


def code(outcome: Outcome) -> tuple[int, str]:
    """Return the status and the error code of a refusal."""
    return head(outcome).status, str(msgspec.json.decode(outcome.body)["error"]["code"])


@pytest.mark.parametrize("shape", ANSWERS)
async def test_a_call_that_comes_again_is_answered_as_before(shape: str) -> None:
    """The same bytes, marked as said again; nothing is sent, nothing is charged, and the record says whose they are."""
    body, script = ANSWERS[shape]
    walked = Walked(script)

    first, again = [await walked.call(body, headers=KEY) for _ in range(2)]

    assert (first.body, 1) == (again.body, len(walked.upstream.sent))
    assert (None, "true") == (head(first).headers.get(REPLAYED), head(again).headers[REPLAYED])
    assert {**head(first).headers, REPLAYED: "true"} == head(again).headers
    made, repeated = walked.seen
    assert (State.COMPLETE, 0, (), made.id, ()) == (
        repeated.state,
        repeated.cost.nanousd,
        repeated.attempts,
        repeated.replay_of,
        repeated.guards,
    )
    (total,) = await walked.store.totals([(f"conversation:{made.session.id}", ENDLESS)])
    assert (1, made.cost.nanousd) == (total.calls, total.nanousd)


async def test_a_call_without_a_key_is_made_each_time() -> None:
    """Nothing is remembered of calls that do not ask for it."""
    walked = Walked(*[ANSWERS["whole"][1]] * 2)

    for _ in range(2):
        await walked.call(ASK)

    assert 2 == len(walked.upstream.sent)


async def test_an_answer_whose_client_had_left_is_there_for_it() -> None:
    """A client that lost its connection asks again with the same key, and gets what was drained."""
    walked = Walked(ANSWERS["streamed"][1])

    await walked.call(STREAM, headers=KEY, gone=True)
    again = await walked.call(STREAM, headers=KEY)

    assert HELLO + STOP + DONE == again.body
    assert [State.CLIENT_GONE, State.COMPLETE] == [exchange.state for exchange in walked.seen]


async def test_a_key_is_for_one_request() -> None:
    """Another body under the same key is an error of the client: 422, and nothing is sent."""
    walked = Walked(ANSWERS["whole"][1])

    await walked.call(ASK, headers=KEY)
    other = await walked.call({**ASK, "temperature": 1}, headers=KEY)

    assert ((422, "idempotency_key_reused"), 1) == (code(other), len(walked.upstream.sent))


async def test_a_call_that_is_being_answered_is_not_made_again() -> None:
    """While the first is under way its like is told to come later, in the way that SDKs understand."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO,), fail="hang"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(walked.call(STREAM, headers=KEY))
        await walked.upstream.hung.wait()
        second = await walked.call(STREAM, headers=KEY)
        task.cancel()

    assert ((409, "idempotency_in_progress"), "1") == (code(second), head(second).headers["retry-after"])
    assert 1 == len(walked.upstream.sent)


FAILURES = {
    "refused": Script(refuse="connect_failed"),
    "an error": Script(status=500, chunks=(b"{}",)),
    "cut": Script(headers=HEAD, chunks=(HELLO,), fail="stream_cut", retryable=False),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_call_that_failed_may_be_made_again(failure: str) -> None:
    """An SDK that tries again with the same key gets a new try, with a hold and a record of its own."""
    walked = Walked(FAILURES[failure], ANSWERS["streamed"][1])

    await walked.call(STREAM, headers=KEY)
    again = await walked.call(STREAM, headers=KEY)

    assert (HELLO + STOP + DONE, None, 2) == (
        again.body,
        head(again).headers.get(REPLAYED),
        len({attempt.reservation_id for exchange in walked.seen for attempt in exchange.attempts}),
    )


@pytest.mark.parametrize(
    "given_up", [pytest.param({"leave_after": 2}, id="closed"), pytest.param({"gone": True}, id="aborted")]
)
async def test_a_call_that_was_given_up_may_be_made_again(given_up: dict[str, Any]) -> None:
    """Where there is no whole answer there is nothing to say again."""
    script = Script(headers=HEAD, chunks=(HELLO,), fail="hang") if "gone" in given_up else ANSWERS["streamed"][1]
    walked = Walked(script, ANSWERS["streamed"][1])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(walked.call(STREAM, headers=KEY, **given_up))
        if "gone" in given_up:
            await walked.upstream.hung.wait()
            task.cancel()

    again = await walked.call(STREAM, headers=KEY)

    assert (HELLO + STOP + DONE, 2) == (again.body, len(walked.upstream.sent))


DENIES = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: response, when: 'true', action: deny, message: No.}]}
"""


async def test_a_denied_answer_is_not_paid_for_twice(tmp_path: Path) -> None:
    """What the agent got in its place is said again."""
    snapshot = await asyncio.to_thread(compiled, CONFIG, DENIES, tmp_path)
    walked = Walked(ANSWERS["whole"][1], snapshot=snapshot)

    first, again = [await walked.call(ASK, headers=KEY) for _ in range(2)]

    assert (first.body, True, 1) == (again.body, b"No." in again.body, len(walked.upstream.sent))


async def test_an_answer_is_not_said_again_under_other_policies(tmp_path: Path) -> None:
    """What was let out under policies that are no longer in force is neither said nor asked for again."""
    walked = Walked(ANSWERS["whole"][1])
    await walked.call(ASK, headers=KEY)
    walked.house.snapshot = await asyncio.to_thread(compiled, CONFIG, DENIES, tmp_path)

    again = await walked.call(ASK, headers=KEY)

    assert ((409, "idempotency_answer_gone"), "false") == (code(again), head(again).headers["x-should-retry"])
    assert 1 == len(walked.upstream.sent)


@pytest.mark.parametrize("key", ["", "k" * 256], ids=["empty", "too long"])
async def test_a_key_has_a_length(key: str) -> None:
    """A key that is none is refused before anything is done."""
    walked = Walked()

    refused = await walked.call(ASK, headers={"idempotency-key": key})

    assert ((400, "bad_request"), []) == (code(refused), walked.upstream.sent)


async def test_one_principal_never_gets_the_answer_of_another() -> None:
    """Two callers with the same key, the same body and the same agent are two calls."""
    walked = Walked(*[ANSWERS["whole"][1]] * 2)

    def whoever(raw: RawRequest, at_ms: int) -> Caller:
        return Caller(agent="support", level=Level.EXECUTE, principal=raw.headers["x-who"])

    walked.house.snapshot = replace(walked.house.snapshot, identify=whoever)
    seen = [await walked.call(ASK, headers={**KEY, "x-who": who}) for who in ("ann", "bo", "ann")]

    assert [None, None, "true"] == [head(outcome).headers.get(REPLAYED) for outcome in seen]
    assert 2 == len(walked.upstream.sent)


ROOM = 8 * len(DOCUMENT)


@pytest.mark.parametrize(
    ("room", "calls", "kept"),
    [
        pytest.param(ROOM - 1, 1, [False], id="no answer takes more than its part of the room"),
        pytest.param(ROOM, 8, [True] * 8, id="all of the room"),
        pytest.param(ROOM, 9, [False, *[True] * 8], id="the oldest goes"),
        pytest.param(0, 1, [False], id="no room at all"),
    ],
)
async def test_answers_are_kept_as_long_as_there_is_room(room: int, calls: int, kept: list[bool]) -> None:
    """An answer that is not kept any more is not made again either: the client is told."""
    walked = Walked(*[ANSWERS["whole"][1]] * calls)
    limits = replace(walked.house.snapshot.limits, replay_bytes=room)
    walked.house.snapshot = replace(walked.house.snapshot, limits=limits)
    keys = [{"idempotency-key": f"k{number}"} for number in range(calls)]
    for key in keys:
        await walked.call(ASK, headers=key)

    again = [await walked.call(ASK, headers=key) for key in keys]

    assert kept == [outcome.body == DOCUMENT for outcome in again]
    assert {(409, "idempotency_answer_gone")} >= {code(outcome) for outcome in again if outcome.body != DOCUMENT}
    assert calls == len(walked.upstream.sent)


@pytest.mark.parametrize("room", [0, ROOM], ids=["without its answer", "with its answer"])
async def test_a_key_is_forgotten_after_a_day(room: int) -> None:
    """Then it may be used anew."""
    walked = Walked(*[ANSWERS["whole"][1]] * 2)
    limits = replace(walked.house.snapshot.limits, replay_bytes=room)
    walked.house.snapshot = replace(walked.house.snapshot, limits=limits)
    await walked.call(ASK, headers=KEY)
    walked.clock.at_ms += KEPT_MS

    await walked.call({**ASK, "temperature": 1}, headers=KEY)

    assert (2, [None, None]) == (len(walked.upstream.sent), [exchange.replay_of or None for exchange in walked.seen])


def test_keys_are_bounded() -> None:
    """However many keys there are, memory is not theirs alone: the oldest go."""
    answers = Answers()
    answer = Answer(exchange_id="ex", head=Head(status=200), body=b"x", policies="p")
    for number in range(MOST_KEYS):
        answers.claim(str(number), "d", "p", 1)
        answers.keep(str(number), answer, MOST_KEYS)

    answers.claim("one more", "d", "p", 1)
    answers.keep("0", answer, MOST_KEYS)

    assert (None, answer) == (answers.claim("0", "d", "p", 1), answers.claim("5", "d", "p", 1))


def test_a_call_under_way_keeps_its_key() -> None:
    """Its like is refused as long as it has not ended."""
    answers = Answers()
    answers.claim("k", "d", "p", 1)

    with pytest.raises(Conflict, match="is being answered"):
        answers.claim("k", "d", "p", 2)


TOTALS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  actions: [{id: n, tools: [refund], effect: write, totals: {usd: {value: tool.args.usd, limit: 100}}}]
"""


@pytest.mark.parametrize(("headers", "allowed"), [(KEY, []), ({}, ["refund"])], ids=["may come again", "gone for good"])
async def test_what_may_leave_later_counts_in_totals(
    headers: Mapping[str, str], allowed: list[str], tmp_path: Path
) -> None:
    """A tool call whose agent has left counts as made where the agent can fetch it with its key."""
    call = {"id": "c1", "type": "function", "function": {"name": "refund", "arguments": '{"usd": 60}'}}
    said = {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [call]}}
    tool = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}
    script = Script(headers=JSON, chunks=(msgspec.json.encode({"id": "c", "choices": [said]}),))
    snapshot = await asyncio.to_thread(compiled, CONFIG, TOTALS, tmp_path)
    walked = Walked(script, script, snapshot=snapshot)
    session = {"x-handrail-session": "s"}

    await walked.call({**ASK, "tools": [tool]}, headers={**headers, **session}, gone=True)
    await walked.call({**ASK, "tools": [tool]}, headers=session)

    assert allowed == list(walked.seen[1].tool_calls)
