"""Owns the proof that no field of a request is lost in silence on its way into another dialect."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest
from proxy.fields import Fields, cannot

TREE: dict[str, object] = {
    "model": "m",
    "stop": None,
    "max_tokens": 5,
    "top_k": 3,
    "logit_bias": {},
    "user": "u",
    "seed": 0,
}


def test_a_field_is_what_was_said() -> None:
    """The first that says something, even zero; null says nothing."""
    fields = Fields(TREE)

    assert (5, 0, None) == (
        fields.take("max_completion_tokens", "max_tokens"),
        fields.take("seed"),
        fields.take("stop"),
    )


def test_what_nobody_takes_is_refused_by_name() -> None:
    """What says nothing of the reply may be left out."""
    fields = Fields(TREE)
    fields.take("model", "max_tokens", "seed")

    with pytest.raises(BadRequest) as failure:
        fields.left("one", drop=False)

    assert ("unsupported_parameter", "logit_bias") == (failure.value.code, failure.value.param)
    assert "'one'" in failure.value.message


def test_what_nobody_takes_may_be_dropped() -> None:
    """All of it is told."""
    fields = Fields(TREE)
    fields.take("model", "max_tokens", "seed")

    assert ("logit_bias", "top_k") == fields.left("one", drop=True)


def test_where_all_is_taken_nothing_is_told() -> None:
    """However that is configured."""
    fields = Fields({"model": "m", "metadata": {}})
    fields.take("model")

    assert () == fields.left("one", drop=False)


def test_why_can_be_said() -> None:
    """With the place."""
    assert (
        "messages[0].content: the provider 'one' takes no video."
        == cannot("messages[0].content", "one", "takes no video").message
    )
