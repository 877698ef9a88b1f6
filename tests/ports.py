"""Owns ports for servers that have to be told theirs: free now, and none that the kernel gives to anybody else."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

_DICE = random.SystemRandom()
_LOW, _HIGH = 20_000, 32_000
"""Below those that Linux gives to whoever asks for any or connects, and 10,000 can be added."""


def free_ports(count: int) -> list[int]:
    """Return ports on loopback that nobody listens on."""
    with ExitStack() as stack:
        return [_bound(stack) for _ in range(count)]


def _bound(stack: ExitStack) -> int:
    """Find one and hold it, so that it is not found twice."""
    while True:
        door = stack.enter_context(socket.socket())
        port = _DICE.randrange(_LOW, _HIGH)
        try:
            door.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
