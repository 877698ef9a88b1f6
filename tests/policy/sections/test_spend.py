"""Owns the proof of what the section `spend` means, and that what makes no sense in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.terms import Fit, OnDeny, Phase, Verdict
from tests.policy.written import entry, lowered, only, problems

REQUEST, DENY = Phase.REQUEST, Verdict.DENY


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param(
            entry("spend", scope="agent", window="day", limitUSD=5, softUSD=1.5, onSoft="annotate"),
            [
                ("e", REQUEST, DENY, "", False, ()),
                ("e.soft", REQUEST, Verdict.ANNOTATE, "spend.agent.usd >= 1.5", False, ()),
            ],
            id="a limit and a soft limit",
        ),
        pytest.param(
            entry("spend", scope="request", softUSD=1, onSoft={"route": "cheap"}),
            [("e.soft", REQUEST, Verdict.ROUTE, "spend.request.est_usd >= 1.0", False, ())],
            id="a soft limit of one call",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="conversation", limitUSD=2),
            [("e", REQUEST, DENY, "spend.conversation.usd + spend.request.max_usd > 2.0", False, ())],
            id="a limit in shadow is judged, not held",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="request", limitUSD=2),
            [("e", REQUEST, DENY, "spend.request.max_usd > 2.0", False, ())],
            id="of one call",
        ),
    ],
)
def test_each_section_lowers_to_rules(spec: str, rules: list[tuple[Any, ...]]) -> None:
    """A section is shorthand: what it means is what its rules say."""
    assert rules == lowered(spec)


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param(entry("spend", scope="request", limitUSD=0.25), "cap_nanousd", 250_000_000, id="limitUSD"),
        pytest.param(entry("spend", scope="request", limitUSD=1), "on_deny", OnDeny.ERROR, id="a limit answers 429"),
        pytest.param(
            "  onDeny: reply\n" + entry("spend", scope="request", limitUSD=1),
            "on_deny",
            OnDeny.REPLY,
            id="or as the policy says",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=1, onDeny="reply"),
            "on_deny",
            OnDeny.REPLY,
            id="or as it says itself",
        ),
        pytest.param(
            entry("spend", scope="conversation", limitUSD=1), "window", "conversation", id="the window of a talk"
        ),
        pytest.param(entry("spend", scope="agent", window="day", limitUSD=1), "timezone", "UTC", id="UTC"),
        pytest.param(
            entry("spend", scope="agent", window="day", timezone="Europe/Madrid", limitUSD=1),
            "timezone",
            "Europe/Madrid",
            id="timezone",
        ),
        pytest.param(
            entry("spend", key="caller.tenant", window="month", limitUSD=1), "when", "caller.tenant", id="key"
        ),
        pytest.param(entry("spend", scope="conversation", limitUSD=1), "fit", None, id="all or nothing"),
        pytest.param(
            entry("spend", scope="conversation", limitUSD=1, fit={"leastTokens": 9, "wait": "2m"}),
            "fit",
            Fit(least_tokens=9, wait_s=120),
            id="fit",
        ),
    ],
)
def test_each_key_changes_its_rule(spec: str, field: str, expected: object) -> None:
    """Every accepted key changes the rule, and the rule says what it was given."""
    assert expected == getattr(only(spec), field)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(entry("spend", limitUSD=1), ["give `scope` or `key`, one of them"], id="whose money"),
        pytest.param(
            entry("spend", scope="agent", key="'a'", window="day", limitUSD=1),
            ["give `scope` or `key`, one of them"],
            id="two owners",
        ),
        pytest.param(entry("spend", scope="request"), ["give `limitUSD`, `softUSD` or both"], id="no amount"),
        pytest.param(
            entry("spend", scope="request", limitUSD=1, softUSD=1, onSoft="annotate"),
            ["`softUSD` must be below `limitUSD`"],
            id="a soft limit that is none",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=2, softUSD=1),
            ["`softUSD` and `onSoft` come together"],
            id="soft what",
        ),
        pytest.param(
            entry("spend", scope="request", softUSD=1, onSoft="annotate", message="x", onDeny="error"),
            ["`message` changes nothing without `limitUSD`", "`onDeny` changes nothing without `limitUSD`"],
            id="a text without a denial",
        ),
        pytest.param(
            entry("spend", scope="request", softUSD=1, onSoft="annotate", fit={"leastTokens": 1}),
            ["`fit` changes nothing without `limitUSD`"],
            id="nothing to fit under",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=1, fit={"wait": "1s"}),
            ["`wait` changes nothing here: no other call holds what one call may cost"],
            id="one call waits for nobody",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="request", limitUSD=1, fit={"leastTokens": 1}),
            ["`fit` changes nothing in mode shadow"],
            id="nothing is held in shadow",
        ),
        pytest.param(
            entry("spend", scope="request", window="day", limitUSD=1),
            ["the scope `request` is one call and has no window"],
            id="a window of one call",
        ),
        pytest.param(
            entry("spend", scope="agent", limitUSD=1),
            ["a limit by agent needs a `window`: minute, hour, day, week or month"],
            id="no window",
        ),
        pytest.param(
            entry("spend", key="'a'", window="conversation", limitUSD=1),
            ["a limit by key needs a `window`: minute, hour, day, week or month"],
            id="a conversation is no window of a key",
        ),
        pytest.param(
            entry("spend", scope="agent", window="hour", timezone="Europe/Madrid", limitUSD=1),
            ["`timezone` changes nothing here: only a day, week or month has one"],
            id="an hour has no zone",
        ),
        pytest.param(
            entry("spend", scope="request", limitUSD=0.0000000001),
            ["`limitUSD` has more than nine decimals"],
            id="less than a nano-dollar",
        ),
        pytest.param(
            entry("spend", scope="agent", window="month", softUSD=1, onSoft="annotate"),
            ["`softUSD` is possible per request, per conversation, and per user, agent or tenant and UTC day"],
            id="a soft limit that nobody can see",
        ),
        pytest.param(
            entry("spend", scope="agent", window="day", timezone="Europe/Madrid", softUSD=1, onSoft="annotate"),
            ["`softUSD` is possible per request, per conversation, and per user, agent or tenant and UTC day"],
            id="a soft limit by another day",
        ),
        pytest.param(
            "  mode: shadow\n" + entry("spend", scope="agent", window="month", limitUSD=1),
            [
                "a limit in mode shadow is possible per request, per conversation, "
                "and per user, agent or tenant and UTC day"
            ],
            id="a shadow that nobody can see",
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, expected: list[str]) -> None:
    """A key that would change nothing, or that is missing, is a problem that says what to do."""
    assert expected == [problem.split(": ", 1)[1] for problem in problems(spec)]
