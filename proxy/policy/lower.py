"""Owns the step from a document to the one rule form.

In: a Text that has passed the schema. Out: a Policy whose rules all have the one form. Never: CEL compiled here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.documents import Path, Problems, Text
from proxy.policy.lowering import Lowering
from proxy.policy.rule import PRIORITY, Lowered, Policy
from proxy.policy.sections import SECTIONS


def lower(text: Text, problems: Problems) -> Policy:
    """Bring one document into the one rule form; what makes no sense goes on the list."""
    lowering = Lowering(text, problems)
    spec = lowering.spec
    selector = spec.get("selector", {})
    return Policy(
        document=lowering.document,
        text=text,
        priority=spec.get("priority", PRIORITY),
        agents=tuple(selector.get("agents", ())),
        models=tuple(selector.get("models", ())),
        tenants=tuple(selector.get("tenants", ())),
        selector=selector.get("when", ""),
        params=spec.get("params", {}),
        variables=tuple((entry["name"], entry["expression"]) for entry in spec.get("variables", ())),
        rules=tuple(_unique(lowering, _rules(lowering))),
    )


def _rules(lowering: Lowering) -> Iterator[Lowered]:
    if "onDisconnect" not in lowering.spec and not any(map(lowering.spec.get, SECTIONS)):
        lowering.wrong(("spec",), f"this policy says nothing: give it {', '.join(SECTIONS)}")
    for section, lower_entry in SECTIONS.items():
        for entry, at in _entries(lowering.spec.get(section, ()), ("spec", section)):
            yield from lower_entry(lowering, entry, at)


def _entries(section: Any, at: Path) -> Iterable[tuple[Any, Path]]:
    if isinstance(section, dict):
        return [(section, at)]
    return [(entry, (*at, number)) for number, entry in enumerate(section)]


def _unique(lowering: Lowering, rules: Iterator[Lowered]) -> Iterator[Lowered]:
    seen: set[str] = set()
    for lowered in rules:
        if lowered.rule.id in seen:
            lowering.wrong(lowered.when_at[:3], f"`{_bare(lowered.rule.id)}` is already the id of another rule")
        seen.add(lowered.rule.id)
        yield lowered


def _bare(rule_id: str) -> str:
    """Return the id as the document writes it."""
    return rule_id.partition("/")[2].rpartition("@")[0]
