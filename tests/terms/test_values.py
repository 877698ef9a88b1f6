"""Owns the proof of what the nouns promise: they never change, their orders mean something, a secret stays in."""

import json
import pickle
from collections.abc import Callable

import msgspec
import pytest

from proxy import terms
from proxy.terms import Caller, Level, Secret, Verdict

NOUNS = [kind for kind in vars(terms).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_a_noun_never_changes(noun: type[msgspec.Struct]) -> None:
    """Every noun is frozen and takes its fields by name: two rooms that hold one see the same."""
    config = noun.__struct_config__

    assert (True, ()) == (config.frozen, tuple(noun.__match_args__))


def test_levels_are_ordered() -> None:
    """Assist is the least a maturity level allows, operate the most."""
    assert [1, 2, 3] == [level.rank for level in (Level.ASSIST, Level.EXECUTE, Level.OPERATE)]


def test_the_heaviest_verdict_denies() -> None:
    """Verdicts weigh more the more they restrict, so that the heaviest of all matched rules can win."""
    lightest = "allow record label annotate alert level route strip_tools"
    heaviest = "redact rewrite replace require_approval escalate deny"
    order = [Verdict(name) for name in f"{lightest} {heaviest}".split()]

    assert order == sorted(Verdict, key=lambda verdict: verdict.weight)


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(lambda secret: f"{secret:>40}", id="format"),
        pytest.param(lambda secret: f"{[secret]}", id="inside a list"),
    ],
)
def test_a_secret_is_not_shown(show: Callable[[Secret], str]) -> None:
    """No way of printing a secret shows it."""
    shown = show(Secret("sk-canary"))

    assert ("Secret(***)" in shown, "canary" in shown) == (True, False)


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(json.dumps, id="json"),
        pytest.param(msgspec.json.encode, id="msgspec"),
        pytest.param(pickle.dumps, id="pickle"),
    ],
)
def test_a_secret_is_not_encoded(encode: Callable[[Secret], object]) -> None:
    """No encoder takes a secret along by accident, on its own or inside a record."""
    with pytest.raises(TypeError):
        encode(Secret("sk-canary"))


def test_a_secret_is_revealed_on_demand() -> None:
    """`reveal()` is the one way out."""
    assert "sk-canary" == Secret("sk-canary").reveal()


def test_a_noun_is_decoded_with_its_types() -> None:
    """What is read back from a store is checked: a level that does not exist is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"agent": "a", "level": "autonomous", "principal": "p"}, Caller)
