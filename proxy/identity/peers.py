"""Owns who is at the other end of a Unix socket, which the kernel says and no process can pretend.

In: a user's number. Out: the peer that config has for it. Never: the process's number, which is soon another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from proxy.identity.grants import Grant


class Peer(Grant, frozen=True, kw_only=True):
    """A user of this machine who may call."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    uid: int


def peer_of(uid: int | None, peers: Iterable[Peer]) -> Peer | None:
    """Return the peer with this user number; None where there is none, or the call did not come by a Unix socket."""
    return next((peer for peer in peers if peer.uid == uid), None)
