"""Owns the proof of what the section `voice` means, and that what makes no sense in it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.policy.rule import Redaction
from proxy.terms import How, Mode, Phase, Verdict
from tests.policy.written import compiled, decided, found, problems, replied


def voice(**keys: Any) -> str:
    """Write a policy that bounds the voice."""
    return f"  voice: {json.dumps({'action': 'rewrite', **keys})}"


GUARDS = {"language": ("en", "de", "und")}


def rules(**keys: Any) -> list[tuple[str, Verdict, bool]]:
    """Return of each rule its name, verdict, and whether replies wait for it."""
    made = compiled(voice(**keys), guards=GUARDS).rules
    assert {Phase.RESPONSE} == {rule.phase for rule in made}
    return [(rule.id, rule.action, rule.hold) for rule in made]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"forbid": ["a"]}, [("p/voice.forbid@1.0.0", Verdict.REDACT, True)]),
        ({"maxSentences": 2}, [("p/voice.length@1.0.0", Verdict.REWRITE, True)]),
        ({"require": ["a"]}, [("p/voice.require@1.0.0", Verdict.ANNOTATE, False)]),
        ({"language": ["en"]}, [("p/voice.language@1.0.0", Verdict.ANNOTATE, False)]),
        ({"forbid": ["a"], "action": "annotate"}, [("p/voice.forbid@1.0.0", Verdict.ANNOTATE, False)]),
        ({"maxSentences": 2, "action": "annotate"}, [("p/voice.length@1.0.0", Verdict.ANNOTATE, False)]),
        ({"maxSentences": 2, "mode": "shadow"}, [("p/voice.length@1.0.0", Verdict.REWRITE, False)]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_each_bound_is_a_rule(keys: dict[str, Any], expected: list[tuple[str, Verdict, bool]]) -> None:
    """What can be changed is, where the section says `rewrite`; what cannot is noted, and no reply waits for it."""
    assert expected == rules(**keys)


def test_what_is_forbidden_is_left_out() -> None:
    """All patterns are one, and nothing stands where they match."""
    (rule,) = compiled(voice(forbid=["a|b", "c"])).rules

    assert Redaction(how=How.OMIT, pattern="(?:a|b)|(?:c)") == rule.redaction


def test_a_reply_is_cut_after_its_last_sentence() -> None:
    """One that is short enough stays as it is."""
    policies = compiled(voice(maxSentences=2))

    long, short = (
        policies.decide(Phase.RESPONSE, replied(text), "d") for text in ("So be it. It is! More.", "So be it. It is!")
    )

    assert ({"text": "So be it. It is!"}, Verdict.ALLOW) == (long.rewrites, short.verdict)


@pytest.mark.parametrize(
    ("keys", "text", "label", "noted"),
    [
        ({"forbid": ["(?i)sorry"]}, "So SORRY.", "en", {"voice.forbid": "off"}),
        ({"forbid": ['say "no"']}, 'I say "no" now', "en", {"voice.forbid": "off"}),
        ({"forbid": ["sorry"]}, "Fine.", "en", {}),
        ({"require": ["Kind regards", "Acme"]}, "Kind regards", "en", {"voice.require": "off"}),
        ({"require": ["Kind regards", "Acme"]}, "Kind regards, Acme", "en", {}),
        ({"maxSentences": 1}, "One. Two.", "en", {"voice.length": "off"}),
        ({"language": ["en"]}, "Guten Tag", "de", {"voice.language": "off"}),
        ({"language": ["en", "de"]}, "Guten Tag", "de", {}),
        ({"language": ["en"]}, "Ok", "und", {}),
    ],
)
def test_what_is_off_is_noted(keys: dict[str, Any], text: str, label: str, noted: dict[str, str]) -> None:
    """A reply that breaks a bound is annotated; a language that nobody can tell is none that is wrong."""
    policies = compiled(voice(action="annotate", **keys), guards=GUARDS)

    decision = policies.decide(Phase.RESPONSE, replied(text, guards=found(label, guard="language")), "d")

    assert noted == decision.annotations


def test_an_error_follows_on_error() -> None:
    """Without the guard it cannot be told, and that is not "no fault"."""
    spec = voice(action="annotate", language=["en"])

    verdicts = [
        decided(compiled(spec.replace("{", f'{{"onError": "{way}", ', 1), guards=GUARDS), replied("x"), Phase.RESPONSE)
        for way in ("deny", "allow")
    ]

    assert [Verdict.DENY, Verdict.ALLOW] == [
        max(decision.verdict, decision.shadow_verdict, key=lambda verdict: verdict.weight) for decision in verdicts
    ]


def test_its_mode_is_that_of_its_rules() -> None:
    """A section in shadow only shows what it would do."""
    (rule,) = compiled(voice(forbid=["a"], mode="shadow")).rules

    assert Mode.SHADOW is rule.mode


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "p.yaml:5:10: `voice` bounds nothing: give `forbid`, `require`, `maxSentences`, `language`"),
        ({"forbid": ["a", "("]}, "p.yaml:5:48: '(' is no regular expression for RE2"),
    ],
    ids=["nothing", "no pattern"],
)
def test_what_makes_no_sense_is_told(keys: dict[str, Any], expected: str) -> None:
    """A problem says where it is and what to do."""
    assert expected in problems(voice(**keys))
