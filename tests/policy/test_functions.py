"""Owns the proof of the functions that policies have beyond CEL's own."""

from __future__ import annotations

import pytest

from proxy import cel
from proxy.policy.functions import table
from tests.policy.written import FUNCTIONS


def evaluated(expression: str, budget: int = 10_000) -> object:
    """Evaluate an expression with our functions."""
    return cel.compile(expression, functions=table(FUNCTIONS)).evaluate({}, cel.Budget(budget))


def test_tokens_counts_with_what_config_gave() -> None:
    """tokens() is the tokenizer that was handed in."""
    assert 3 == evaluated("tokens('one two three')")


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("tokens(dyn(5))", "no_such_overload", id="not a text"),
        pytest.param(f"tokens('{'x' * 3000}')", "budget", id="too long for the budget"),
    ],
)
def test_tokens_takes_texts_and_is_paid_for(expression: str, kind: str) -> None:
    """A text costs budget by its length; anything else is an error."""
    with pytest.raises(cel.CelError) as raised:
        evaluated(expression, budget=200)

    assert kind == raised.value.kind
