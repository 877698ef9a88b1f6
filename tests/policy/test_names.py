"""Owns the proof of which names an expression may use in which phase, and what is said of the others."""

from __future__ import annotations

import pytest

from proxy.policy.names import Names
from proxy.terms import Phase

NAMES = Names(
    ["request.model", "request.headers", "spend.agent", "spend.agent.usd", "params.cap", "tool.name"], {"a": 1}
)


@pytest.mark.parametrize(
    ("reference", "phase", "said"),
    [
        ("request.model", Phase.REQUEST, ""),
        ("now", Phase.POST, ""),
        ("params", Phase.POST, ""),
        ("vars.a", None, ""),
        ("spend.agent.usd", Phase.REQUEST, ""),
        ("tool.name", Phase.REQUEST, "`tool` is not available in phase request, only in tool_call"),
        ("request", Phase.REQUEST, "`request` cannot be read as a whole: name a field, such as `request.model`"),
        ("request.modle", Phase.REQUEST, "there is no `request.modle` (did you mean `request.model`?)"),
        ("spend.agent.used", Phase.REQUEST, "there is no `spend.agent.used` (did you mean `spend.agent.usd`?)"),
        ("request.headers.x-tier", Phase.REQUEST, ""),
        ("request.headers.X-Tier", Phase.REQUEST, "header names are lower-case here: write `x-tier`"),
        ("request.headers.cookie", Phase.REQUEST, "the header `cookie` is a credential: no rule may read it"),
        (
            "request.headers",
            Phase.REQUEST,
            '`request.headers` cannot be read as a whole: name the header, such as request.headers["x-tier"]',
        ),
    ],
)
def test_what_is_wrong_with_a_name_is_told(reference: str, phase: Phase | None, said: str) -> None:
    """A name that cannot be read there is a problem that says what to write; any other is none."""
    assert said == NAMES.wrong(tuple(reference.split(".")), phase)


@pytest.mark.parametrize(
    ("name", "known"), [("request.model", True), ("vars.a", True), ("vars.b", False), ("nothing", False)]
)
def test_variables_are_names_from_where_they_are_defined(name: str, known: bool) -> None:
    """What a policy defines joins the names that all have."""
    assert known is (name in NAMES)
    assert known is (name in list(NAMES))
