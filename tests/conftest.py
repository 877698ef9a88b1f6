"""Owns what every test lives under: a clean environment, no socket off this machine, no blocked event loop."""

import inspect
import os
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import hypothesis
import pytest
from blockbuster import blockbuster_ctx

from tests import debian

# A developer's own keys, proxies and settings must not decide what a test sees.
OURS_AND_VENDORS = (
    "ANTHROPIC_", "AWS_", "AZURE_", "GEMINI_", "GOOGLE_", "HANDRAIL_", "LANGCHAIN_", "LANGSMITH_", "OPENAI_", "OTEL_",
)  # fmt: skip
for _name in list(os.environ):
    if _name != "HANDRAIL_DATA" and (_name.startswith(OURS_AND_VENDORS) or _name.upper().endswith("_PROXY")):
        del os.environ[_name]

# Machines differ in speed, so no example has a deadline. CI repeats the same examples: only a change turns it red.
hypothesis.settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("house")


class Perimeter:
    """The audit hook that refuses, and remembers, every address that is not this machine's own.

    Remembering matters: code under test may swallow the refusal as an ordinary network error.
    uvloop connects beneath Python and is not seen; tests run on the stock loop.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """Refuse one audited call if it would leave the machine."""
        if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
            address = args[1]
            if isinstance(address, tuple) and isinstance(address[0], str):
                self._check(event, address[0] or "0.0.0.0")  # noqa: S104 - the empty address means every interface
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            self._check(event, args[0])

    def _check(self, event: str, host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
        if is_local(name):
            return
        # RFC 6761: no resolver knows a name under .invalid, so a test may ask for one.
        if not name.endswith(".invalid"):
            self.refused.append(f"{event} {name}")
        raise socket.gaierror(socket.EAI_NONAME, f"tests stay on this machine: {name}")


def is_local(name: str) -> bool:
    """Say whether a host name or address is this machine's loopback."""
    if name == "localhost":
        return True
    try:
        return ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


PERIMETER = Perimeter()
sys.addaudithook(PERIMETER)


@pytest.fixture(autouse=True)
def stays_on_this_machine() -> Iterator[Perimeter]:
    """Fail the test that reached for another machine, whatever its code made of the refusal."""
    PERIMETER.refused.clear()
    yield PERIMETER
    assert PERIMETER.refused == []


@pytest.fixture(autouse=True)
def never_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Raise from any blocking call that our code makes on the loop of an async test.

    `@pytest.mark.may_block(reason="…")` opts out; the reason is not optional.
    """
    opt_out = request.node.get_closest_marker("may_block")
    assert opt_out is None or opt_out.kwargs.get("reason"), "may_block needs reason="
    if opt_out or not inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        yield
        return
    with blockbuster_ctx("proxy") as watcher:
        # The SQLite store commits on the loop by design (ARCHITECTURE.md, Group commit): no commit waits for the disk.
        for name, function in watcher.functions.items():
            if name.startswith("sqlite3."):
                function.deactivate()
        # Coverage's tracer takes its own lock inside our frames, and another thread of ours may hold it.
        watcher.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", {"lock_data"})
        yield


@pytest.fixture
def real_data() -> Path:
    """Give the folder of real data sets, or skip and say that the check was not run."""
    folder = os.environ.get("HANDRAIL_DATA")
    if not folder:
        pytest.skip("not run: HANDRAIL_DATA names no folder of real data")
    return Path(folder)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the house's own markers."""
    config.addinivalue_line("markers", "may_block(reason): our code may block the loop in this test, because …")
    config.addinivalue_line("markers", "debian(program): a server is needed that a package of Debian brings")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, each by its name, the tests that need a server of Debian's where SYSTEM=0 leaves the machine alone."""
    for item in items if debian.left_alone() else ():
        for marker in item.iter_markers("debian"):
            item.add_marker(pytest.mark.skip(reason=f"not run, {marker.args[0]} is left alone: {item.nodeid}"))
