"""Owns the proof of what every section shares: durations, modes that only weaken, and where problems are told."""

from __future__ import annotations

import pytest

from proxy.policy.lowering import seconds
from proxy.terms import Mode
from tests.policy.written import entry, only


@pytest.mark.parametrize(
    ("written", "expected"), [("1s", 1), ("15m", 900), ("2h", 7200)], ids=["seconds", "minutes", "hours"]
)
def test_durations_are_read(written: str, expected: int) -> None:
    """A duration is a whole number and its unit."""
    assert expected == seconds(written)


@pytest.mark.parametrize("section", ["escalation", "rules"])
def test_a_mode_only_weakens(section: str) -> None:
    """An entry of a shadow policy cannot enforce, in whatever section it stands."""
    keys = {"when": "true", "mode": "enforce", **({"phase": "request", "action": "deny"} if section == "rules" else {})}

    found = only("  mode: shadow\n" + entry(section, **keys))

    assert Mode.SHADOW is found.mode
