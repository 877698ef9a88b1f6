"""Owns the proof of proxy/stores/redis/eviction.py: which servers may throw keys away."""

from __future__ import annotations

import pytest

from proxy.stores.redis.eviction import evicts


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        pytest.param(b"# Memory\r\nmaxmemory:1024\r\nmaxmemory_policy:allkeys-lru\r\n", True, id="any key"),
        pytest.param(b"maxmemory:1024\r\nmaxmemory_policy:volatile-ttl\r\n", True, id="keys with an end"),
        pytest.param(b"maxmemory:1024\r\nmaxmemory_policy:noeviction\r\n", False, id="none"),
        pytest.param(b"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", False, id="without a bound"),
        pytest.param(b"", False, id="nothing told"),
    ],
)
def test_a_bound_and_a_policy_make_it_throw_keys_away(memory: bytes, expected: bool) -> None:
    """Only a server that has a bound and does not refuse writes at it forgets by itself."""
    assert expected is evicts(memory)
