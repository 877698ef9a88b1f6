"""Owns `make bench`: what Handrail costs per call, measured in one run beside the bare provider.

Direct, a plain aiohttp relay as the yardstick, Handrail with no policy, and Handrail with the support pack are all up
at once and visited in turn, round after round, so that a machine that slows down slows all of them. The proxy runs on
one core, provider and load on another.
Reported: CPU microseconds of the proxy per call and per stream event (from /proc), added latency against direct,
memory, and a check that provider and load were not the limit. `python bench/overhead.py --short` is the slice for CI.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
TICKS = os.sysconf("SC_CLK_TCK")
FIRST_PORT = 8500
READY_S = 30.0
CONNECTIONS = (1, 16, 64)
STREAM = "stream:5"
"""Streams whose events are 5 ms apart."""
EVENTS = 54
HEADROOM = 2.0
"""Provider and load must do this many times the calls per second of the fastest proxy, or the figures are theirs."""

Figures: TypeAlias = dict[str, float]


class Stack(msgspec.Struct, kw_only=True):
    """One thing to measure: where it listens, and whose CPU and memory count (none for the bare provider)."""

    name: str
    port: int
    pid: int = 0
    cells: dict[str, list[Figures]] = msgspec.field(default_factory=dict)


def main() -> int:
    """Measure, print the table, and say whether the measuring itself was sound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one cell")
    parser.add_argument("--short", action="store_true", help="one round of short cells")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    chosen = parser.parse_args()
    rounds, seconds = (1, 1.0) if chosen.short else (chosen.rounds, chosen.seconds)
    with stacks() as every:
        idle = {stack.name: memory_mib(stack.pid) for stack in every if stack.pid}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for cell in [*(f"whole c={c}" for c in CONNECTIONS), "stream c=64"]:
                for stack in every:
                    stack.cells.setdefault(cell, []).append(measure(stack, cell, seconds))
        loaded = {stack.name: memory_mib(stack.pid) for stack in every if stack.pid}
    report(every, idle, loaded)
    if chosen.json:
        chosen.json.write_text(json.dumps([msgspec.to_builtins(stack) for stack in every], indent=1))
    return verdict(every)


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(stack: Stack, cell: str, seconds: float) -> Figures:
    """Load one stack for a while; return the load's figures and the CPU that the stack used."""
    kind, _, connections = cell.partition(" c=")
    command = [sys.executable, str(BENCH / "load.py"), str(stack.port), connections, str(seconds)]
    before = cpu_s(stack.pid)
    out = subprocess.run(
        pinned([*command, STREAM if kind == "stream" else "whole"], 1), capture_output=True, check=True, timeout=120
    )
    figures: Figures = json.loads(out.stdout)
    figures["cpu_us"] = (cpu_s(stack.pid) - before) * 1e6 / max(figures["requests"], 1)
    return figures


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far, user and system, all threads."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def pinned(command: Sequence[str], core: int) -> list[str]:
    """Return the command, kept to one core where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)]), *command] if len(cores) > 1 else list(command)


# --- what is measured -----------------------------------------------------------------------------------------------


@contextmanager
def stacks() -> Iterator[list[Stack]]:
    """Start the provider and both proxies; stop them at the end."""
    provider = Stack(name="direct", port=FIRST_PORT)
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="handrail-bench-") as folder:
        stack.enter_context(running([sys.executable, str(BENCH / "mock.py"), str(provider.port)], core=1))
        yardstick = Stack(name="yardstick", port=FIRST_PORT + 1)
        relay = [sys.executable, str(BENCH / "passthrough.py"), str(yardstick.port), str(provider.port)]
        yardstick.pid = stack.enter_context(running(relay, core=0))
        found = [provider, yardstick]
        for number, (name, policies) in enumerate((("no policy", ""), ("support pack", str(ROOT / "rules/support")))):
            port = FIRST_PORT + 10 * (number + 1)
            config = Path(folder) / f"{number}.yaml"
            config.write_text(config_text(port, provider.port, policies, number))
            command = [sys.executable, "-m", "proxy", "serve", "--config", str(config)]
            pid = stack.enter_context(running(command, core=0))
            wait_ready(port + 1)
            found.append(Stack(name=name, port=port, pid=pid))
        yield found


def config_text(port: int, provider: int, policies: str, number: int) -> str:
    """Return a config with the provider's real prices and a spend limit high enough never to refuse."""
    return f"""
listen: 127.0.0.1:{port}
health_listen: 127.0.0.1:{port + 1}
admin_listen: 127.0.0.1:{port + 2}
agent: {{id: bench, level: execute}}
providers: {{mock: {{dialect: openai, base_url: "http://127.0.0.1:{provider}/v1", prices: openai}}}}
models:
  gpt-5-mini: {{provider: mock, tags: [tools, json, vision]}}
  support-large: {{provider: mock, model: gpt-5-mini, tags: [tools, json, vision]}}
  support-small: {{provider: mock, model: gpt-5-nano, tags: [tools, json, vision]}}
pools: {{cheap: [support-small, support-large]}}
state: {{path: records-{number}.sqlite}}
policies: [{policies}]
"""


