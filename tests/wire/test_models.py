"""Owns the proof of the model list: the names that config offers, in the shape that OpenAI clients read."""

from __future__ import annotations

import json

import msgspec
import pytest

from proxy.errors import NotFound
from proxy.terms import Target
from proxy.wire import models


class Table(msgspec.Struct, frozen=True):
    """A catalogue of one target and one pool."""

    targets: dict[str, Target] = msgspec.field(
        default_factory=lambda: {"fast": Target(alias="fast", provider="primary", model="m-mini")}
    )
    pools: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: {"any": ("fast",)})


FAST = {"id": "fast", "object": "model", "created": 0, "owned_by": "primary"}
ANY = {"id": "any", "object": "model", "created": 0, "owned_by": "handrail"}


def test_the_list_has_aliases_and_pools() -> None:
    """Every name that a client may ask for is listed, and who is behind it."""
    assert {"object": "list", "data": [FAST, ANY]} == json.loads(models.encode(Table(), ()))


@pytest.mark.parametrize("model", [FAST, ANY], ids=["alias", "pool"])
def test_one_model(model: dict[str, object]) -> None:
    """A name alone gives the same object as in the list."""
    assert model == json.loads(models.encode_one(Table(), (), str(model["id"])))


def test_no_such_model() -> None:
    """A name that is not offered is not found, as OpenAI says it."""
    with pytest.raises(NotFound, match="'slow' does not exist") as caught:
        models.encode_one(Table(), (), "slow")

    assert (404, "model_not_found", "model") == (caught.value.status, caught.value.code, caught.value.param)


def test_what_a_caller_may_not_ask_for_is_not_there() -> None:
    """A caller that may ask for some names sees no other, and cannot tell it from one that does not exist."""
    assert [ANY] == json.loads(models.encode(Table(), ("any", "slow")))["data"]
    said = []
    for name in ("fast", "slow"):
        with pytest.raises(NotFound) as caught:
            models.encode_one(Table(), ("any", "slow"), name)
        said.append(str(caught.value).replace(name, "…"))

    assert said[0] == said[1]
