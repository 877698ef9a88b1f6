"""Owns the section `voice`: what replies sound like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.documents import Path
from proxy.policy.lowering import Lowering
from proxy.policy.patterns import compiled
from proxy.policy.rule import Lowered, Redaction
from proxy.terms import How, Phase, Verdict

BOUNDS = ("forbid", "require", "maxSentences", "language")


def lower(policy: Lowering, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
    """What may not be said is taken out and what is too long is cut, or both are only noted; what is missing, or is in
    another language, can only be noted."""
    if not any(bound in entry for bound in BOUNDS):
        policy.wrong(at, f"`voice` bounds nothing: give {', '.join(f'`{bound}`' for bound in BOUNDS)}")
    wrong = [_wrong(policy, entry, at, key) for key in ("forbid", "require")]
    if any(wrong):
        return
    rewrites = entry["action"] == "rewrite"
    conditions = dict(_conditions(entry))
    if rewrites and "forbid" in entry:
        conditions.pop("forbid")
        pattern = "|".join(f"(?:{one})" for one in entry["forbid"])
        taken = Redaction(how=How.OMIT, pattern=pattern)
        yield _rule(policy, entry, at, "forbid", action=Verdict.REDACT, when="true", redaction=taken)
    if rewrites and "maxSentences" in entry:
        cut = {"text": f"firstSentences(response.text, {entry['maxSentences']})"}
        yield _rule(policy, entry, at, "length", action=Verdict.REWRITE, when=conditions.pop("length"), rewrites=cut)
    for name, when in conditions.items():
        yield _rule(policy, entry, at, name, action=Verdict.ANNOTATE, when=when, annotations={f"voice.{name}": "off"})


def _wrong(policy: Lowering, entry: Mapping[str, Any], at: Path, key: str) -> bool:
    """Say whether one of the patterns is none, and put each on the list."""
    wrong = False
    for number, pattern in enumerate(entry.get(key, ())):
        try:
            compiled(pattern)
        except ValueError as error:
            policy.wrong((*at, key, number), str(error))
            wrong = True
    return wrong


def _conditions(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each bound with the condition under which a reply breaks it."""
    if "forbid" in entry:
        yield "forbid", " || ".join(f"response.text.matches({json.dumps(p)})" for p in entry["forbid"])
    if "require" in entry:
        yield "require", " || ".join(f"!response.text.matches({json.dumps(p)})" for p in entry["require"])
    if "maxSentences" in entry:
        yield "length", f"size(sentences(response.text)) > {entry['maxSentences']}"
    if "language" in entry:
        known = json.dumps([*entry["language"], "und"])
        yield "language", f"guards.language.flagged && !(guards.language.label in {known})"


def _rule(policy: Lowering, entry: Mapping[str, Any], at: Path, name: str, **rest: Any) -> Lowered:
    holds = rest["action"] is not Verdict.ANNOTATE and policy.holds(entry, Phase.RESPONSE)
    return policy.lowered(entry, at, at, name=f"voice.{name}", phase=Phase.RESPONSE, hold=holds, **rest)
