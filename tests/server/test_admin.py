"""Owns the proof that nothing of the admin listener is said to whoever has no token, and that humans decide there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest
from msgspec.structs import replace

from proxy.server.admin import MAX_BODY_BYTES, Admin
from proxy.snapshot import Limits
from proxy.terms import Handoff, Held, HeldState
from tests.desks import CLOCK, HELD, HumansDesk
from tests.server.rig import code_of, connect, error_body, exchange, status_of

TOKEN = "t" * 40
PAGES = ("/status", "/coverage", "/approvals", "/escalations")


@asynccontextmanager
async def admin(folder: Path, token: str | None = TOKEN, *, desk: HumansDesk | None = None) -> AsyncIterator[str]:
    """Serve the admin pages while the context is open; gives the address."""
    path = folder / "token"
    if token is not None:
        path.write_text(f"{token}\n")
    bugs: list[BaseException] = []
    served = Admin(
        path,
        lambda: {"revision": "r1"},
        lambda: {"guards": []},
        error=error_body,
        on_bug=bugs.append,
        limits=Limits(),
        desk=desk,
        clock=CLOCK,
    )
    address = await served.start("127.0.0.1:0")
    try:
        yield address
    finally:
        await served.stop()
    assert [] == bugs


def get(path: str, *authorization: bytes, method: str = "GET") -> bytes:
    """Build a request."""
    fields = b"".join(b"Authorization: " + value + b"\r\n" for value in authorization)
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n".encode() + fields + b"\r\n"


RIGHT = f"Bearer {TOKEN}".encode()


@pytest.mark.parametrize("path", [*PAGES, "/nothing", "/"])
@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param((), id="none"),
        pytest.param((b"Bearer wrong",), id="wrong"),
        pytest.param((RIGHT[:-1],), id="nearly"),
        pytest.param((RIGHT + b"t",), id="more"),
        pytest.param((RIGHT.replace(b"Bearer", b"Basic"),), id="another scheme"),
        pytest.param((TOKEN.encode(),), id="no scheme"),
        pytest.param((RIGHT, RIGHT), id="twice"),
        pytest.param((b"Bearer \xff",), id="not UTF-8"),
    ],
)
async def test_every_page_wants_the_token(tmp_path: Path, path: str, authorization: tuple[bytes, ...]) -> None:
    """Without the token every path answers alike, whether there is a page or not."""
    async with admin(tmp_path) as address:
        reply = await exchange(address, get(path, *authorization))

    assert (401, "invalid_api_key") == (status_of(reply), code_of(reply))


@pytest.mark.parametrize(
    ("token", "sent"),
    [
        pytest.param(None, b"Bearer ", id="no file"),
        pytest.param("", b"Bearer ", id="empty file"),
        pytest.param("short", b"Bearer short", id="too short"),
    ],
)
async def test_a_token_that_is_none_opens_nothing(tmp_path: Path, token: str | None, sent: bytes) -> None:
    """A missing, empty or guessable token shuts the listener instead of opening it."""
    async with admin(tmp_path, token) as address:
        reply = await exchange(address, get("/status", sent))

    assert 401 == status_of(reply)


async def test_status_is_what_the_house_says(tmp_path: Path) -> None:
    """GET /status gives the status as JSON."""
    async with admin(tmp_path) as address:
        reply = await exchange(address, get("/status", RIGHT))

    assert (200, {"revision": "r1"}) == (status_of(reply), msgspec.json.decode(reply.partition(b"\r\n\r\n")[2]))


async def test_coverage_is_what_the_house_says(tmp_path: Path) -> None:
    """GET /coverage gives as JSON what is looked at."""
    async with admin(tmp_path) as address:
        reply = await exchange(address, get("/coverage", RIGHT))

    assert {"guards": []} == msgspec.json.decode(reply.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/nothing", id="no page"),
        pytest.param("GET", "/status/", id="slash"),
        pytest.param("GET", "/status?x", id="query"),
        pytest.param("GET", "/%73tatus", id="encoded"),
        pytest.param("POST", "/status", id="POST"),
        pytest.param("DELETE", "/coverage", id="DELETE"),
        pytest.param("GET", "/v1/models", id="data plane"),
        pytest.param("GET", "/metrics", id="metrics"),
        pytest.param("OPTIONS", "*", id="asterisk"),
        pytest.param("POST", "/approvals", id="POST to a list"),
        pytest.param("GET", "/approvals/ap_1", id="GET one"),
        pytest.param("GET", "/approvals/", id="list with slash"),
        pytest.param("POST", "/approvals/ap_1?x=1", id="POST with query"),
        pytest.param("POST", "/approvals/ap%5F1", id="encoded id"),
        pytest.param("POST", "/escalations/ho_1", id="no verb"),
        pytest.param("POST", "/escalations/ho_1/open", id="another verb"),
    ],
)
async def test_there_is_nothing_else(tmp_path: Path, method: str, path: str) -> None:
    """With the token there are the pages that are named, by the method and spelling that they have."""
    async with admin(tmp_path, desk=HumansDesk()) as address:
        reply = await exchange(address, get(path, RIGHT, method=method))

    assert (404, "unknown_url") == (status_of(reply), code_of(reply))


async def test_a_new_token_counts_at_once(tmp_path: Path) -> None:
    """After the file is rewritten the old token opens nothing and the new one does."""
    async with admin(tmp_path) as address:
        (tmp_path / "token").write_text("n" * 40)
        old = await exchange(address, get("/status", RIGHT))
        new = await exchange(address, get("/status", b"Bearer " + b"n" * 40))

    assert (401, 200) == (status_of(old), status_of(new))


# --- humans ---------------------------------------------------------------------------------------------------------


def post(path: str, body: bytes, content_type: bytes = b"application/json") -> bytes:
    """Build a request with a body."""
    head = get(path, RIGHT, method="POST").removesuffix(b"\r\n")
    return head + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (content_type, len(body)) + body


async def asked(folder: Path, request: bytes, desk: HumansDesk | None = None) -> tuple[int, object]:
    """Return the status and the JSON that a request gets, or the code of its error."""
    async with admin(folder, desk=desk or HumansDesk()) as address:
        reply = await exchange(address, request)
    status = status_of(reply)
    return status, msgspec.json.decode(reply.partition(b"\r\n\r\n")[2]) if status == 200 else code_of(reply)


def ids(listed: object) -> list[str]:
    """Return the ids of a list."""
    return [entry["id"] for entry in cast(list[dict[str, str]], listed)]


@pytest.mark.parametrize(
    ("path", "expected", "limit"),
    [
        pytest.param("/approvals", ["ap_2", "ap_1"], 100, id="actions"),
        pytest.param("/approvals?state=pending", ["ap_1"], 100, id="pending actions"),
        pytest.param("/approvals?state=denied&limit=7", [], 7, id="denied actions"),
        pytest.param("/escalations", ["ho_1", "ho_0"], 100, id="packets"),
        pytest.param("/escalations?open=true", ["ho_1"], 100, id="open packets"),
        pytest.param("/escalations?open=false&limit=1000", ["ho_1", "ho_0"], 1000, id="all packets"),
    ],
)
async def test_what_waits_is_listed(tmp_path: Path, path: str, expected: list[str], limit: int) -> None:
    """The lists are what the desk has, in the state and up to the number that was asked for."""
    desk = HumansDesk()

    status, listed = await asked(tmp_path, get(path, RIGHT), desk)

    assert (200, expected, [limit]) == (status, ids(listed), desk.limits)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/approvals?state=lost", id="no state"),
        pytest.param("/approvals?state=", id="empty state"),
        pytest.param("/approvals?state", id="no value"),
        pytest.param("/approvals?stat=pending", id="unknown field"),
        pytest.param("/approvals?state=pending&state=used", id="twice"),
        pytest.param("/approvals?limit=0", id="nothing"),
        pytest.param("/approvals?limit=1001", id="too much"),
        pytest.param("/escalations?open=maybe", id="maybe"),
        pytest.param("/escalations?" + "&".join(f"a{n}=1" for n in range(99)), id="many fields"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(tmp_path: Path, path: str) -> None:
    """A list is never longer or other than whoever asked believes."""
    assert (400, "bad_query") == await asked(tmp_path, get(path, RIGHT))


@pytest.mark.parametrize("state", ["approved", "denied"])
async def test_a_pending_action_is_decided(tmp_path: Path, state: str) -> None:
    """The decision, who made it, why and when are written, and returned."""
    desk = HumansDesk()
    body = msgspec.json.encode({"state": state, "by": "Bö", "note": "fine"})

    status, held = await asked(tmp_path, post("/approvals/ap_1", body), desk)

    decided = replace(HELD, state=HeldState(state), decided_by="Bö", note="fine", decided_ms=CLOCK.at_ms)
    assert (200, decided) == (status, msgspec.convert(held, Held))
    assert decided in desk.actions


@pytest.mark.parametrize(
    ("was", "asked_for", "expected"),
    [
        pytest.param(HeldState.APPROVED, "approved", 200, id="approved again"),
        pytest.param(HeldState.DENIED, "denied", 200, id="denied again"),
        pytest.param(HeldState.APPROVED, "denied", 409, id="approved, then denied"),
        pytest.param(HeldState.DENIED, "approved", 409, id="denied, then approved"),
        pytest.param(HeldState.USED, "approved", 409, id="used"),
        pytest.param(HeldState.EXPIRED, "approved", 409, id="expired"),
    ],
)
async def test_what_is_decided_stays(tmp_path: Path, was: HeldState, asked_for: str, expected: int) -> None:
    """Saying the same again is no error; anything else about what is not pending is a conflict, and changes nothing."""
    desk = HumansDesk()
    desk.actions = [replace(HELD, state=was, decided_by="bo")]
    body = msgspec.json.encode({"state": asked_for, "by": "al"})

    status, _ = await asked(tmp_path, post("/approvals/ap_1", body), desk)

    assert (expected, [replace(HELD, state=was, decided_by="bo")]) == (status, desk.actions)


@pytest.mark.parametrize(
    ("packet", "by"), [pytest.param("ho_1", "al", id="open"), pytest.param("ho_0", "bo", id="closed already")]
)
async def test_a_conversation_is_given_back(tmp_path: Path, packet: str, by: str) -> None:
    """The closed packet is returned; one that was closed already stays as it was."""
    status, closed = await asked(tmp_path, post(f"/escalations/{packet}/close", b'{"by":"al"}'))

    assert (200, by) == (status, msgspec.convert(closed, Handoff).closed_by)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/approvals/ap_9", b'{"state":"denied","by":"al"}', id="action"),
        pytest.param("/escalations/ho_9/close", b'{"by":"al"}', id="packet"),
    ],
)
async def test_what_is_not_there_is_not_found(tmp_path: Path, path: str, body: bytes) -> None:
    """An id that nobody knows is 404."""
    assert (404, "not_found") == await asked(tmp_path, post(path, body))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"", 400, "bad_body", id="empty"),
        pytest.param(b"{", 400, "bad_body", id="no JSON"),
        pytest.param(b"[" * 9000, 400, "bad_body", id="nested"),
        pytest.param(b'{"state":"approved","by":"\xff"}', 400, "bad_body", id="not UTF-8"),
        pytest.param(b'{"state":"approved"}', 400, "bad_body", id="by nobody"),
        pytest.param(b'{"state":"approved","by":""}', 400, "bad_body", id="by nothing"),
        pytest.param(b'{"state":"approved","by":"a\\nb"}', 400, "bad_body", id="by two lines"),
        pytest.param(b'{"state":"used","by":"al"}', 400, "bad_body", id="no decision"),
        pytest.param(b'{"state":"approved","by":"al","x":1}', 400, "bad_body", id="unknown field"),
        pytest.param(b'{"state":"approved","by":"%s"}' % (b"x" * 201), 400, "bad_body", id="long name"),
        pytest.param(b'{"state":"approved","by":"al","note":"%s"}' % (b"x" * 2001), 400, "bad_body", id="long note"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), 413, "request_too_large", id="too large"),
    ],
)
async def test_a_body_that_is_not_understood_decides_nothing(
    tmp_path: Path, body: bytes, status: int, code: str
) -> None:
    """Bodies are bounded JSON without surprises, or nothing happens."""
    desk = HumansDesk()

    assert (status, code) == await asked(tmp_path, post("/approvals/ap_1", body), desk)
    assert HELD in desk.actions


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        pytest.param(post("/approvals/ap_1", b"{}", b"text/plain"), 415, "content_type", id="form of a web page"),
        pytest.param(post("/approvals", b"{}").replace(b"POST", b"GET"), 400, "unexpected_body", id="GET with a body"),
        pytest.param(
            get("/approvals/ap_1", RIGHT, method="POST")[:-2]
            + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            400, "bad_http", id="broken body",
        ),
    ],
)  # fmt: skip
async def test_a_request_of_another_kind_is_refused(
    tmp_path: Path, request_bytes: bytes, status: int, code: str
) -> None:
    """Requests are read as strictly as those of agents."""
    assert (status, code) == await asked(tmp_path, request_bytes)


async def test_without_a_desk_nothing_waits(tmp_path: Path) -> None:
    """A listener that was given no desk has no such pages."""
    async with admin(tmp_path) as address:
        reply = await exchange(address, get("/approvals", RIGHT))

    assert (404, "unknown_url") == (status_of(reply), code_of(reply))


async def test_a_client_that_leaves_in_the_middle_decides_nothing(tmp_path: Path) -> None:
    """Half a body is no decision, and no bug either: the listener goes on."""
    desk = HumansDesk()
    whole = post("/approvals/ap_1", b'{"state":"approved","by":"al"}')
    async with admin(tmp_path, desk=desk) as address:
        _, writer = await connect(address)
        writer.write(whole[:-1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        reply = await exchange(address, get("/status", RIGHT))

    assert (200, HELD) == (status_of(reply), desk.actions[1])


def test_it_tells_its_routes(tmp_path: Path) -> None:
    """What checks every route learns them here; without a desk nothing waits for a human."""
    bare, whole = (
        Admin(
            tmp_path, dict, dict, error=error_body, on_bug=print, limits=Limits(), desk=desk, clock=CLOCK
        ).routes for desk in (None, HumansDesk())
    )  # fmt: skip

    assert [("GET", "/status"), ("GET", "/coverage")] == bare
    assert [("GET", "/approvals"), ("POST", "/approvals/([A-Za-z0-9_-]+)")] == whole[2:4]
