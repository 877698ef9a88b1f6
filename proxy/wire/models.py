"""Owns the list of models that a client may ask for.

In: the table of targets and pools. Out: OpenAI model objects. Never: which provider's key, or where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from proxy import openai_json
from proxy.errors import NotFound
from proxy.openai_json import Tree
from proxy.terms import Target


class Catalogue(Protocol):
    """The names under which config offers models."""

    @property
    def targets(self) -> Mapping[str, Target]:
        """Return the target of each alias."""

    @property
    def pools(self) -> Mapping[str, tuple[str, ...]]:
        """Return the aliases of each pool."""


def encode(catalogue: Catalogue, allowed: Collection[str]) -> bytes:
    """Return the reply to `GET /v1/models`: of these names, or of all where none is given."""
    return openai_json.dump({"object": "list", "data": list(_models(catalogue, allowed).values())})


def encode_one(catalogue: Catalogue, allowed: Collection[str], name: str) -> bytes:
    """Return the reply to `GET /v1/models/{id}`; raise NotFound when there is no such name among those allowed."""
    model = _models(catalogue, allowed).get(name)
    if model is None:
        raise NotFound(f"The model {name!r} does not exist here.", code="model_not_found", param="model")
    return openai_json.dump(model)


def _models(catalogue: Catalogue, allowed: Collection[str]) -> dict[str, Tree]:
    owners = {name: target.provider for name, target in catalogue.targets.items()}
    owners.update(dict.fromkeys(catalogue.pools, "handrail"))
    # Nobody knows when a name was made; the field is an integer that clients insist on.
    return {
        name: {"id": name, "object": "model", "created": 0, "owned_by": owner}
        for name, owner in owners.items()
        if not allowed or name in allowed
    }
