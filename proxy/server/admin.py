"""Owns the admin listener: on loopback, and nothing of it is said to whoever has no token.

It is read-only but for what waits for a human: actions to approve or deny, and conversations to give back.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from proxy.errors import BadRequest, HandrailError, NotFound, Unauthenticated
from proxy.ports import Clock, Rulings
from proxy.server import intake
from proxy.server.connection import ErrorBody, Inbound, Room, whole
from proxy.server.listener import Listener
from proxy.snapshot import Limits
from proxy.terms import Head, HeldState, Json

MIN_TOKEN = 32
"""Characters that a token must have; a shorter one opens nothing."""
MAX_BODY_BYTES = 16 * 1024
PAGE_LENGTH = 100
"""Entries of a list where the query names no limit."""

Page: TypeAlias = Callable[[], Json]
Answer: TypeAlias = Callable[[str, str, bytes], Awaitable[object]]
"""Makes the reply from the id in the path, the query and the body, those that there are."""
T = TypeVar("T")

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Note = Annotated[str, msgspec.Meta(max_length=2000)]
_Length = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Conflict(HandrailError):
    """The thing is not, or no longer, in a state in which this can be done to it."""

    status, type, code = 409, "invalid_request_error", "conflict"


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client writes: nothing that is not understood is passed over."""


class _Ruling(_Body, frozen=True, kw_only=True):
    state: Literal["approved", "denied"]
    by: _Name
    note: _Note = ""


class _Closing(_Body, frozen=True, kw_only=True):
    by: _Name


class _Approvals(_Body, frozen=True, kw_only=True):
    state: HeldState | None = None
    limit: _Length = PAGE_LENGTH


class _Escalations(_Body, frozen=True, kw_only=True):
    open: bool = False
    limit: _Length = PAGE_LENGTH


class Admin:
    """Serves its pages to whoever sends the bearer token; the token file is read each time, so a rotated one counts at
    once. Without a desk nothing waits for a human here."""

    def __init__(
        self,
        token_path: Path,
        status: Page,
        coverage: Page,
        *,
        error: ErrorBody,
        on_bug: Callable[[BaseException], None],
        limits: Limits,
        desk: Rulings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._token_path = token_path
        self._error = error
        self._limits = msgspec.structs.replace(limits, max_body_bytes=min(limits.max_body_bytes, MAX_BODY_BYTES))
        self._pages: dict[str, Page] = {"/status": status, "/coverage": coverage}
        self._answers = _Humans(desk, clock).answers() if desk and clock else ()
        self._listener = Listener(self._serve, Room(limits, error, on_bug))

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Return all that can be asked for: methods, and patterns of paths."""
        return [
            *(("GET", re.escape(path)) for path in self._pages),
            *((method, pattern.pattern) for method, pattern, _ in self._answers),
        ]

    async def start(self, listen: str) -> str:
        """Listen on `host:port` or `unix:/path`; return the address, with the port that was given for port 0."""
        return await self._listener.start(listen)

    async def stop(self) -> None:
        """Close the listener and its connections."""
        await self._listener.stop()
        self._listener.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            await self._authenticate(request.headers.getall("authorization", []))
            body = msgspec.json.encode(await self._answer(cast(Inbound, request)))
        except HandrailError as error:
            # What is left of a body that was not read must not be taken for the next request.
            return whole(*self._error(error), close=request.body_exists)
        except ConnectionError:
            return web.Response()  # The client left in the middle of its request: nobody reads this.
        return whole(Head(status=200, headers={"content-type": "application/json"}), body)

    async def _answer(self, request: Inbound) -> object:
        page = self._pages.get(request.raw_path) if request.method == "GET" else None
        if page:
            return page()
        path, _, query = request.raw_path.partition("?")
        for method, pattern, answer in self._answers:
            found = pattern.fullmatch(path)
            if found and method == request.method and (method == "GET" or not query):
                return await answer("".join(found.groups()), query, await self._body(request))
        raise NotFound("There is no such page.", code="unknown_url")

    async def _body(self, request: Inbound) -> bytes:
        headers = intake.fields(request.headers.items())
        intake.check_version(request.sent_version, headers)
        intake.check_body(request.method, headers, request.body_exists)
        return await intake.read_body(request.content, self._limits)

    async def _authenticate(self, sent: list[str]) -> None:
        token = await asyncio.to_thread(_read, self._token_path)
        expected, given = map(_digest, (f"Bearer {token}", "\n".join(sent)))
        if not hmac.compare_digest(expected, given) or len(token) < MIN_TOKEN:
            raise Unauthenticated("The admin listener wants its bearer token.")


class _Humans:
    """What waits for a human, over HTTP."""

    def __init__(self, desk: Rulings, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    def answers(self) -> Sequence[tuple[str, re.Pattern[str], Answer]]:
        """Return what there is to ask for: method, path and who answers."""
        return (
            ("GET", re.compile(r"/approvals"), self._approvals),
            ("POST", re.compile(r"/approvals/([A-Za-z0-9_-]+)"), self._decide),
            ("GET", re.compile(r"/escalations"), self._escalations),
            ("POST", re.compile(r"/escalations/([A-Za-z0-9_-]+)/close"), self._close),
        )

    async def _approvals(self, _: str, query: str, __: bytes) -> object:
        asked = _query(query, _Approvals)
        return await self._desk.held(asked.state, asked.limit)

    async def _decide(self, held_id: str, _: str, body: bytes) -> object:
        ruling = _json(body, _Ruling)
        state = HeldState(ruling.state)
        held = await self._desk.decide(held_id, state, ruling.by, ruling.note, self._clock.wall_ms())
        if held is None:
            raise NotFound("There is no such action; GET /approvals lists those there are.")
        if held.state is not state:
            raise Conflict(f"The action is {held.state} and cannot be {state} any more.")
        return held

    async def _escalations(self, _: str, query: str, __: bytes) -> object:
        asked = _query(query, _Escalations)
        return await self._desk.handoffs(asked.open, asked.limit)

    async def _close(self, handoff_id: str, _: str, body: bytes) -> object:
        handoff = await self._desk.close_handoff(handoff_id, _json(body, _Closing).by, self._clock.wall_ms())
        if handoff is None:
            raise NotFound("There is no such hand-off; GET /escalations lists those there are.")
        return handoff


def _json(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not as it should be: {error}", code="bad_body") from None


def _query(query: str, kind: type[T]) -> T:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8)
        if len(pairs) != len(dict(pairs)):
            raise ValueError("each field may be given only once")
        return msgspec.convert(dict(pairs), kind, strict=False)
    except ValueError as error:  # msgspec's ValidationError is one
        raise BadRequest(f"The query is not as it should be: {error}", code="bad_query") from None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""  # Shorter than any token: whoever cannot be checked is not let in.
