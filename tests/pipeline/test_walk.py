"""Owns the proof of proxy/pipeline/walk.py beyond the walks: the six endings, guards, and who may be recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from proxy.errors import Overloaded, Unauthenticated
from proxy.framing import LIMIT_BYTES
from proxy.ports import Context
from proxy.snapshot import Limits, Snapshot
from proxy.terms import Caller, End, Exchange, Fault, Finding, Head, RawRequest, State, UsageSource, Verdict
from tests.fakes import Script
from tests.walking import CONFIG, PLAIN, Walked, compiled

HEAD = {"content-type": "text/event-stream"}
ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**ASK, "stream": True}


def event(content: str | None = None, **fields: object) -> bytes:
    """Make one event of a stream."""
    choice = {"index": 0, "delta": {"content": content} if content else {}, **fields}
    return b"data: " + json.dumps({"id": "c", "model": "large", "choices": [choice]}).encode() + b"\n\n"


HELLO, STOP = event("Hello"), event(finish_reason="stop")
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = (HELLO, STOP, USAGE, DONE)
CUSTOMER_TOPIC = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  onError: deny
  rules: [{id: topic, phase: request, when: 'guards.topics.label == "x"', action: deny, message: no}]
"""
TOPICS = "apiVersion: handrail.dev/v1alpha1\nkind: Topics\ntopics: {x: [one, two, three], y: [four, five, six]}\n"


def check_books(walked: Walked, state: State, attempts: Sequence[State]) -> Exchange:
    """Check that there is exactly one record, that every attempt is settled once, and that nothing is left open."""
    (exchange,) = walked.seen

    assert (state, list(attempts)) == (exchange.state, [attempt.state for attempt in exchange.attempts])
    assert (0, set()) == (walked.upstream.open, walked.house.open_holds)
    return exchange


async def test_ending_complete() -> None:
    """A reply that ends as its protocol says is complete, with the provider's own usage."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    outcome = await walked.call(STREAM)

    exchange = check_books(walked, State.COMPLETE, [State.COMPLETE])
    assert HELLO + STOP + DONE == outcome.body
    assert (10, 5, UsageSource.PROVIDER) == (
        exchange.attempts[0].usage.input_tokens,
        exchange.attempts[0].usage.output_tokens,
        exchange.attempts[0].usage.source,
    )


async def test_ending_denied(tmp_path: Path) -> None:
    """A denied call sends nothing, costs nothing and is on record."""
    policy = CUSTOMER_TOPIC.replace('guards.topics.label == "x"', "true")
    walked = Walked(snapshot=await asyncio.to_thread(compiled, CONFIG, policy, tmp_path))

    await walked.call(STREAM)

    assert 0 == check_books(walked, State.DENIED, []).cost.nanousd


async def test_ending_provider_fault_mid_stream() -> None:
    """A stream that breaks is billed by what was seen, and its error event is the last thing the client gets."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO,), fail="stream_cut"))

    outcome = await walked.call(STREAM)

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert exchange.cost.estimated
    assert isinstance(outcome.parts[-1], Fault)
    assert b"[DONE]" not in outcome.body


async def test_ending_client_gone() -> None:
    """A client that left while the reply was read on for the books is billed by the provider's own usage."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    await walked.call(STREAM, gone=True)

    exchange = check_books(walked, State.CLIENT_GONE, [State.COMPLETE])
    assert (499, False) == (exchange.status, exchange.cost.estimated)


async def test_ending_given_up() -> None:
    """A walk that is closed in the middle closes the provider and is billed by what was seen."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    await walked.call(STREAM, leave_after=2)

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert ("abandoned", True) == (exchange.attempts[0].error, exchange.cost.estimated)


