"""Owns the proof that no test can leave this machine or block the loop unnoticed."""

import asyncio
import socket
from collections.abc import Callable
from types import CodeType

import pytest
from blockbuster import BlockingError

import proxy
from tests.conftest import Perimeter, is_local

# By its file name a line of ours, to the watcher of the loop; no file of ours, to the coverage gate.
SLEEP: CodeType = compile("import time; time.sleep(0)", f"{proxy.__path__[0]}-asleep.py", "exec")


def connect_far() -> None:
    with socket.socket() as far:
        far.connect(("203.0.113.9", 9))


def bind_everywhere() -> None:
    with socket.socket() as door:
        door.bind(("", 0))


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(connect_far, id="connect"),
        pytest.param(bind_everywhere, id="bind every interface"),
        pytest.param(lambda: socket.getaddrinfo("example.com", 443), id="resolve"),
    ],
)
def test_leaving_is_refused_and_remembered(leave: Callable[[], object], stays_on_this_machine: Perimeter) -> None:
    """Code that swallows the refusal as a network error still fails its test."""
    with pytest.raises(OSError, match="tests stay on this machine"):
        leave()

    assert 1 == len(stays_on_this_machine.refused)
    stays_on_this_machine.refused.clear()


def test_a_name_that_cannot_exist_is_unknown(stays_on_this_machine: Perimeter) -> None:
    """A test may ask for a host under .invalid, and gets the resolver's answer without a resolver."""
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("provider.invalid", 443)

    assert [] == stays_on_this_machine.refused


def test_loopback_is_open() -> None:
    """A server on a free port of 127.0.0.1 is reached."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::1%lo", True),
        ("0.0.0.0", False),  # noqa: S104 - a name to judge
        ("localhost.example.com", False),
        ("169.254.169.254", False),
    ],
)
def test_local_means_loopback(name: str, expected: bool) -> None:
    """Only the loopback addresses and their one name are local."""
    assert expected == is_local(name)


async def test_our_code_may_not_block_the_loop() -> None:
    """A blocking call made from proxy/ on the loop of an async test raises where it is made."""
    with pytest.raises(BlockingError):
        exec(SLEEP)  # noqa: S102 - stands for a line of ours


async def test_off_the_loop_our_code_may_block() -> None:
    """The same call is fine in a worker thread."""
    seen: dict[str, object] = {}

    await asyncio.to_thread(exec, SLEEP, seen)

    assert "time" in seen


@pytest.mark.may_block(reason="proves the opt-out itself")
async def test_the_opt_out_holds() -> None:
    """A test marked may_block, with its reason, lets our code block."""
    exec(SLEEP)  # noqa: S102 - stands for a line of ours

    assert asyncio.get_running_loop().is_running()
