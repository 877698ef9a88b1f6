"""Owns the proof that the unchanged `openai` Python SDK works through Handrail as it does without."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, cast

import openai
import pytest
from pydantic import BaseModel

from proxy.simulated import Directives
from proxy.terms import Exchange, State, UsageSource
from tests.e2e.endings import CALLS, CELLS, KINDS, says, simulate
from tests.e2e.rig import World, until

LOOK_UP: Any = {
    "type": "function",
    "function": {
        "name": "lookup_order",
        "parameters": {
            "type": "object",
            "properties": {"order_id": {"type": "string"}},
            "required": ["order_id"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Order(BaseModel):
    """What a structured reply is read into."""

    order_id: str
    amount: float


HELLO: dict[str, Any] = {"model": "plain", "messages": says("Hello")}
ORDER: dict[str, Any] = {"model": "plain", "messages": says("Where is order A1001?"), "tools": [LOOK_UP]}


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    """Give the SDK as an agent makes it: without an argument."""
    with openai.OpenAI() as client:
        yield client


@pytest.fixture
def direct(world: World) -> Iterator[openai.OpenAI]:
    """Give the SDK pointed at the provider itself."""
    with openai.OpenAI(base_url=world.provider.url) as client:
        yield client


def create(client: openai.OpenAI, request: dict[str, Any]) -> Any:
    """Ask for a completion; the SDK's overloads say nothing about a request that is a variable."""
    ask: Any = client.chat.completions.create
    return ask(**request)


def text_of(chunks: Iterable[Any]) -> str:
    """Put the text of a stream together."""
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


# --- what a call gives ----------------------------------------------------------------------------------------------

USUAL = [
    pytest.param(HELLO, id="text"),
    pytest.param({**HELLO, "n": 2, "temperature": 0.2, "seed": 7, "user": "u"}, id="two choices"),
    pytest.param(ORDER, id="tool call"),
    pytest.param({**HELLO, "metadata": simulate(tools=CALLS)}, id="two tool calls"),
    pytest.param({**HELLO, "response_format": {"type": "json_object"}}, id="JSON mode"),
    pytest.param({**HELLO, "extra_body": {"something_new": {"a": [1, 2.5, None]}}}, id="unknown field"),
    pytest.param({**HELLO, "messages": says("Hellö 👋 \u2028 \x7f")}, id="unicode"),
    pytest.param({**HELLO, "max_completion_tokens": 2}, id="cut by its length"),
]


@pytest.mark.parametrize("request_", USUAL)
def test_a_reply_is_what_the_provider_gives(
    request_: dict[str, Any], client: openai.OpenAI, direct: openai.OpenAI
) -> None:
    """Through Handrail the SDK returns the same object as without it, to the last field."""
    assert create(direct, request_).model_dump() == create(client, request_).model_dump()


