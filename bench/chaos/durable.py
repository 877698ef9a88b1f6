"""Owns what rows about durability share: a Handrail whose calls are on disk before they are sent, who calls it, and
what the disk itself takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.ports import free_ports

PAGE = 4096
SYNCS = 200
READY_S = 60.0
CONFIG = """\
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {bench: {dialect: openai, base_url: "PROVIDER"}}
models: {m: {provider: bench, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}
policies: [policy.yaml]
"""
BARE = CONFIG.replace("policies: [policy.yaml]\n", "")
"""No limit, no audit log, and no sync that a call waits for: its records are handed to the system."""
REQUIRED = CONFIG + "state: {durability: disk}\naudit: {required: true}\n"
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: durable, version: 1.0.0}
spec: {spend: [{id: day, scope: agent, window: day, limitUSD: 100000}]}
"""
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)


class Server:
    """A `handrail serve` of one folder, on ports that are free."""

    def __init__(self, folder: Path, provider: str, config: str = REQUIRED) -> None:
        self.folder = folder
        self.port, self.health, self._admin = free_ports(3)
        self._path = folder / "handrail.yaml"
        self._log = folder.with_name(f"{folder.name}.log")
        """Not in the folder: that may be full."""
        text = config.replace("PROVIDER", provider)
        for key, port in (("listen", self.port), ("health_listen", self.health), ("admin_listen", self._admin)):
            text = re.sub(rf"(?m)^{key}: .*$", f"{key}: 127.0.0.1:{port}", text)
        self._path.write_text(text)
        (folder / "policy.yaml").write_text(POLICY)
        self._process: Process

    async def start(self) -> float:
        """Start; return after how many seconds it was ready."""
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", "--config", self._path, stdout=DEVNULL, stderr=log
            )
        async with asyncio.timeout(READY_S):
            while await asyncio.to_thread(self.ready) != 200:
                if self._process.returncode is not None:
                    raise RuntimeError(f"Handrail has ended: {self._log.read_bytes()[-500:]!r}")
                await asyncio.sleep(0.01)
        return time.perf_counter() - began

    def ready(self) -> int:
        """Return the status of /readyz, 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/readyz", timeout=2) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def cpu_ms(self) -> float:
        """Return the CPU that the process has used, system time and all threads included."""
        user, system = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")

    async def end(self, number: int = signal.SIGTERM) -> None:
        """Send the process a signal, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        await self._process.wait()


class Line:
    """One connection that is kept open, and carries one call after another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, user: str) -> tuple[int, float]:
        """Make a call; return its status and how many milliseconds it took. 0: no answer came."""
        body = msgspec.json.encode(
            {
                "model": "m",
                "messages": [{"role": "user", "content": "Where is my order?"}],
                "max_completion_tokens": 64,
                "user": user,
            }
        )
        began = time.perf_counter()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(_HEAD % (len(body), body))
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await self._reader.readexactly(int(length[1]) if length else 0)
        except (OSError, EOFError):
            self.close()
            return 0, 0.0
        return int(head[9:12]), (time.perf_counter() - began) * 1000

    def close(self) -> None:
        """Give the connection up."""
        if self._writer:
            self._writer.close()
        self._writer = None


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; no value is above every bound."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("inf")


def bare_ms(folder: Path, *, grow: bool, syncs: int = SYNCS, pause_s: float = 0.0) -> list[float]:
    """Return what the disk takes for one page and its fdatasync: at the end of a file that grows, or over one that has
    its pages; one after the other, or as calls come, after which the way to the disk is a cold one."""
    path, took = folder / "bare", []
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
    try:
        if not grow:
            os.write(file, bytes(PAGE * syncs))
            os.fsync(file)
        for number in range(syncs):
            time.sleep(pause_s)
            began = time.perf_counter()
            os.pwrite(file, b"x" * PAGE, number * PAGE)
            os.fdatasync(file)
            took.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(file)
        path.unlink()
    return took
