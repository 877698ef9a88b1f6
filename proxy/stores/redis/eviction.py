"""Owns telling whether a Redis may throw keys away by itself, which no limit and no hand-off outlives."""

from __future__ import annotations

EVICTS = "it throws keys away when its memory is full: set `maxmemory-policy noeviction` there"


def evicts(memory: bytes) -> bool:
    """Say by what `INFO memory` tells whether it may. Where nothing is told of a bound there is none."""
    told = dict(line.strip().partition(b":")[::2] for line in memory.splitlines())
    bounded = told.get(b"maxmemory", b"0") != b"0"
    return bounded and told.get(b"maxmemory_policy", b"noeviction") != b"noeviction"
