"""Owns the proof that nothing of the admin listener is said to whoever has no token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from proxy.server import routes
from proxy.server.admin import Admin
from proxy.snapshot import Limits
from tests.server.rig import code_of, error_body, exchange, status_of

TOKEN = "t" * 40
PAGES = ("/status", "/coverage")


@asynccontextmanager
async def admin(folder: Path, token: str | None = TOKEN) -> AsyncIterator[str]:
    """Serve the admin pages while the context is open; gives the address."""
    path = folder / "token"
    if token is not None:
        path.write_text(f"{token}\n")
    bugs: list[BaseException] = []
    served = Admin(path, lambda: {"revision": "r1"}, error=error_body, on_bug=bugs.append, limits=Limits())
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


async def test_coverage_is_the_table(tmp_path: Path) -> None:
    """GET /coverage gives the matrix that is made from the route table."""
    async with admin(tmp_path) as address:
        reply = await exchange(address, get("/coverage", RIGHT))

    assert routes.coverage() == msgspec.json.decode(reply.partition(b"\r\n\r\n")[2])


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
    ],
)
async def test_there_is_nothing_else(tmp_path: Path, method: str, path: str) -> None:
    """With the token there are two pages to read, and nothing to change."""
    async with admin(tmp_path) as address:
        reply = await exchange(address, get(path, RIGHT, method=method))

    assert (404, "unknown_url") == (status_of(reply), code_of(reply))


async def test_a_new_token_counts_at_once(tmp_path: Path) -> None:
    """After the file is rewritten the old token opens nothing and the new one does."""
    async with admin(tmp_path) as address:
        (tmp_path / "token").write_text("n" * 40)
        old = await exchange(address, get("/status", RIGHT))
        new = await exchange(address, get("/status", b"Bearer " + b"n" * 40))

    assert (401, 200) == (status_of(old), status_of(new))
