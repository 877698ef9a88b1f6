"""Owns what rules look for in texts, and how what several rules take out is put together.

In: the texts of a phase, what was found in them. Out: what has to be searched; Spans, none overlapping another.
Never: a changed text; a text that was not searched taken for one in which nothing was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from proxy import cel
from proxy.errors import code_of
from proxy.policy.pattern import Pattern
from proxy.policy.rule import Redaction, Rule
from proxy.terms import Facts, Finding, How, Phase, Span


class Sought(NamedTuple):
    """A text, and what is looked for in it: by a pattern, or without one all that the guards of `kinds` find."""

    text: str
    pattern: Pattern | None = None


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a text, or why that cannot be told."""

    findings: tuple[Finding, ...] = ()
    error: str = ""

    def told(self) -> tuple[Finding, ...]:
        """Return what was found; raise CelError where that cannot be told."""
        if self.error:
            raise cel.CelError("guard", f"the text cannot be searched: {self.error}")
        return self.findings


Found: TypeAlias = Mapping[Sought, Searched]
NOT_SEARCHED = Searched(error="not_searched")


def ordered(found: Iterable[Finding]) -> Searched:
    """Return what was found, first things first, of those the longest first."""
    return Searched(findings=tuple(sorted(found, key=lambda finding: (finding.start, -finding.end))))


def searched(scan: Callable[[], Iterable[Finding]]) -> Searched:
    """Return what a scan comes to; what it raises is kept as a fact."""
    try:
        return ordered(scan())
    except cel.CelError as error:
        return Searched(error=str(error))
    except Exception as error:  # noqa: BLE001 a guard is a plug-in: whatever it raises follows the rule's onError
        return Searched(error=code_of(error))


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled Redaction."""

    redaction: Redaction
    kinds: frozenset[str]
    pattern: Pattern | None = None
    """In place of kinds."""
    allow: cel.Program | None = None

    def findings(self, text: str, found: Found) -> Sequence[Finding]:
        """Return what the rule is about, whatever it allows; raise CelError where that was not found out."""
        known = found.get(Sought(text, self.pattern), NOT_SEARCHED).told()
        return known if self.pattern else [one for one in known if one.label in self.kinds]


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
        if one.start >= len(covered):  # Nothing is covered there yet, as nearly always: it is kept as it is.
            covered.extend(bytes(one.start - len(covered)))
            covered.extend(b"\x01" * (one.end - one.start))
            pieces.append(one)
            continue
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
