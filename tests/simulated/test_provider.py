"""Owns the proof that the simulated provider is what a real client takes for one, and keeps a true bill."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from proxy import simulated
from proxy.simulated import Billed, Directives, ToolDirective

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "issue_refund",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "amount": {"type": "number"}},
                "required": ["order_id", "amount"],
            },
        },
    }
]
HELLO: Any = [{"role": "user", "content": "Hello"}]
REFUND: Any = [{"role": "user", "content": "Refund $12.50 for A1001"}]


class Desk:
    """A client of the simulated provider, and the provider's bill."""

    def __init__(self, url: str, bill: list[Billed]) -> None:
        self.url = url
        self.bill = bill
        self.client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        self.create: Any = self.client.chat.completions.create

    async def read(self, **fields: Any) -> None:
        """Say hello, and read the reply to its end."""
        reply = await self.create(model="m", messages=HELLO, **fields)
        if fields["stream"]:
            [event async for event in reply]


@asynccontextmanager
async def desk(*script: Directives) -> AsyncIterator[Desk]:
    """Serve the simulated provider while the context is open."""
    bill: list[Billed] = []
    async with simulated.serve(script=script, bill=bill.append) as url:
        one = Desk(url, bill)
        async with one.client:
            yield one


def plan(**directives: Any) -> dict[str, str]:
    """Build the metadata of a request with directives."""
    return {"simulate": json.dumps(directives)}


async def test_the_sdk_gets_an_answer() -> None:
    """The openai SDK reads a reply, its usage and the mark that it is simulated; the bill says the same."""
    async with desk() as d:
        raw = await d.client.chat.completions.with_raw_response.create(model="sim-small", messages=HELLO)
        reply = raw.parse()

    assert ("Hello! How can I help you today?", "true") == (
        reply.choices[0].message.content,
        raw.headers["x-handrail-simulated"],
    )
    [line] = d.bill
    assert reply.usage
    assert (reply.id, reply.usage.prompt_tokens, reply.usage.completion_tokens, True) == (
        line.id,
        line.prompt_tokens,
        line.completion_tokens,
        line.complete,
    )


async def test_the_sdk_streams() -> None:
    """The openai SDK puts a stream together, usage last; the bill has every token."""
    async with desk() as d:
        stream = await d.create(model="m", messages=HELLO, stream=True, stream_options={"include_usage": True})
        events = [event async for event in stream]

    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert ("Hello! How can I help you today?", 9) == (text, events[-1].usage.completion_tokens)
    assert [(9, True)] == [(line.completion_tokens, line.complete) for line in d.bill]


async def test_the_sdk_gets_tool_calls() -> None:
    """Tools are called in both shapes of a reply, with the same arguments."""
    async with desk() as d:
        whole = await d.create(model="m", messages=REFUND, tools=TOOLS)
        stream = d.client.chat.completions.stream(model="m", messages=REFUND, tools=TOOLS)
        async with stream as events:
            streamed = await events.get_final_completion()

    both: Any = (whole, streamed)
    [call], [again] = (reply.choices[0].message.tool_calls for reply in both)
    assert ("issue_refund", {"order_id": "A1001", "amount": 12.5}) == (
        call.function.name,
        json.loads(call.function.arguments),
    )
    assert (call.function.name, call.function.arguments) == (again.function.name, again.function.arguments)


async def test_the_sdk_lists_models() -> None:
    """There is a model list, and each model of it can be asked for."""
    async with desk() as d:
        names = [model.id async for model in d.client.models.list()]
        one = await d.client.models.retrieve(names[0])
        with pytest.raises(openai.NotFoundError):
            await d.client.models.retrieve("other")

    assert (["sim-small", "sim-large"], "sim-small") == (names, one.id)


async def test_what_is_said_and_called_can_be_told() -> None:
    """Directives give the text, or the tool calls, and the finish reason."""
    async with desk() as d:
        said = await d.create(model="m", messages=HELLO, metadata=plan(text="No.", finish="content_filter"))
        called = await d.create(
            model="m", messages=HELLO, metadata=plan(tools=[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}])
        )

    assert ("No.", "content_filter") == (said.choices[0].message.content, said.choices[0].finish_reason)
    assert [("f", '{"a":1}'), ("g", "{}")] == [
        (call.function.name, call.function.arguments) for call in called.choices[0].message.tool_calls
    ]


