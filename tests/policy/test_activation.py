"""Owns the proof that variables are made when they are read, once, and that `has()` tells what is there."""

from __future__ import annotations

import pytest

from proxy import cel
from proxy.policy.activation import Activation
from tests.policy.written import facts


def test_a_variable_is_made_once() -> None:
    """What was read before is not made again."""
    numbers = iter((1, 2))
    activation = Activation(facts(), {"a.b": lambda _: next(numbers)})

    assert (1, 1) == (activation["a.b"], activation["a.b"])


def missing(kind: str) -> object:
    """Fail as a variable does that is not there, or that cannot be told."""
    raise cel.CelError(kind, "no")


def test_presence_is_asked_of_the_variable() -> None:
    """A field is there if its variable can be made; a failure to tell is no answer."""
    makers = {"a.b": lambda _: 1, "a.c": lambda _: missing("no_such_field"), "a.d": lambda _: missing("guard")}
    root = Activation(facts(), makers)["a"]

    assert isinstance(root, dict)
    assert ("b" in root, "c" in root) == (True, False)
    with pytest.raises(cel.CelError):
        assert "d" in root
