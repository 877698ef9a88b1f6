"""Owns the proof that a user number finds its own peer alone."""

from __future__ import annotations

import pytest

from proxy.identity.peers import Peer, peer_of

ROOT, WEB = Peer(name="root", uid=0), Peer(name="web", uid=1000)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        pytest.param(0, ROOT, id="zero is a number"),
        pytest.param(1000, WEB, id="another"),
        pytest.param(1001, None, id="nobody"),
        pytest.param(None, None, id="no Unix socket"),
    ],
)
def test_a_user_is_one_peer(uid: int | None, expected: Peer | None) -> None:
    """Only the number that the kernel told finds a peer; a call from elsewhere is nobody's."""
    assert expected == peer_of(uid, (ROOT, WEB))
