"""Owns the proof of what is said of fields that cannot be taken as they are."""

from __future__ import annotations

import msgspec
import pytest

from proxy.errors import BadRequest
from proxy.wire.fields import bad_field, check_keys


class _Asked(msgspec.Struct):
    model: str
    inner: list[dict[str, int]] = []


@pytest.mark.parametrize(
    ("tree", "param", "message"),
    [
        pytest.param({}, "model", "model: object missing required field `model`.", id="missing"),
        pytest.param({"model": 5}, "model", "model: expected `str`, got `int`.", id="type"),
        pytest.param(
            {"model": "m", "inner": [{"a": "b"}]},
            "inner[0][...]",
            "inner[0][...]: expected `int`, got `str`.",
            id="inside",
        ),
        pytest.param(5, "", ": expected `object`, got `int`.", id="all of it"),
    ],
)
def test_the_field_is_named(tree: object, param: str, message: str) -> None:
    """With where it stands and what is wrong with it."""
    with pytest.raises(msgspec.ValidationError) as failure:
        msgspec.convert(tree, _Asked)

    error = bad_field(failure.value)
    assert (param, message, "invalid_value") == (error.param, error.message, error.code)


def test_a_key_but_for_its_case() -> None:
    """Is refused where the key itself would be read; others are not ours to judge."""
    check_keys({"model": 1, "Other": 2}, frozenset({"model"}))

    with pytest.raises(BadRequest, match="must be written 'model'"):
        check_keys({"Model": 1}, frozenset({"model"}))