async def test_ending_cancelled() -> None:
    """A cancelled walk, as at shutdown, closes the provider, settles and records, and does not blame the client."""
    walked = Walked(Script(headers=HEAD, chunks=(HELLO,), fail="hang"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(walked.call(STREAM))
        await walked.upstream.hung.wait()
        task.cancel()

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert (503, "abandoned") == (exchange.status, exchange.error)


@pytest.mark.parametrize("left", range(1, 6))
async def test_leaving_after_any_part_settles_once(left: int) -> None:
    """Wherever a walk is left, there is one record and nothing stays open."""
    walked = Walked(Script(headers=HEAD, chunks=WHOLE))

    await walked.call(STREAM, leave_after=left)

    assert 1 == len(walked.seen)
    assert (0, set()) == (walked.upstream.open, walked.house.open_holds)


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
    assert (1, 2, UsageSource.BYTES) == (usage.input_tokens, usage.output_tokens, usage.source)


async def test_a_fault_of_the_provider_in_the_stream_keeps_its_words() -> None:
    """An error event of the provider passes as it is and ends the stream."""
    said = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
    walked = Walked(Script(headers=HEAD, chunks=(HELLO, said)))

    outcome = await walked.call(STREAM)

    check_books(walked, State.FAULT, [State.FAULT])
    assert HELLO + said == outcome.body


async def test_strangers_are_counted_but_not_recorded() -> None:
    """A call that nobody authenticated for is observed and written nowhere."""
    walked = Walked()

    def nobody(raw: RawRequest, at_ms: int) -> Caller:
        raise Unauthenticated("no key")

    walked.house.snapshot = replace(walked.house.snapshot, identify=nobody)

    outcome = await walked.call(ASK)

    assert 401 == (outcome.head or Head(status=0)).status
    assert (1, 0) == (len(walked.seen), len(walked.store.exchanges))


class Broken:
    """A guard that fails."""

    name, version, labels, lookbehind, lookahead = "topics", "1", ("x",), 0, 0
    context = Context.SAID

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Fail."""
        raise ValueError("secret detail")


async def test_a_failing_guard_fails_closed(tmp_path: Path) -> None:
    """A guard that raises is on record by the error's name alone, and the rule that reads it follows its onError."""
    (tmp_path / "topics.yaml").write_text(TOPICS)
    walked = Walked(snapshot=await asyncio.to_thread(compiled, CONFIG, CUSTOMER_TOPIC, tmp_path))
    walked.house.snapshot = replace(walked.house.snapshot, guards={"topics": Broken()})

    await walked.call(ASK)

    exchange = check_books(walked, State.DENIED, [])
    assert ("policy_error", Verdict.DENY) == (exchange.decisions[0].reason, exchange.decisions[0].verdict)
    assert "ValueError" == exchange.guards[0].error


async def test_a_record_that_cannot_be_written_stops_the_call() -> None:
    """Without a DISPATCHED record nothing is sent: 503, and the attempt has cost nothing."""
    walked = Walked()

    async def full(exchange: Exchange) -> None:
        raise Overloaded("disk full")

    walked.store.dispatch = full  # type: ignore[method-assign]  # the one store that cannot write

    outcome = await walked.call(ASK)

    exchange = check_books(walked, State.FAULT, [State.FAULT])
    assert 503 == (outcome.head or Head(status=0)).status
    assert ("not_sent", 0, ()) == (
        exchange.attempts[0].error,
        exchange.attempts[0].cost.nanousd,
        exchange.attempts[0].counters,
    )


async def test_attempts_are_capped() -> None:
    """`limits.max_attempts` bounds how many targets are tried."""
    snapshot = replace(PLAIN, limits=Limits(max_attempts=1))
    walked = Walked(Script(status=503), Script(status=503), snapshot=snapshot)

    await walked.call({**ASK, "model": "both"})

    check_books(walked, State.FAULT, [State.FAULT])


class Watching:
    """A guard that finds every text, and remembers it."""

    name, version, labels, lookbehind, lookahead = "topics", "1", ("x", "y"), 0, 0
    context = Context.SAID

    def __init__(self) -> None:
        self.texts: list[str] = []

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Find the text."""
        self.texts.append(text)
        return [Finding(guard="topics", label="y", end=len(text))]


EVERYWHERE = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: a, phase: request, when: 'guards.topics.label == "x"', action: deny, message: no}
    - {id: b, phase: tool_call, when: 'guards.topics.label == "x"', action: deny, message: no}
    - {id: c, phase: response, when: 'guards.topics.label == "x"', action: deny, message: no}
"""


async def test_guards_read_what_their_phase_is_about(tmp_path: Path) -> None:
    """A guard scans the customer's words, then the arguments of a tool call, then the words of the reply."""
    (tmp_path / "topics.yaml").write_text(TOPICS)
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
    reply = {"model": "large", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    snapshot = await asyncio.to_thread(compiled, CONFIG, EVERYWHERE, tmp_path)
    walked, guard = Walked(Script(chunks=(json.dumps(reply).encode(),)), snapshot=snapshot), Watching()
    walked.house.snapshot = replace(snapshot, guards={"topics": guard})

    await walked.call(ASK)

    check_books(walked, State.COMPLETE, [State.COMPLETE])
    assert ["Hi", '{"a": 1}', "Let me see."] == guard.texts


SPEAKS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  data: [{id: mail, direction: in, kinds: [email], action: tokenize}]
  actions: [{id: n, tools: [refund], totals: {usd: {value: tool.args.to, limit: 5}}}]
  rules:
    - {id: no, phase: tool_call, when: 'true', action: deny, onDeny: explain, messageExpression: '"No " + tool.args.to'}
    - {id: key, phase: response, when: '{"a": true}[request.user_text]', action: annotate, annotations: {a: b}}
"""


def asks(*choices: int) -> Script:
    """Script a reply in which each of these choices calls for a refund to the first placeholder of the request."""
    call = {"id": "c1", "type": "function", "function": {"name": "refund", "arguments": '{"to": "ECHO"}'}}
    said = [
        {
            "index": n,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": "", "tool_calls": [call]},
        }
        for n in choices
    ]
    return Script(
        chunks=(json.dumps({"id": "c", "model": "large", "choices": said}).encode(),), echo=r"\[EMAIL_[0-9A-F]{8}\]"
    )


async def mailed(tmp_path: Path, *scripts: Script) -> Walked:
    """Walk one call whose values rules speak of."""
    walked = Walked(*scripts, snapshot=await asyncio.to_thread(compiled, CONFIG, SPEAKS, tmp_path))
    tool = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}
    await walked.call({**ASK, "messages": [{"role": "user", "content": "ann@example.org"}], "tools": [tool]})
    return walked


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


async def test_records_keep_nothing_that_rules_compute(tmp_path: Path) -> None:
    """Neither what a rule says of a value nor the error that a value has led to puts it on record."""
    walked = await mailed(tmp_path, asks(0), asks(0))

    assert b"ann@example.org" not in msgspec.json.encode(walked.seen[0])
    assert {"no such key", "a call adds a number from 0 to 1000000000"} == {
        hit.error for decision in walked.seen[0].decisions for hit in decision.rules if hit.error
    }


async def test_a_model_is_not_told_of_one_of_several_choices(tmp_path: Path) -> None:
    """Where the provider gives more choices than were asked for, none of them is taken back to be said anew."""
    walked = await mailed(tmp_path, asks(0, 1))

    assert 1 == len(walked.upstream.sent)


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
    streamed = Script(headers=HEAD, chunks=(event(said, finish_reason="stop"), DONE))
    walked = Walked(whole, streamed, snapshot=await asyncio.to_thread(compiled, CONFIG, WINDOW, tmp_path))

    body = json.loads((await walked.call(ASK)).body)
    stream = (await walked.call(STREAM)).body.decode().split("\n\n")

    events = [json.loads(line.removeprefix("data: ")) for line in stream if line.startswith("data: {")]
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in events)
    assert text == body["choices"][0]["message"]["content"]
    assert said.replace("N-42", "[PATTERN]")[:5000] == text[:5000]
    assert text.endswith("No." if secret else "so.")


# --- which conversation a call belongs to -----------------------------------------------------------------------------

ANSWER = b'{"id":"c","model":"large","choices":[{"index":0,"finish_reason":"stop","message":{"content":"%s"}}]}'
HANDS_OVER = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  escalation: [{id: e, when: 'request.user_text.contains("human")', to: tier2, message: One moment.}]
"""


class Agent:
    """An agent that names no conversation."""

    def __init__(self, *answers: str, snapshot: Snapshot = PLAIN) -> None:
        self.walked = Walked(*(Script(chunks=(ANSWER % said.encode(),)) for said in answers), snapshot=snapshot)

    async def call(self, *said: str, prompt: str = "", user: str = "") -> str:
        """Send a history in which user and assistant take turns; return the name of its session."""
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
        system = [{"role": "system", "content": prompt}] if prompt else []
        await self.walked.call({"model": "large", "messages": [*system, *messages], "user": user})
        return self.walked.seen[-1].session.id


async def test_customers_who_open_alike_keep_their_own_conversations() -> None:
    """As many as have said the same may go on, each in a session of its own, which stays its own."""
    agent = Agent("Hello!", "Hello!", "Which one?", "Why?", "Done.", "Done.")
    opened = [await agent.call("Hi") for _ in range(2)]
    second = [await agent.call("Hi", "Hello!", text) for text in ("my order", "a refund")]
    third = [
        await agent.call("Hi", "Hello!", *more) for more in (("my order", "Which one?", "1"), ("a refund", "Why?", "2"))
    ]

    assert sorted(opened) == sorted(second)
    assert second == third


async def test_nobody_takes_the_place_of_a_call_that_failed() -> None:
    """A conversation whose call came to nothing may be found again where it was."""
    agent = Agent("Hello!", "Hello!")
    opened = {await agent.call("Hi") for _ in range(2)}
    agent.walked.upstream.scripts = [Script(refuse="connect_failed"), *[Script(chunks=(ANSWER % b"Yes?",))] * 2]
    failed = await agent.call("Hi", "Hello!", "my order")
    again = [await agent.call("Hi", "Hello!", text) for text in ("my order", "a refund")]

    assert opened == {*again}
    assert failed == again[0]


async def test_who_can_be_anybody_begins_anew() -> None:
    """Where several have said the same and all have gone on, a call that goes back there starts a conversation."""
    agent = Agent(*["Which order is it about?"] * 2, "a", "b", "c")
    opened = {await agent.call("where is my order?") for _ in range(2)}
    for text in ("1", "2"):
        await agent.call("where is my order?", "Which order is it about?", text)
    back = await agent.call("where is my order?", "Which order is it about?", "3")

    assert (False, "new", 1) == (back in opened, *_link(agent.walked))


async def test_a_conversation_that_is_known_alone_is_gone_on_with() -> None:
    """A question that was edited belongs to the conversation that it was edited in."""
    agent = Agent("Which order is it about?", "a", "b")
    opened = await agent.call("where is my order?")
    await agent.call("where is my order?", "Which order is it about?", "1")
    back = await agent.call("where is my order?", "Which order is it about?", "2")

    assert (opened, "trace", 2) == (back, *_link(agent.walked))


async def test_users_are_never_joined() -> None:
    """What one user has said leads another nowhere; the same user goes on under any system prompt."""
    agent = Agent(*["Hello!"] * 4)
    ann = await agent.call("Hi", prompt="It is one.", user="ann")
    eve = await agent.call("Hi", "Hello!", "well", prompt="It is one.", user="eve")
    anybody = await agent.call("Hi", "Hello!", "well", prompt="It is one.")
    again = await agent.call("Hi", "Hello!", "well", prompt="It is two.", user="ann")

    assert (3, ann) == (len({ann, eve, anybody}), again)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        pytest.param("", ("a human!", "One moment.", "hello?"), id="going on"),
        pytest.param("It is two.", ("a human!", "One moment.", "hello?"), id="with another prompt"),
        pytest.param("", ("a human!", "One moment.", "never mind"), id="saying something else instead"),
    ],
)
async def test_a_hand_off_is_not_escaped(tmp_path: Path, prompt: str, said: tuple[str, ...]) -> None:
    """A conversation that a human owns is kept from the model, whatever the next call changes."""
    agent = Agent(snapshot=await asyncio.to_thread(compiled, CONFIG, HANDS_OVER, tmp_path))
    await agent.call("a human!")
    await agent.call("a human!", "One moment.", "hello?")
    await agent.call(*said, prompt=prompt)

    assert ([], State.DENIED) == (agent.walked.upstream.sent, agent.walked.seen[-1].state)


def _link(walked: Walked) -> tuple[str, int]:
    session = walked.seen[-1].session
    return session.link, session.turn
