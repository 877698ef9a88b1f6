"""Owns the proof that a grant is what config wrote, and nothing besides."""

from __future__ import annotations

import msgspec
import pytest

from proxy.identity.grants import Grant


def test_without_a_word_everything_is_granted() -> None:
    """A grant narrows: where config says nothing of it, its holder may do what the agent may."""
    assert ("", (), (), {}) == msgspec.structs.astuple(Grant())


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"role": "admin"}, id="unknown"),
        pytest.param({"models": "all"}, id="no list"),
        pytest.param({"claims": {"tier": 1}}, id="no text"),
    ],
)
def test_what_is_not_understood_grants_nothing(row: dict[str, object]) -> None:
    """A word that nobody knows is a mistake, not a grant without it."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(row, Grant)
