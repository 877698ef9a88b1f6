"""Owns what a running process has of its machine: clocks, names, the event loop, the collector, the tokenizer."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable

from proxy import accounting

DAY_MS = 24 * 3600 * 1000
COLLECT_AFTER = 10_000
"""Objects made and not freed, after which the garbage collector looks among the youngest."""
PR_SET_DUMPABLE = 4
"""Of prctl(2)."""


class SystemClock:
    """The clocks of this machine."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Return milliseconds of a clock that never jumps."""
        return time.perf_counter_ns() / 1e6


class RandomIds:
    """Names of 48 bits of time and 80 random ones, as in UUID version 7 (RFC 9562): names that are made one after the
    other stand side by side in the store's indexes, so a commit writes far fewer pages than for names all over."""

    def new(self, prefix: str) -> str:
        """Return `prefix_` and 32 hexadecimal digits."""
        return f"{prefix}_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class Turns:
    """Gives turns to those that have much to do: of all that wait one goes on in each round of the loop, so that a call
    with little to do waits for one of them and not for all."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds; for none, until it is one's turn."""
        if seconds:
            await asyncio.sleep(seconds)
            return
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._next, loop)
        self._waiting.append(turn := loop.create_future())
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._waiting.popleft()
        if self._waiting:
            loop.call_soon(self._next, loop)
        if not turn.done():
            turn.set_result(None)


class LazyEstimator:
    """Counts with the tokenizer once it is loaded, which the first need starts in a thread; by bytes until then."""

    def __init__(self) -> None:
        self._counter = accounting.token_counter()
        self._loading: asyncio.Future[None] | None = None
        self._closed = False

    def close(self) -> None:
        """Load nothing any more: the process is about to end, and would wait for it."""
        self._closed = True

    def count(self, text: str) -> tuple[int, bool]:
        """Return tokens and whether a tokenizer counted them."""
        if self._loading is None and not self._closed:
            self._loading = asyncio.get_running_loop().run_in_executor(None, self._counter.load)
        return self._counter.count(text)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where the extra `fast` is installed, else None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def spare_the_collector() -> None:
    """Take what is loaded out of the garbage collector's sight, and let it look less often.

    A call leaves hardly a cycle behind, but makes so many objects that the collector would take one part in twenty of
    the processor to find that out.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def raise_file_limit() -> None:
    """Allow as many open sockets as the system lets us: the usual soft limit is no more than `max_connections`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_memory_private() -> None:
    """Have no core dump written of this process, and let no other process of its user look into it: keys are in its
    memory and its environment. It holds until the process runs another program."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A kernel that pipes dumps to a program asks for no limit. With these arguments the call cannot fail.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))
