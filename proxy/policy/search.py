"""Owns what a rule looks for in texts, and how what several rules take out is put together.

In: the texts of a phase, what guards find in them. Out: Spans, none overlapping another. Never: a changed text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from proxy import cel
from proxy.policy.rule import Redaction, Rule
from proxy.terms import Facts, Finding, How, Phase, Span

PATTERN = "pattern"
"""The kind of what a pattern finds."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled Redaction."""

    redaction: Redaction
    kinds: frozenset[str]
    pattern: Any = None
    """A compiled RE2 pattern."""
    allow: cel.Program | None = None

    def findings(self, text: str, find: Callable[[str], Sequence[Finding]]) -> Iterator[Finding]:
        """Yield what the rule is about, whatever it allows; raise CelError."""
        if self.pattern is None:
            yield from (found for found in find(text) if found.label in self.kinds)
            return
        # A lone surrogate cannot be encoded for RE2; a question mark stands at its place.
        for match in self.pattern.finditer(text.encode("utf-8", "replace").decode()):
            if match.end() > match.start():
                yield Finding(guard=PATTERN, label=PATTERN, start=match.start(), end=match.end())


def texts(phase: Phase, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of each text that a phase is about."""
    if phase is Phase.TOOL_RESULT and facts.result:
        yield "", facts.result.text
    elif phase is Phase.RESPONSE and facts.response:
        yield "", facts.response.text
        yield "reasoning", facts.response.reasoning
        yield "refusal", facts.response.refusal
    elif phase is Phase.CHUNK and facts.chunk:
        yield "", facts.chunk.text
    else:
        yield from ((str(number), message.text) for number, message in enumerate(facts.request.messages))


def counts(phase: Phase, facts: Facts, found: Finding) -> bool:
    """Say whether a finding is of this step: what begins in another step of the text counts there. Raise CelError for
    one that may go on beyond what is seen of the text: it cannot be told where it ends."""
    chunk = facts.chunk
    if phase is not Phase.CHUNK or chunk is None:
        return True
    counted = chunk.start <= found.start < chunk.end
    if counted and found.end == len(chunk.text) and not chunk.final:
        raise cel.CelError("guard", "what was found is longer than a rule of phase chunk can see")
    return counted


def span(rule: Rule, how: How, place: str, found: Finding) -> Span:
    """Return the stretch that a finding is."""
    return Span(rule=rule.id, kind=found.label, how=how, start=found.start, end=found.end, place=place)


def apart(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans sorted and without overlap: of a later one stays what no earlier one covers."""
    taken: dict[str, bytearray] = {}
    pieces: list[Span] = []
    for one in spans:
        covered = taken.setdefault(one.place, bytearray())
        covered.extend(bytes(max(0, one.end - len(covered))))
        for start, end in _free(covered, one.start, one.end):
            covered[start:end] = b"\x01" * (end - start)
            pieces.append(msgspec.structs.replace(one, start=start, end=end))
    return tuple(sorted(pieces, key=lambda piece: (len(piece.place), piece.place, piece.start)))


def _free(covered: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches that are not covered yet."""
    while (begin := covered.find(0, start, end)) >= 0:
        start = covered.find(1, begin, end)
        start = end if start < 0 else start
        yield begin, start
