"""Owns one connection to Redis: commands go out at once and replies come back in their order, each within its time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError

from proxy.stores.redis.eviction import EVICTS, evicts

_SCRIPT = (files(__package__) / "ledger.lua").read_bytes()
_DIGEST = sha1(_SCRIPT, usedforsecurity=False).hexdigest()
"""What Redis calls the script; it may forget it at any time, and is told it again."""

_CONNECT_S = 1.0
"""How long connecting may take: nobody waits for it."""


class Away(Exception):
    """Redis cannot be asked, or does not do what it is asked; `str()` of it says why, and `moved` where to ask."""

    moved: str = ""


class Link:
    """One connection; made by `open_link`. Whatever fails ends it: only a new one knows where things stand."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._lost: Away | None = None

    async def script(self, ledger: str, *arguments: str | int) -> Any:
        """Run the script; raise Away when there is no reply in time, or an error."""
        try:
            return await self.command("EVALSHA", _DIGEST, 1, ledger, *arguments)
        except NoScriptError:
            pass
        except ResponseError as error:
            raise _refused(error) from error
        # Nothing was run. This tells Redis the script again and runs it; numbers tell whether writes kept their order.
        try:
            return await self.command("EVAL", _SCRIPT, 1, ledger, *arguments)
        except ResponseError as error:
            raise _refused(error) from error

    async def run_id(self) -> str:
        """Tell Redis the script, and return by what name it runs: another one after each start, and of each replica.
        Raise Away from one that may forget single keys by itself: nobody would notice what is missing."""
        try:
            await self.command("SCRIPT", "LOAD", _SCRIPT)
            told: bytes = await self.command("INFO", "server")
            memory: bytes = await self.command("INFO", "memory")
        except ResponseError as error:
            raise _refused(error) from error
        if evicts(memory):
            raise Away(EVICTS)
        return told.partition(b"run_id:")[2].split(maxsplit=1)[0].decode()

    async def command(self, *arguments: str | int | bytes) -> Any:
        """Send a command and return its reply; raise ResponseError for an error reply, Away when there is none."""
        if self._lost:
            raise self._lost
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        try:
            async with asyncio.timeout(self._timeout_s):
                packed = self._connection.pack_command(*arguments)
                await self._connection.send_packed_command(packed, check_health=False)
                return await reply
        except TimeoutError:
            raise self._lose(f"no reply within {self._timeout_s * 1000:.0f} ms") from None
        except (OSError, RedisError) as error:
            if isinstance(error, ResponseError):
                raise
            raise self._lose(str(error)) from error

    async def read(self) -> None:
        """Hand out replies until the connection ends; raise Away then."""
        while True:
            reply: Any
            try:
                reply = await self._connection.read_response(disconnect_on_error=False)
            except ResponseError as error:
                reply = error
            except (OSError, RedisError) as error:
                raise self._lose(str(error)) from error
            if self._lost:
                # It comes too late: whoever waited has been told that there is none.
                raise self._lost
            waiter = self._waiting.popleft()
            if waiter.done():
                continue
            if isinstance(reply, Exception):
                waiter.set_exception(reply)
            else:
                waiter.set_result(reply)

    def close(self) -> None:
        """Fail whoever waits for a reply."""
        self._lose("the connection was closed")

    def _lose(self, why: str) -> Away:
        self._lost = self._lost or Away(why)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(self._lost)
                waiter.exception()
        return self._lost


@asynccontextmanager
async def open_link(url: str, password: str, timeout_s: float, moved: str = "") -> AsyncIterator[Link]:
    """Yield a connection; raise Away, also in the midst of the body, when there is none or when it ends."""
    connection = _connection(url, password, moved)
    try:
        async with asyncio.timeout(_CONNECT_S):
            await connection.connect()  # type: ignore[no-untyped-call]  # the library types most, not this
    except (OSError, RedisError) as error:  # TimeoutError is an OSError
        await connection.disconnect(nowait=True)
        raise Away(f"cannot connect: {str(error) or 'no reply'}") from error
    link = Link(connection, timeout_s)
    try:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(link.read())
            yield link
            reading.cancel()
    except ExceptionGroup as group:
        aways, others = group.split(Away)
        if others or not aways:
            raise
        raise first_of(aways) from None
    finally:
        link.close()
        await connection.disconnect(nowait=True)


def _connection(url: str, password: str, moved: str) -> Connection:
    options: dict[str, Any] = {**parse_url(url)}
    if password:
        options["password"] = password
    if moved:
        host, _, port = moved.rpartition(":")
        options.update(host=host, port=int(port))
    kind: type[Connection] = options.pop("connection_class", Connection)
    # Time limits are this module's own: those of the connection would end a read that only waits for something to do.
    return kind(**options, protocol=2, driver_info=None, socket_timeout=None, socket_connect_timeout=_CONNECT_S)


def first_of(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first error of a group of groups."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def _refused(error: ResponseError) -> Away:
    if not isinstance(error, MovedError):
        return Away(str(error))
    moved = Away(f"the ledger has moved to {error.node_addr[0]}:{error.node_addr[1]}")
    moved.moved = f"{error.node_addr[0]}:{error.node_addr[1]}"
    return moved
