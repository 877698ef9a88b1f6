"""Owns the proof of what an action bounds together, and of what one call may add."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from proxy.policy.quotas import MOST, amount, in_units
from proxy.policy.rule import NANO, Quota
from tests.policy.written import compiled, entry, problems


def total(**keys: Any) -> str:
    """Write an action with one total, `usd`."""
    return entry("actions", tools=["refund"], totals={"usd": {"value": "tool.args.n", "limit": 5, **keys}})


@pytest.mark.parametrize(
    ("spec", "quota"),
    [
        pytest.param(
            total(),
            Quota(name="usd", key="conversation.id", limit_nano=5 * NANO, window="conversation", timezone="UTC"),
            id="a conversation",
        ),
        pytest.param(
            total(limit=0.5, per="tenant", window="month", timezone="Europe/Madrid", failed="!result.verified"),
            Quota(
                name="usd",
                key="caller.tenant",
                limit_nano=NANO // 2,
                window="month",
                timezone="Europe/Madrid",
                failed="!result.verified",
            ),
            id="a tenant's month",
        ),
        pytest.param(
            entry("actions", tools=["refund"], rate={"calls": 3, "window": "minute", "per": "user"}),
            Quota(name="e.rate", key="caller.user", limit_nano=3 * NANO, window="minute", timezone="UTC"),
            id="a rate",
        ),
        pytest.param(
            entry("actions", tools=["refund"], duplicates={"calls": 2, "window": "day", "key": "tool.args.customer"}),
            Quota(
                name="e.duplicates",
                key="(tool.args.customer) + ' ' + tool.call_digest",
                limit_nano=2 * NANO,
                window="day",
                timezone="UTC",
            ),
            id="duplicates",
        ),
    ],
)
def test_each_bound_is_one_quota(spec: str, quota: Quota) -> None:
    """Rates, totals and duplicates are the same thing: amounts that are added up under a key, in a window."""
    assert quota == compiled(spec).rules[-1].quota


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(total(per="agent", key="'k'", window="day"), "give `per` or `key`, one of them", id="both"),
        pytest.param(
            total(window="day"),
            "say whose calls are counted together: `key`, or `per` with conversation, agent, user, tenant",
            id="nobody's",
        ),
        pytest.param(
            total(per="agent"), "give a `window`: without one the total is that of the conversation", id="no window"
        ),
        pytest.param(
            total(key="'k'"),
            "give a `window`: without one the total is that of the conversation",
            id="a key, no window",
        ),
        pytest.param(
            total(timezone="UTC"),
            "`timezone` changes nothing here: only a day, week or month has one",
            id="a zone for nothing",
        ),
        pytest.param(
            total(timezone="Mars", window="day", per="agent"), "'Mars' is not a known time zone", id="no such zone"
        ),
        pytest.param(total(limit=1e-10), "`limit` has more than nine decimals", id="a limit too fine"),
        pytest.param(
            total(failed="tool.name == 'x'"),
            "`tool` is not available in phase tool_result, only in tool_call",
            id="failed by the call",
        ),
        pytest.param(
            total(failed="request.stream"),
            "`failed` reads `result`, and nothing else but `params` and `policy`, not `request`",
            id="failed by the request",
        ),
        pytest.param(
            total(key="tool.agrs.n", window="day"), "there is no `tool.agrs` (did you mean `tool.args`?)", id="a key"
        ),
    ],
)
def test_what_makes_no_sense_is_told(spec: str, said: str) -> None:
    """What would count nothing, or for nobody, is refused at load."""
    assert [said] == [problem.split(": ", 1)[1] for problem in problems(spec)]


def test_a_problem_has_its_place() -> None:
    """What is wrong with the expressions of a total is told with their line."""
    spec = """
  actions:
    - id: e
      tools: [refund]
      totals:
        usd:
          value: tool.args.n
          limit: 5
          failed: result.jsn.ok
          window: day
          key: tool.nam
"""

    assert ["p.yaml:12:19", "p.yaml:14:16"] == [problem.split(": ")[0] for problem in problems(spec)]


@pytest.mark.parametrize(
    ("value", "nano"),
    [
        pytest.param(2, 2 * NANO, id="whole"),
        pytest.param(0.1, NANO // 10, id="exactly what is written"),
        pytest.param(1e-12, 1, id="rounded up"),
        pytest.param(0, 0, id="nothing"),
        pytest.param(cel.UInt(3), 3 * NANO, id="unsigned"),
        pytest.param(MOST, MOST * NANO, id="the most"),
    ],
)
def test_an_amount_is_exact(value: object, nano: int) -> None:
    """Amounts are added up as integers of billionths."""
    assert nano == amount(value)


@pytest.mark.parametrize("value", [-1, -0.01, MOST + 1, float("nan"), float("inf"), True, "5", None], ids=repr)
def test_what_is_no_amount_is_an_error(value: object) -> None:
    """Nothing that cannot be added up counts as nothing."""
    with pytest.raises(cel.CelError):
        amount(value)


@given(st.integers(0, 10**18))
def test_units_are_written_exactly(nano: int) -> None:
    """What is written can be read back."""
    units, _, rest = in_units(nano).partition(".")

    assert nano == int(units) * NANO + int(rest.ljust(9, "0") or 0)
