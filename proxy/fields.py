"""Owns taking a chat request apart field by field, for providers that say the same in other words.

In: the tree of a request. Out: each field once, to whoever can express it. Never: a field that is lost in silence: what
nobody has taken is refused by name, or left out by name where the configuration says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from proxy.errors import BadRequest

MEANT_FOR_OPENAI = frozenset(
    {"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "user"}
)
"""What says nothing of the reply: it may be left out anywhere."""


class Fields:
    """The fields of a request that are still to be taken."""

    def __init__(self, tree: Mapping[str, Any], *, free: Collection[str] = MEANT_FOR_OPENAI) -> None:
        self._tree = tree
        self._free = free
        self._taken: set[str] = set()

    def take(self, *names: str) -> Any:
        """Return the first of these fields that says something, None where none does; all of them count as taken."""
        self._taken.update(names)
        return next((value for name in names if (value := self._tree.get(name)) is not None), None)

    def left(self, provider: str, *, drop: bool) -> tuple[str, ...]:
        """Return the names that nobody took, sorted; raise BadRequest naming the first unless they may be dropped."""
        said = (name for name, value in self._tree.items() if value is not None and name not in self._free)
        names = sorted(name for name in said if name not in self._taken)
        if names and not drop:
            raise cannot(names[0], provider)
        return tuple(names)


def cannot(param: str, provider: str, why: str = "has no way to say it") -> BadRequest:
    """Return the error for a field that a provider cannot express; `param` says where it stands."""
    return BadRequest(f"{param}: the provider {provider!r} {why}.", code="unsupported_parameter", param=param)
