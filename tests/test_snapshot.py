"""Owns the proof of proxy/snapshot.py: a configuration that cannot change under a walk."""

import pytest

from proxy.snapshot import Limits
from tests.walking import PLAIN


def test_a_snapshot_is_frozen() -> None:
    """Nothing of a snapshot or its limits can be set: reload makes a new one."""
    for value, name in ((PLAIN, "revision"), (PLAIN.limits, "idle_s")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
        assert getattr(value, name) != 1


def test_limits_have_safe_defaults() -> None:
    """Without configuration every wait and every size is bounded."""
    values = [getattr(Limits(), name) for name in Limits.__struct_fields__]

    assert all(value > 0 for value in values)
