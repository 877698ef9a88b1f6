"""Owns the proof that changes of an audit log are found, by a slice of the thousand that the bench makes."""

from __future__ import annotations

import random

from bench.audit_mutations import WAYS, Copy, mutate, truncate


def test_every_mutation_is_found() -> None:
    """Ten of each kind, and nothing in the log as it was."""
    found, missed = mutate(10 * len(WAYS), seed=7)

    assert ([], {way.__name__: 10 for way in WAYS}) == (missed, dict(found))


def test_a_mutation_changes_something() -> None:
    """A cut copy is shorter, so that finding it is no accident."""
    copy = Copy([b'{"seq":0}\n', b'{"seq":1}\n'], "", random.Random(1))  # noqa: S311 - a schedule, not a secret

    truncate(copy)

    assert [b'{"seq":0}\n'] == copy.lines
