"""Owns the proof of proxy/stores/redis/states.py: what was written is read."""

from __future__ import annotations

from proxy.stores.redis import states
from proxy.terms import Level, Session
from tests.stores.samples import AT_MS


def test_what_was_written_is_read() -> None:
    """A state comes back whole, with its time, whatever its words have in them."""
    session = Session(id="s 1", turn=3, labels=("a b", "ünï"), level=Level.ASSIST)

    assert (session, AT_MS) == states.read(states.written(session, AT_MS))
