"""Owns the proof that one erasure is under way at a time, and that one which broke off is taken over."""

from __future__ import annotations

import time

import pytest

from proxy.errors import Overloaded
from proxy.stores.objects.erasing import LEASE_MS, Note
from tests.stores.objects.buckets import Breaking, of


def test_two_do_not_erase_at_once() -> None:
    """While one erases another may neither begin nor take over."""
    bucket, now = Breaking(), int(time.time() * 1000)
    erasure = Note(bucket, "one", lambda: now).begin(of("talk-1"), ("a",))
    other = Note(bucket, "two", lambda: now)

    with pytest.raises(Overloaded, match="under way"):
        other.begin(of("talk-2"), ("b",))
    with pytest.raises(Overloaded, match="under way"):
        other.take_over()
    assert erasure == other.read()


def test_what_broke_off_is_taken_over() -> None:
    """After its lease another goes on with it, and the first may not any more."""
    bucket, now = Breaking(), int(time.time() * 1000)
    one, two = Note(bucket, "one", lambda: now), Note(bucket, "two", lambda: now + LEASE_MS + 1000)
    erasure = one.begin(of("talk-1"), ("a",))

    taken = two.take_over()

    assert taken is not None
    assert (erasure.which, erasure.paths) == (taken.which, taken.paths)
    with pytest.raises(Overloaded):
        one.renew(erasure)
    two.renew(taken)
    two.end()
    assert two.take_over() is None
