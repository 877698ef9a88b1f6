"""Owns the section `routing`: which model a call goes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.rule import Lowered
from proxy.terms import Phase, Verdict


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """One entry routes to one model, pool, or the cheapest with some tags."""
    way = policy.way(entry, entry["id"])
    yield policy.lowered(
        entry,
        at,
        (*at, "when"),
        name=entry["id"],
        phase=Phase.REQUEST,
        action=Verdict.ROUTE,
        when=entry["when"],
        way=way,
    )