async def test_a_script_holds_for_the_first_calls() -> None:
    """Scripted directives are used up in order, and give way to those of a request."""
    script = (Directives(text="one"), Directives(tools=(ToolDirective(name="f", arguments="{broken"),)))
    async with desk(*script) as d:
        first = await d.create(model="m", messages=HELLO)
        own = await d.create(model="m", messages=HELLO, metadata=plan(text="own"))
        second = await d.create(model="m", messages=HELLO)
        after = await d.create(model="m", messages=HELLO)

    texts = [reply.choices[0].message.content for reply in (first, own, after)]
    assert ["one", "own", "Hello! How can I help you today?"] == texts
    assert "{broken" == second.choices[0].message.tool_calls[0].function.arguments


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(401, openai.AuthenticationError, id="401"),
        pytest.param(429, openai.RateLimitError, id="429"),
        pytest.param(500, openai.InternalServerError, id="500"),
    ],
)
async def test_the_sdk_knows_its_failures(status: int, error: type[openai.APIStatusError]) -> None:
    """A failure that was asked for is the SDK's documented exception, with its headers, and is not billed."""
    async with desk() as d:
        with pytest.raises(error) as raised:
            await d.create(model="m", messages=HELLO, metadata=plan(error=status, headers={"retry-after": "2"}))

    headers = raised.value.response.headers
    assert ("2", "true", []) == (headers["retry-after"], headers["x-handrail-simulated"], d.bill)


async def test_a_failure_may_be_anything() -> None:
    """Providers also fail with HTML."""
    async with desk() as d:
        with pytest.raises(openai.InternalServerError) as raised:
            await d.create(model="m", messages=HELLO, metadata=plan(error=502, error_body="<html>"))

    assert ("<html>", "text/html") == (raised.value.response.text, raised.value.response.headers["content-type"])


@pytest.mark.parametrize(
    ("stream", "directives", "error"),
    [
        pytest.param(False, {"cut_after": 10}, openai.APIConnectionError, id="whole, cut"),
        pytest.param(True, {"cut_after": 3}, Exception, id="stream, cut"),
        pytest.param(True, {"error_after": 3}, openai.APIError, id="stream, error event"),
    ],
)
async def test_a_reply_may_break_off(stream: bool, directives: dict[str, int], error: type[Exception]) -> None:
    """A reply that breaks off is an exception of the SDK; what was generated until then is billed."""
    async with desk() as d:
        with pytest.raises(error):
            await d.read(stream=stream, metadata=plan(**directives))

    assert [2 if stream else 9] == [line.completion_tokens for line in d.bill]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_may_stall(stream: bool) -> None:
    """A reply that stalls stays open until the client gives up."""
    async with desk() as d:
        with pytest.raises((openai.APITimeoutError, httpx2.ReadTimeout)):
            await d.read(stream=stream, metadata=plan(stall_after=2), timeout=1.0)

    assert [stream] == [line.stream for line in d.bill]


async def test_events_may_be_spaced_and_the_end_withheld() -> None:
    """A stream may come slowly, and without its end marker."""
    async with desk() as d, aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": HELLO, "stream": True, "metadata": plan(gap_ms=1, delay_ms=1, no_done=True)}
        async with session.post(f"{d.url}/chat/completions", json=body) as reply:
            text = await reply.text()

    assert (True, False) == ("finish_reason" in text, "[DONE]" in text)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        pytest.param("POST", "chat/completions", "{", 400, "invalid_json", id="no JSON"),
        pytest.param("POST", "chat/completions", "[]", 400, "missing_model", id="no object"),
        pytest.param("POST", "chat/completions", "{}", 400, "missing_model", id="no model"),
        pytest.param("POST", "chat/completions", '{"model":"m"}', 400, "missing_messages", id="no messages"),
        pytest.param(
            "POST", "chat/completions", '{"model":"m","messages":[{}],"metadata":{"simulate":"{"}}', 400,
            "bad_directives", id="no directives",
        ),
        pytest.param("POST", "embeddings", "{}", 404, "unknown_url", id="not served"),
        pytest.param("GET", "chat/completions", None, 404, "unknown_url", id="GET"),
    ],
)  # fmt: skip
async def test_what_it_does_not_serve(method: str, path: str, body: str | None, status: int, code: str) -> None:
    """Anything else is an error object, marked like every reply."""
    async with desk() as d, aiohttp.ClientSession(d.url + "/") as session:
        reply = await session.request(method, path, data=body)
        error = (await reply.json())["error"]

    assert (status, code, "true") == (reply.status, error["code"], reply.headers["x-handrail-simulated"])


async def test_large_requests_are_taken() -> None:
    """A long conversation is no failure of the provider's server."""
    async with desk() as d:
        await d.create(model="m", messages=[{"role": "user", "content": "Hello " + "word " * 500_000}])

    assert d.bill[0].prompt_tokens > 500_000
