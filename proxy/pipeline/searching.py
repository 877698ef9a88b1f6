"""Owns finding stretches in texts of any length: piece by piece, and once for a text that comes again.

An agent sends the whole history of a conversation with each call, so nearly all of it was searched before.
In: guards, texts. Out: Findings. Never: a text kept, or a part of one; a text searched in part taken for searched.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from proxy.errors import HandrailError, TooLarge, code_of
from proxy.policy import Searched, Sought, ordered
from proxy.ports import Guard
from proxy.terms import Finding

PIECE = 4096
"""Characters of a text that are scanned in one go, and what overlaps with the next piece besides: some milliseconds of
any guard, whatever they are (bench/guard_cost.py)."""
MOST_FINDINGS = 10_000
"""More in one text are no findings but an attack on whoever reads them."""
KEPT_TEXTS, KEPT_FINDINGS = 8192, 100_000
"""So much is remembered of what was searched, some megabytes."""
_NOTHING = Searched()


class Finder:
    """Finds what some guards find, or what a pattern does."""

    def __init__(self, guards: Sequence[Guard], texts: int = KEPT_TEXTS, findings: int = KEPT_FINDINGS) -> None:
        self._guards = guards
        self._most_texts, self._most_findings = texts, findings
        self._known: OrderedDict[tuple[str, bytes], Searched] = OrderedDict()
        self._findings = 0

    def search(self, sought: Sought) -> Iterator[Searched | None]:
        """Search a text: yield None after each piece of it, at last what was found."""
        digest = hashlib.blake2b(sought.text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        key = (sought.pattern.source if sought.pattern else "", digest)
        known = self._known.get(key)
        if known is None:
            found = list[Finding]()
            try:
                for _ in self._searching(sought, found):
                    yield None
                known = ordered(found)
            except Exception as failure:  # noqa: BLE001 a guard is a plug-in: what it raises follows the rule's onError
                known = Searched(error=code_of(failure))
        self._keep(key, known)
        yield known

    def find(self, text: str) -> tuple[Finding, ...]:
        """Return what the guards find in a text, all in one go; raise HandrailError."""
        *_, known = self.search(Sought(text))
        if known is None or known.error:
            raise HandrailError("The text cannot be searched.", code=known.error if known else "")
        return known.findings

    def _searching(self, sought: Sought, found: list[Finding]) -> Iterator[None]:
        text, pattern = sought
        if pattern and not pattern.bounded:
            for finding in pattern.finds(text):
                found.append(finding)
                _bounded(found)
                yield
            return
        for guard in (pattern,) if pattern else self._guards:
            before = len(found)
            for known in pieces(guard, text, ()):
                found[before:] = known
                yield

    def _keep(self, key: tuple[str, bytes], known: Searched) -> None:
        """Remember it, and forget what was not asked for for longest."""
        self._findings += len(known.findings) - len(self._known.pop(key, _NOTHING).findings)
        self._known[key] = known
        while len(self._known) > self._most_texts or self._findings > self._most_findings:
            self._findings -= len(self._known.popitem(last=False)[1].findings)


def pieces(guard: Guard, text: str, context: Sequence[str]) -> Iterator[list[Finding]]:
    """Scan a text piece by piece; yield what was found so far. A find belongs to the first piece that has it whole, and
    the next one does not find its rest again."""
    found, reached = list[Finding](), dict[str, int]()
    for start in range(0, max(1, len(text) - guard.lookahead), PIECE):
        begin, end = max(0, start - guard.lookbehind), start + PIECE + guard.lookahead
        ends = dict(reached)
        for finding in guard.scan(text[begin:end], context):
            at, stop = finding.start + begin, finding.end + begin
            if stop == end < len(text) and at < start + PIECE:
                raise TooLarge(f"{guard.name} found something longer than it can tell.", code="too_long")
            if stop > start and at >= reached.get(finding.label, 0) and (at < start + PIECE or end >= len(text)):
                ends[finding.label] = max(stop, ends.get(finding.label, 0))
                found.append(replace(finding, start=at, end=stop) if begin else finding)
        reached = ends
        _bounded(found)
        yield found


def _bounded(found: Sequence[Finding]) -> None:
    if len(found) > MOST_FINDINGS:
        raise TooLarge(f"More than {MOST_FINDINGS} things were found.", code="too_many")
