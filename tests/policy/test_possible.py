"""Owns the proof that the table of phases and verdicts is whole, and that each key belongs to some action."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.policy.compile import schema
from proxy.policy.possible import HOW, VERDICTS, WITHHOLDING, unfit
from proxy.terms import How, Phase, Verdict

RULE: dict[str, Any] = json.loads(schema("schema.json"))["$defs"]["rule"]["properties"]


def test_every_verdict_has_a_phase_and_every_phase_its_verdicts() -> None:
    """No verdict is without a place, each row is in the order of weight, and where something can be withheld, a rule
    can allow it and deny it."""
    rows = list(VERDICTS.values())
    judged = [row for phase, row in VERDICTS.items() if phase not in (Phase.ROUTE, Phase.POST)]

    assert set(Phase) == set(VERDICTS)
    assert {(Verdict.ALLOW, Verdict.DENY)} == {(row[0], row[-1]) for row in judged}
    assert set(Verdict) == {verdict for row in rows for verdict in row}
    assert rows == [tuple(sorted(row, key=lambda verdict: verdict.weight)) for row in rows]


def test_the_schema_knows_the_same_actions() -> None:
    """What can be written is what can be decided, and the ways to redact."""
    assert {*map(str, Verdict), *HOW} == {*RULE["action"]["enum"]}
    assert set(How) == set(HOW.values())


def test_only_a_phase_with_replies_withholds_them() -> None:
    """Each verdict that needs the reply to wait is possible there."""
    assert set(WITHHOLDING) <= set(VERDICTS[Phase.RESPONSE])


@pytest.mark.parametrize("key", [key for key in RULE if key not in ("id", "phase", "action")])
def test_every_key_fits_somewhere(key: str) -> None:
    """A key that fits no rule could not be written."""
    fitting = [
        (phase, action)
        for phase, actions in VERDICTS.items()
        for action in actions
        if not any(misfit == key for misfit, _ in unfit({"action": action, key: "x"}, phase, action))
    ]

    assert fitting
