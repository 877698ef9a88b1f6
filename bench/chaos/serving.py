"""Owns a Handrail that is a process of its own: how a row starts it, finds it, and reads what it wrote."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.chaos.report import ROOT
from proxy.stores.sqlite import Reader
from proxy.terms import Exchange, Totals

LISTENERS = "listen: 127.0.0.1:0\nhealth_listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n"
"""Ports that are free: what was given is read from the announcement."""
WAIT_S = 60.0
"""Longer than a start or a stop takes on a busy machine."""


class Served(msgspec.Struct, kw_only=True):
    """A Handrail that serves."""

    process: subprocess.Popen[str]
    port: int
    health_url: str
    admin_url: str
    state: Path
    errors: Path

    def records(self) -> list[Exchange]:
        """Return the finished records, oldest first."""
        with Reader(str(self.state)) as reader:
            return list(reader.between(0, 1 << 62))

    def open_calls(self) -> int:
        """Return how many calls are recorded as under way."""
        with Reader(str(self.state)) as reader:
            return len(reader.in_flight())

    def totals(self) -> dict[tuple[str, str], Totals]:
        """Return what stands in the books, by scope and window."""
        with Reader(str(self.state)) as reader:
            return {(scope, window): totals for scope, window, totals in reader.totals()}

    def metric(self, name: str) -> float:
        """Return the sum of a metric's series."""
        with urllib.request.urlopen(f"{self.health_url}/metrics", timeout=WAIT_S) as page:  # noqa: S310 - our own page
            found = re.findall(rf"(?m)^{name}(?:{{[^}}]*}})? (\S+)$", page.read().decode())
        return sum(map(float, found))

    def readiness(self) -> tuple[int, bytes]:
        """Ask whether calls are taken; return status and body."""
        try:
            with urllib.request.urlopen(f"{self.health_url}/readyz", timeout=WAIT_S) as page:  # noqa: S310 - our own page
                return page.status, page.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


@contextmanager
def serving(folder: Path, config: str, *, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run `handrail serve` with this configuration until the block ends."""
    path, errors = folder / "handrail.yaml", folder / "stderr.log"
    path.write_text(LISTENERS + config)
    with errors.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--config", str(path)],
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        said = _announced(process)
        if "records" not in said:
            raise RuntimeError(f"Handrail did not start: {errors.read_text()[-2000:]}")
        yield Served(
            process=process,
            port=int(said["OPENAI_BASE_URL"].removesuffix("/v1").rpartition(":")[2]),
            health_url=said["health"],
            admin_url=said["admin"],
            state=Path(said["records"]),
            errors=errors,
        )
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _announced(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read what a starting Handrail says of itself; less if it ends first."""
    said: dict[str, str] = {}
    for line in process.stdout or ():
        if found := re.search(r"(OPENAI_BASE_URL)=(\S+)|(health|admin|records) +(\S+)", line):
            said[found[1] or found[3]] = found[2] or re.sub(r"/(healthz|status)$", "", found[4])
        if "records" in said:
            break
    return said


def until(claim: Callable[[], bool], wait_s: float = WAIT_S) -> bool:
    """Wait until a claim is true; return whether it came true."""
    deadline = time.monotonic() + wait_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
