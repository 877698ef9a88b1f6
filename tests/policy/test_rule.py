"""Owns the proof that a rule's digest is of what it says, and that money is exact."""

from __future__ import annotations

import pytest

from proxy.policy.rule import NANO, nanousd
from tests.policy.written import compiled, rule, source


def test_a_digest_changes_with_every_word() -> None:
    """A rule's digest and its document's change when anything in them does, and with nothing else."""
    same, other = compiled(rule(when="true")), compiled(rule(when="false"))
    moved = compiled(source("\n\n" + rule(when="true")))

    assert same.rules[0].digest != other.rules[0].digest
    assert same.documents[0].digest != other.documents[0].digest
    assert (same.rules[0].digest, same.digest) == (moved.rules[0].digest, moved.digest)


@pytest.mark.parametrize(
    ("usd", "expected"),
    [
        pytest.param(1, NANO, id="whole"),
        pytest.param(0.1, 100_000_000, id="a tenth, which no double holds"),
        pytest.param(0.000000001, 1, id="one nano-dollar"),
        pytest.param(0.0000000015, None, id="one and a half"),
        pytest.param(1e9, NANO**2, id="a billion"),
    ],
)
def test_dollars_become_whole_nano_dollars(usd: float, expected: int | None) -> None:
    """Money is exact: what cannot be held exactly is refused."""
    assert expected == nanousd(usd)
