"""Owns the proof of proxy/stores/redis/link.py: every way in which Redis does not answer is Away, in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.stores.redis.ledger import Ledger
from proxy.stores.redis.link import Away, Link, open_link
from proxy.terms import Totals
from tests.redis_servers import RedisServer, whichever
from tests.stores.samples import DAY, limit

WAIT_S = 60.0


async def call(server: RedisServer, *arguments: str | int) -> object:
    """Do something to a server while the loop goes on."""
    return await asyncio.to_thread(server.command, *arguments)


@asynccontextmanager
async def joined(server: RedisServer, timeout_s: float = WAIT_S) -> AsyncIterator[tuple[Link, Ledger]]:
    """Take part in a ledger; that the link ends is what a test may be about."""
    try:
        async with open_link(server.url, "", timeout_s) as link:
            ledger = Ledger(link, "test", "a", 60_000)
            await ledger.enter(0)
            yield link, ledger
    except Away:
        pass


async def test_a_forgotten_script_is_told_again(server: RedisServer) -> None:
    """Redis may forget scripts at any time: calls that were on their way are held all the same, in their order."""
    async with joined(server) as (_, ledger):
        await ledger.restate({}, {})
        before = await ledger.totals([DAY])
        await call(server, "SCRIPT", "FLUSH")
        outcomes = await asyncio.gather(*(ledger.reserve(f"h{n}", 10, [limit(DAY, 10**6)], 0) for n in range(5)))
        after = await ledger.totals([DAY])
        await ledger.restate({}, {})

        assert [(None, {DAY: 0})] * 5 == outcomes
        assert 50 == after[0].reserved_nanousd - before[0].reserved_nanousd


async def test_a_server_that_throws_keys_away_is_no_ledger(own_server: RedisServer) -> None:
    """What was spent under a limit would be gone with its counter, and nobody would notice: that is said instead."""
    for setting, value in (("maxmemory", "1gb"), ("maxmemory-policy", "volatile-lru")):
        await call(own_server, "CONFIG", "SET", setting, value)

    with pytest.raises(Away, match="set `maxmemory-policy noeviction` there"):
        async with open_link(own_server.url, "", WAIT_S) as link:
            await link.run_id()


async def test_replies_come_in_their_order(server: RedisServer) -> None:
    """Many commands are on their way at once, and each caller gets its own reply; one who left gets none."""
    async with joined(server) as (link, _):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(link.command("ECHO", str(number))) for number in range(100)]
            await asyncio.sleep(0)
            tasks[50].cancel()

        assert [str(n).encode() for n in range(100) if n != 50] == [t.result() for t in tasks if not t.cancelled()]


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        pytest.param("REPLICAOF", "127.0.0.1 1", "READONLY|read only", id="a replica"),
        pytest.param("CONFIG", "SET maxmemory 1", "OOM|maxmemory", id="out of memory"),
    ],
)
async def test_a_server_that_does_not_write_is_away(
    own_server: RedisServer, setting: str, value: str, reason: str
) -> None:
    """An error reply says why; nothing is taken to be held."""
    async with joined(own_server) as (_, ledger):
        await call(own_server, setting, *value.split())
        with pytest.raises(Away, match=reason):
            await ledger.reserve("h1", 10, [limit(DAY)], 0)


async def test_a_frozen_server_is_away_in_time(own_server: RedisServer) -> None:
    """Who waits is told within the time of one command, all who wait at once, and later ones without waiting."""
    async with joined(own_server, 0.05) as (_, ledger):
        own_server.freeze()
        calls = [ledger.reserve(f"h{n}", 10, [limit(DAY)], 0) for n in range(3)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(Away, match="no reply within 50 ms"):
            await ledger.totals([DAY])

        assert [Away] * 3 == [type(outcome) for outcome in outcomes]


async def test_a_reply_that_comes_too_late_ends_the_body(own_server: RedisServer) -> None:
    """It is nobody's any more: the link ends as lost, not with a fault of its own."""

    async def late() -> None:
        async with open_link(own_server.url, "", 0.05) as link:
            own_server.freeze()
            with pytest.raises(Away):
                await link.command("ECHO", "late")
            own_server.thaw()
            await asyncio.sleep(WAIT_S)

    with pytest.raises(Away, match="no reply within 50 ms"):
        await late()


async def test_the_end_of_a_server_ends_the_body(own_server: RedisServer) -> None:
    """A link that nobody uses notices as well."""

    async def idle() -> None:
        async with open_link(own_server.url, "", WAIT_S):
            own_server.kill()
            await asyncio.sleep(WAIT_S)

    with pytest.raises(Away):
        await idle()


async def test_no_server_is_away(own_server: RedisServer) -> None:
    """Who cannot connect is told why."""
    own_server.kill()

    with pytest.raises(Away, match="cannot connect: "):
        async with open_link(own_server.url, "", WAIT_S):
            raise AssertionError("there is nobody")


async def test_a_frozen_server_cannot_be_joined(own_server: RedisServer) -> None:
    """A server that accepts and then says nothing is given up."""
    own_server.freeze()
    began = time.monotonic()

    with pytest.raises(Away):
        async with open_link(own_server.url.replace("//", "//user@"), "secret", 0.05):
            raise AssertionError("nobody answered")
    assert WAIT_S > time.monotonic() - began


async def test_a_password_is_needed(tmp_path: Path) -> None:
    """The password of the settings is the one that is sent, and a wrong one is not repeated in the error."""
    with RedisServer(whichever(), tmp_path, password="right") as server:
        with pytest.raises(Away, match=r"(?i)password") as refused:
            async with open_link(server.url, "wrong", WAIT_S) as link:
                await link.run_id()
        async with open_link(server.url, "right", WAIT_S) as link:
            assert 40 == len(await link.run_id())

    assert "wrong" not in str(refused.value)


async def test_a_cluster_says_where_the_ledger_is(tmp_path: Path) -> None:
    """A node that does not have the ledger's slot names the one that has, and there it is found."""
    program = whichever()
    with (
        RedisServer(program, tmp_path / "one", "--cluster-enabled", "yes") as one,
        RedisServer(program, tmp_path / "two", "--cluster-enabled", "yes") as two,
    ):
        await call(two, "CLUSTER", "ADDSLOTS", *range(16384))
        await call(two, "CLUSTER", "MEET", "127.0.0.1", one.port)
        async with asyncio.timeout(WAIT_S):
            for node in (one, two):
                while "cluster_state:ok" not in str(await call(node, "CLUSTER", "INFO")):  # noqa: ASYNC110 - theirs to say
                    await asyncio.sleep(0.05)
        with pytest.raises(Away, match="has moved") as moved:
            async with open_link(one.url, "", WAIT_S) as link:
                await Ledger(link, "test", "a", 60_000).enter(0)
        async with open_link(one.url, "", WAIT_S, moved.value.moved) as link:
            ledger = Ledger(link, "test", "a", 60_000)
            await ledger.enter(0)

            assert f"127.0.0.1:{two.port}" == moved.value.moved
            assert [Totals()] == await ledger.totals([DAY])
