"""Owns the proof that a listener can be reached where it was told to listen, and leaves nothing behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.server.rig import DONE, STREAM, Hall, chat, exchange, serving, status_of


def ipv6() -> bool:
    """Say whether this machine has an IPv6 loopback."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """`unix:/path` is served like a port, says so as the peer, and its file is gone afterwards."""
    hall, path = Hall(STREAM, DONE), tmp_path / "handrail.sock"

    async with serving(hall, listen=f"unix:{path}") as rig:
        reply = await exchange(rig.address, chat(b"{}", b"Connection: close"))

    assert (200, ["unix"], False) == (status_of(reply), [seen.peer for seen in hall.seen], path.exists())


@pytest.mark.skipif(not ipv6(), reason="not run: this machine has no IPv6 loopback")
async def test_it_listens_on_ipv6() -> None:
    """An IPv6 address is written in brackets, as in a URL."""
    async with serving(Hall(STREAM, DONE), listen="[::1]:0") as rig:
        reply = await exchange(rig.address, chat(b"{}", b"Connection: close"))

    assert (200, True) == (status_of(reply), rig.address.startswith("[::1]:"))


async def test_a_port_that_is_taken_is_an_error_at_the_start() -> None:
    """Two listeners cannot share an address; the second says so instead of serving nothing."""
    async with serving(Hall()) as first:
        with pytest.raises(OSError, match="in use"):
            async with serving(Hall(), listen=first.address):
                pass


async def test_it_accepts_between_start_and_stop_only() -> None:
    """Readiness may ask whether connections are taken."""
    async with serving(Hall()) as rig:
        during = rig.plane.accepting

    assert (True, False) == (during, rig.plane.accepting)