@pytest.mark.parametrize("request_", USUAL)
def test_a_stream_is_what_the_provider_gives(
    request_: dict[str, Any], client: openai.OpenAI, direct: openai.OpenAI
) -> None:
    """Streamed with usage, every chunk is the same object, and there are as many."""
    streamed = {**request_, "stream": True, "stream_options": {"include_usage": True}}

    expected, actual = ([chunk.model_dump() for chunk in create(one, streamed)] for one in (direct, client))

    assert expected == actual
    assert actual[-1]["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}], ids=["unsaid", "refused"])
def test_usage_is_streamed_only_to_who_asked(options: dict[str, Any], client: openai.OpenAI, world: World) -> None:
    """A stream without `include_usage` has no usage in any chunk and no chunk without choices; the record has it."""
    raw = client.chat.completions.with_raw_response.create(**HELLO, stream=True, **options)
    chunks = list(raw.parse())

    assert (set(), set()) == ({c.usage for c in chunks} - {None}, {len(c.choices) for c in chunks} - {1})
    [attempt] = world.handrail.record(raw.headers["x-handrail-decision"]).attempts
    assert (UsageSource.PROVIDER, 9) == (attempt.usage.source, attempt.usage.output_tokens)


async def test_the_async_client_works_alike(world: World) -> None:
    """AsyncOpenAI gets replies and streams."""
    async with openai.AsyncOpenAI() as client:
        whole = await client.chat.completions.create(**HELLO)
        stream: Any = await client.chat.completions.create(**HELLO, stream=True)
        chunks = [chunk async for chunk in stream]

    assert "Hello! How can I help you today?" == whole.choices[0].message.content == text_of(chunks)


def test_an_agents_loop_is_one_conversation(client: openai.OpenAI, world: World) -> None:
    """An agent that sends the SDK's own message objects and its tool's result back goes on with the conversation."""
    messages: list[Any] = says("Where is order B2002?")
    decisions = []
    for result in ('{"status": "shipped"}', ""):
        raw = client.chat.completions.with_raw_response.create(**{**ORDER, "messages": messages})
        decisions.append(raw.headers["x-handrail-decision"])
        message = raw.parse().choices[0].message
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": c.id, "content": result} for c in message.tool_calls or ()]

    first, second = map(world.handrail.record, decisions)
    assert "Order B2002 is shipped." == message.content
    assert (first.session.id, 1, 2) == (second.session.id, first.session.turn, second.session.turn)


# --- the SDK's other doors ------------------------------------------------------------------------------------------


def test_a_structured_reply_is_parsed(client: openai.OpenAI) -> None:
    """`parse` with a pydantic model gives an instance of it."""
    messages: Any = says("Order A1001 costs $12.50")

    reply = client.chat.completions.parse(model="reply", messages=messages, response_format=Order)

    assert Order(order_id="A1001", amount=12.5) == reply.choices[0].message.parsed


def test_the_stream_helper_gives_its_events(client: openai.OpenAI) -> None:
    """`stream` gives content and tool events, and puts the completion together."""
    with client.chat.completions.stream(**{**ORDER, "model": "reply"}) as stream:
        kinds = {event.type for event in stream}
        completion = stream.get_final_completion()

    [call] = completion.choices[0].message.tool_calls or []
    assert {"chunk", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert ("lookup_order", {"order_id": "A1001"}) == (call.function.name, json.loads(call.function.arguments))


def test_the_raw_reply_names_its_decision(client: openai.OpenAI, world: World) -> None:
    """`with_raw_response` shows the headers that name the decision, the policies and the verdict."""
    raw = client.chat.completions.with_raw_response.create(**{**HELLO, "model": "reply"})

    exchange = world.handrail.record(raw.headers["x-handrail-decision"])
    assert ("allow", exchange.policy_digest) == (raw.headers["x-handrail-verdict"], raw.headers["x-handrail-policy"])
    assert exchange.decisions[0].id == raw.headers["x-handrail-decision"]


def test_the_streaming_reply_can_be_read_by_lines(client: openai.OpenAI) -> None:
    """`with_streaming_response` hands out the lines of the stream as they come, the end marker last."""
    with client.chat.completions.with_streaming_response.create(**HELLO, stream=True) as raw:
        lines = [line for line in raw.iter_lines() if line]

    assert (True, "data: [DONE]") == (all(line.startswith("data: ") for line in lines), lines[-1])


RESPONSE: dict[str, Any] = {
    "model": "plain",
    "input": "Where is order A1001?",
    "tools": [{"type": "function", **LOOK_UP["function"]}],
}


def test_a_response_is_said_as_a_chat_completion(client: openai.OpenAI) -> None:
    """Where the provider has no Responses API: a call and its result go round, streamed and not."""
    first: Any = client.responses.create(**RESPONSE)
    with client.responses.stream(**RESPONSE) as stream:
        kinds = {event.type for event in stream}
        streamed: Any = stream.get_final_response()
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"status": "shipped"}'}
    asked = [{"role": "user", "content": RESPONSE["input"]}, *first.output, result]
    second: Any = client.responses.create(**{**RESPONSE, "input": asked})

    assert ("lookup_order", {"order_id": "A1001"}) == (call.name, json.loads(call.arguments))
    assert [(call.name, call.arguments)] == [(one.name, one.arguments) for one in streamed.output]
    assert {"response.function_call_arguments.delta", "response.completed"} <= kinds
    assert ("completed", True) == (second.status, bool(second.output_text))


def test_models_are_listed(client: openai.OpenAI) -> None:
    """`models.list` names the configured aliases, `models.retrieve` gives each, and no other."""
    names = [model.id for model in client.models.list()]

    assert ("plain", names) == (names[0], [client.models.retrieve(name).id for name in names])
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gone")


# --- endings --------------------------------------------------------------------------------------------------------


def told(error: openai.APIError) -> str:
    """Write an error of the SDK as `endings` does."""
    status = f" {error.status_code}" if isinstance(error, openai.APIStatusError) else ""
    return f"{type(error).__name__}{status} {error.type} {error.code}"


def ended(finish: str | None, text: str | None, calls: Iterable[tuple[str, str]]) -> str:
    """Write how a reply ended as `endings` does."""
    return f"{finish}: {text or ''.join(f'{name}({arguments})' for name, arguments in calls)}"


def document_of(reply: Any) -> str:
    """Write what a reply says."""
    [choice] = reply.choices
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
    return ended(choice.finish_reason, choice.message.content, calls)


def stream_of(reply: Any) -> str:
    """Write what a stream says, and how it breaks off if it does."""
    text, calls, finish = "", cast("dict[int, tuple[str, str]]", {}), None
    try:
        for choice in (choice for chunk in reply for choice in chunk.choices):
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or ():
                name, arguments = calls.get(piece.index, ("", ""))
                calls[piece.index] = name + (piece.function.name or ""), arguments + (piece.function.arguments or "")
            finish = choice.finish_reason or finish
    except openai.APIError as error:
        return f"{text}, then {told(error)} while streaming".removeprefix(", then ")
    return ended(finish, text, calls.values())


def outcome(client: openai.OpenAI, request: dict[str, Any]) -> str:
    """Make a call as an agent does, and write what came of it as `endings` does."""
    try:
        reply = create(client, request)
    except openai.APIError as error:
        return told(error)
    return stream_of(reply) if request.get("stream") else document_of(reply)


@pytest.mark.parametrize(("kind", "how", "streamed"), CELLS)
def test_each_ending(kind: str, how: str, streamed: bool, client: openai.OpenAI) -> None:
    """Each way to end is the reply or the documented exception that the table says, and nothing else."""
    request = KINDS[kind].request(how, streamed)

    assert KINDS[kind].outcome(how, streamed) == outcome(client.with_options(max_retries=0), request)


# --- retries and time-outs ------------------------------------------------------------------------------------------


class Trace:
    """A trace that an agent's calls belong to, by which their records are found again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._id = uuid.uuid4().hex
        self.headers = {"extra_headers": {"traceparent": f"00-{self._id}-00f067aa0ba902b7-01"}}

    def records(self, count: int) -> list[Exchange]:
        """Return the trace's records, once there are so many."""
        found: list[Exchange] = []

        def enough() -> bool:
            found[:] = [exchange for exchange in self._world.handrail.records() if exchange.trace_id == self._id]
            return len(found) >= count

        assert until(enough), f"{len(found)} records, not {count}"
        return found


@pytest.fixture
def trace(world: World) -> Trace:
    """Give a trace of this test's own."""
    return Trace(world)


def test_a_provider_that_is_busy_is_asked_again(client: openai.OpenAI, world: World, trace: Trace) -> None:
    """The provider's 429 reaches the SDK with its retry-after, and the SDK's second try is answered."""
    world.provider.next(Directives(error=429, headers={"retry-after": "0.01"}))

    reply = create(client, {**HELLO, **trace.headers})

    assert "Hello! How can I help you today?" == reply.choices[0].message.content
    states = [(exchange.state, exchange.status) for exchange in trace.records(2)]
    assert [(State.FAULT, 429), (State.COMPLETE, 200)] == states


@pytest.mark.parametrize("kind", ["a spend limit has no room", "no price is known", "the provider says 401"])
def test_what_no_retry_can_cure_is_asked_once(kind: str, client: openai.OpenAI, trace: Trace) -> None:
    """The SDK, with its retries as they are, does not repeat what would only fail again."""
    request = {**KINDS[kind].request("error", False), **trace.headers}

    assert KINDS[kind].outcome("error", False) == outcome(client, request)
    assert 1 == len(trace.records(1))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_retry_with_a_key_is_not_billed_again(streamed: bool, client: openai.OpenAI, world: World) -> None:
    """A call that ran into the SDK's time-out and comes again with its key gets the answer that was drained."""
    billed = len(world.provider.bill)
    slow = {**HELLO, "stream": streamed, "metadata": simulate(text="a b c", delay_ms=1_200)}
    named = {**slow, "extra_headers": {"idempotency-key": uuid.uuid4().hex}}

    reply = create(client.with_options(max_retries=8, timeout=0.8), named)

    assert "a b c" == (text_of(reply) if streamed else reply.choices[0].message.content)
    assert 1 == len(world.provider.bill) - billed


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_client_that_gives_up_is_billed(streamed: bool, client: openai.OpenAI, world: World, trace: Trace) -> None:
    """A call that ran into the SDK's time-out is read to its end, so that its record has the provider's own usage."""
    slow = {**HELLO, "stream": streamed, "metadata": simulate(text="a b c", delay_ms=1_500), **trace.headers}

    with pytest.raises(openai.APITimeoutError):
        create(client.with_options(max_retries=0, timeout=0.8), slow)

    [exchange] = trace.records(1)
    assert (State.CLIENT_GONE, UsageSource.PROVIDER) == (exchange.state, exchange.attempts[0].usage.source)
    assert world.provider.bill[-1].completion_tokens == exchange.attempts[0].usage.output_tokens
