"""Owns the section `maturity`: how much agents may do on their own, and in conversations of which kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.rule import Lowered
from proxy.terms import Level, Phase, Verdict


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """It is one level, and others for conversations with some labels; none is above what the agent may do itself."""
    levels = {"": entry["level"], **entry.get("overrides", {})}
    for label, level in levels.items():
        yield policy.lowered(
            entry,
            at,
            at,
            name=f"maturity.{label}" if label else "maturity",
            phase=Phase.REQUEST,
            action=Verdict.LEVEL,
            when="",
            labels=(label,) if label else (),
            level=Level(level),
        )