@contextmanager
def running(command: Sequence[str], *, core: int) -> Iterator[int]:
    """Run a program on a core; give its pid, stop it at the end."""
    with subprocess.Popen(pinned(command, core), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(READY_S)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_ready(port: int) -> None:
    """Return when a proxy says that it is ready."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise SystemExit(f"nothing was ready on port {port}")


# --- telling --------------------------------------------------------------------------------------------------------


def median(stack: Stack, cell: str, figure: str) -> float:
    """Return the median over the rounds."""
    return statistics.median(one[figure] for one in stack.cells[cell])


def report(every: Sequence[Stack], idle: dict[str, float], loaded: dict[str, float]) -> None:
    """Print the table that the documentation quotes."""
    direct, proxies = every[0], every[1:]
    print(f"CPython {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print(
        "| stack | CPU µs per call, 64 conn. | " + " | ".join(f"added p50 / p99 ms, {c} conn." for c in CONNECTIONS),
        end="",
    )
    print(" | CPU µs per stream event | added first byte p50 ms, 64 streams | RSS idle / loaded MiB |")
    print("|" + "---|" * (len(CONNECTIONS) + 5))
    for stack in proxies:
        row = [stack.name, f"{median(stack, 'whole c=64', 'cpu_us'):.0f}"]
        for c in CONNECTIONS:
            p50, p99 = (
                median(stack, f"whole c={c}", k) - median(direct, f"whole c={c}", k) for k in ("p50_ms", "p99_ms")
            )
            row.append(f"{p50:.2f} / {p99:.2f}")
        first = median(stack, "stream c=64", "first_p50_ms") - median(direct, "stream c=64", "first_p50_ms")
        row.append(f"{median(stack, 'stream c=64', 'cpu_us') / EVENTS:.1f}")
        row.append(f"{first:.2f}")
        row.append(f"{idle[stack.name]:.0f} / {loaded[stack.name]:.0f}")
        print("| " + " | ".join(row) + " |")
    print()


def verdict(every: Sequence[Stack]) -> int:
    """Say whether a call failed, and whether provider and load were fast enough to measure with."""
    direct, proxies = every[0], every[1:]
    failed = sum(one["failed"] for stack in every for cell in stack.cells.values() for one in cell)
    fastest = max(median(stack, "whole c=64", "rps") for stack in proxies)
    headroom = median(direct, "whole c=64", "rps") / fastest
    sound = headroom >= HEADROOM
    print(f"failed calls: {failed:.0f}")
    print(
        f"provider and load alone do {headroom:.1f} times the calls of the fastest proxy: "
        + ("not the limit" if sound else f"below {HEADROOM}, so these figures measure them")
    )
    return 0 if sound and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
