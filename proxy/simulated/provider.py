"""Owns the simulated provider's socket: an OpenAI-compatible server on loopback that keeps its own bill."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from proxy.simulated import directives, model
from proxy.simulated.completion import EPOCH, Completion, error_object, sse
from proxy.simulated.directives import Directives
from proxy.simulated.filling import Tree, trees
from proxy.terms import Json

MARK = {"x-handrail-simulated": "true"}
"""Every reply says what it is."""
MODELS = ("sim-small", "sim-large")
"""Models that are listed; any other name is served as well."""
MAX_BODY = 64 * 1024 * 1024


class Billed(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the provider's own bill, as the books of a proxy in front of it are checked against."""

    id: str
    model: str
    stream: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    """What was generated until the call ended, however it ended."""
    complete: bool
    """Whether all of the reply was handed to the connection."""
    body: bytes
    """The request, as it arrived."""


def _nobody(_: Billed) -> None:
    pass


@contextlib.asynccontextmanager
async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    script: Iterable[Directives] = (),
    bill: Callable[[Billed], None] = _nobody,
) -> AsyncIterator[str]:
    """Serve while the context is open; gives the base URL. `script` has directives for the first calls, in order,
    where the request itself has none."""
    provider = _Provider(script, bill)
    server = web.Server(
        provider.serve, request_factory=_request, handler_cancellation=True, access_log=None, keepalive_timeout=75.0
    )
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop(), client_max_size=MAX_BODY)


class _Refused(Exception):
    """The provider refuses a request."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Provider:
    def __init__(self, script: Iterable[Directives], bill: Callable[[Billed], None]) -> None:
        self._script = iter(script)
        self._bill = bill

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if (request.method, request.path) == ("POST", "/v1/chat/completions"):
                return await self._chat(request)
            if request.method == "GET" and request.path.startswith("/v1/models"):
                return _models(request.path.removeprefix("/v1/models").removeprefix("/"))
            raise _Refused(404, "unknown_url", f"Invalid URL ({request.method} {request.path})")
        except _Refused as refused:
            return _json(refused.status, error_object(refused.status, str(refused), refused.code))

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        body = _decode(raw)
        plan = _plan(body) or next(self._script, Directives())
        await asyncio.sleep(plan.delay_ms / 1000)
        if plan.error:
            return _failure(plan)
        completion = Completion(body, _answer(body, plan), plan)
        reply = self._stream if completion.stream else self._document
        return await reply(request, completion, plan, raw)

    async def _document(
        self, request: web.BaseRequest, completion: Completion, plan: Directives, raw: bytes
    ) -> web.StreamResponse:
        document = completion.document()
        self._bill(_line(completion, completion.completion_tokens, True, raw))
        stop = plan.cut_after if plan.cut_after is not None else plan.stall_after
        if stop is None:
            return _json(200, document, plan.headers)
        headers = {"content-type": "application/json", "content-length": str(len(document)), **MARK, **plan.headers}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(document[:stop])
        await _break_off(request, cut=plan.cut_after is not None)
        return response

    async def _stream(
        self, request: web.BaseRequest, completion: Completion, plan: Directives, raw: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **MARK, **plan.headers})
        generated, complete = plan.reasoning_tokens, False
        try:
            await response.prepare(request)
            for number, event in enumerate(completion.events()):
                if number == plan.error_after:
                    await response.write(
                        sse({"error": {"message": "The server had an error.", "type": "server_error"}})
                    )
                    return response
                if number in (plan.cut_after, plan.stall_after):
                    await _break_off(request, cut=number == plan.cut_after)
                    return response
                if number:
                    await asyncio.sleep(plan.gap_ms / 1000)
                generated += event.tokens
                await response.write(event.frame)
            complete = True
        finally:
            self._bill(_line(completion, generated, complete, raw))
        return response


def _decode(raw: bytes) -> Tree:
    try:
        body: Json = msgspec.json.decode(raw)
    except ValueError:
        raise _Refused(400, "invalid_json", "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise _Refused(400, "missing_model", "you must provide a model parameter")
    if not trees(body.get("messages")):
        raise _Refused(400, "missing_messages", "Missing required parameter: 'messages'.")
    return body


def _plan(body: Tree) -> Directives | None:
    try:
        return directives.asked(body)
    except ValueError as error:
        raise _Refused(400, "bad_directives", f"metadata.{directives.KEY}: {error}") from None


def _answer(body: Tree, plan: Directives) -> model.Answer:
    if plan.tools:
        calls = ((t.name, t.arguments) for t in plan.tools)
        return model.Answer(calls=tuple(model.Call(name=name, arguments=_text(given)) for name, given in calls))
    return model.respond(body) if plan.text is None else model.Answer(text=plan.text)


def _text(arguments: dict[str, object] | str) -> str:
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _failure(plan: Directives) -> web.StreamResponse:
    if plan.error_body is None:
        return _json(plan.error, error_object(plan.error, "This failure was asked for.", "simulated"), plan.headers)
    headers = {"content-type": "text/html", **MARK, **plan.headers}
    return web.Response(status=plan.error, body=plan.error_body.encode(), headers=headers)


def _models(name: str) -> web.Response:
    rows: list[Json] = [{"id": n, "object": "model", "created": EPOCH, "owned_by": "handrail"} for n in MODELS]
    if not name:
        return _json(200, msgspec.json.encode({"object": "list", "data": rows}))
    if name not in MODELS:
        raise _Refused(404, "model_not_found", f"The model '{name}' does not exist")
    return _json(200, msgspec.json.encode(rows[MODELS.index(name)]))


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=body, headers={"content-type": "application/json", **MARK, **(headers or {})}
    )


async def _break_off(request: web.BaseRequest, *, cut: bool) -> None:
    if not cut:
        await asyncio.Event().wait()  # Until the client goes, or the server stops.
    if request.transport:
        request.transport.abort()


def _line(completion: Completion, generated: int, complete: bool, raw: bytes) -> Billed:
    return Billed(
        id=completion.id,
        model=completion.model,
        stream=completion.stream,
        prompt_tokens=completion.prompt_tokens,
        cached_tokens=completion.cached_tokens,
        completion_tokens=generated,
        complete=complete,
        body=raw,
    )
