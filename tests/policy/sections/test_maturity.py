"""Owns the proof of what the section `maturity` means: how much agents may do, in which conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.terms import Level, Mode
from tests.policy.written import compiled, source


def maturity(**keys: Any) -> str:
    """Write a policy that bounds agents."""
    return f"  maturity: {json.dumps(keys)}"


def test_it_is_a_rule_for_all_and_one_for_each_label() -> None:
    """Its rules are printed like all others."""
    rules = compiled(maturity(level="assist", overrides={"faq": "execute"})).rules

    assert [("p/maturity@1.0.0", (), Level.ASSIST), ("p/maturity.faq@1.0.0", ("faq",), Level.EXECUTE)] == [
        (rule.id, rule.labels, rule.level) for rule in rules
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), Level.EXECUTE),
        (("other",), Level.EXECUTE),
        (("faq",), Level.OPERATE),
        (("refund",), Level.ASSIST),
        (("faq", "refund"), Level.ASSIST),
    ],
)
def test_a_label_takes_the_place_of_what_holds_for_all(labels: tuple[str, ...], expected: Level) -> None:
    """The lowest of all labels that are named counts; without one, what holds for all."""
    policies = compiled(maturity(level="execute", overrides={"faq": "operate", "refund": "assist"}))

    assert expected is policies.level(labels)


def test_the_lowest_of_all_policies_counts() -> None:
    """A policy cannot raise what another one has lowered."""
    levels = {"a": "operate", "b": "assist", "c": "execute"}
    policies = compiled(*(source(maturity(level=level), name=name) for name, level in levels.items()))

    assert Level.ASSIST is policies.level(())


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
def test_a_section_that_does_not_act_lowers_nobody(mode: Mode) -> None:
    """Neither does one of a policy that is for another agent."""
    elsewhere = compiled("  selector: {agents: [other]}\n" + maturity(level="assist"))

    assert None is compiled(maturity(level="assist", mode=mode)).level(())
    assert None is elsewhere.narrow("support", "large", "").level(())
