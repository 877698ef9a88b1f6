"""Owns running guards over the texts of a phase: each is given what it asks for, and its failure is kept as a fact; and
searching what rules look for.

Guards run on the loop that serves everyone, so a long text is scanned in pieces and others get their turn in between:
pieces of the text for a guard that looks for stretches, batches of the evidence for one that asks whether any supports
a claim. Nothing is left out: what cannot be scanned whole is an error, and follows the rule's onError.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from proxy.errors import code_of
from proxy.openai_json import canonical
from proxy.pipeline.searching import pieces
from proxy.policy import Question, Searched, Sought, user_text
from proxy.ports import Clock, Context, Guard
from proxy.terms import Facts, Finding, GuardResult, Json, Phase, ToolCall

BATCH = 16_384
"""Characters of evidence that a claim is held against in one go."""
TURN_MS = 5.0
"""After so long others get their turn."""
CUTS = ("\n", '",', "},", ", ", " ")
"""Where a long evidence text is cut, best first: behind what parts sentences or fields, never in a value."""


class Scanner:
    """Runs the guards of one walk."""

    def __init__(
        self,
        guards: Mapping[str, Guard],
        find: Callable[[Sought], Iterator[Searched | None]],
        clock: Clock,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._guards = guards
        self._find = find
        self._clock = clock
        self._pause = pause
        self._since = clock.monotonic_ms()

    async def scan(self, names: Sequence[str], phase: Phase, facts: Facts) -> dict[str, GuardResult]:
        """Return what each of these guards says at a phase; those that weigh the others' signals come last."""
        results: dict[str, GuardResult] = {}
        for name in sorted(names, key=lambda name: (self._guards[name].context is Context.SIGNALS, name)):
            guard = self._guards[name]
            text, context = _text(guard.context, phase, facts), _context(guard.context, phase, facts, results)
            if guard.context is Context.CALLS:
                context = [call async for call in self._calls(facts)]
            results[name] = await self._result(guard, text, context)
        return results

    async def settle(self, question: Question) -> tuple[float, float]:
        """Ask the conditions of a question, search what they need, and have it weigh what is found; return the
        milliseconds that the conditions took, and those that the rest did."""
        asked = await self._in_turns(question.asked())
        found, searched = await self.search(question.sought)
        return asked, searched + await self._in_turns(question.weigh(found))

    async def _in_turns(self, work: Iterator[None]) -> float:
        """Do something step by step, while others have their turn in between; return the milliseconds that it took."""
        took, began = 0.0, self._clock.monotonic_ms()
        for _ in work:
            took += self._clock.monotonic_ms() - began
            await self.rest()
            began = self._clock.monotonic_ms()
        return took + self._clock.monotonic_ms() - began

    async def search(self, sought: Iterable[Sought]) -> tuple[dict[Sought, Searched], float]:
        """Return what is found of all that is sought, and the milliseconds that it took."""
        found, took, began = dict[Sought, Searched](), 0.0, self._clock.monotonic_ms()
        for one in sought:
            for known in self._find(one):
                took += self._clock.monotonic_ms() - began
                await self.rest()
                began = self._clock.monotonic_ms()
                if known:
                    found[one] = known
        return found, took

    async def rest(self) -> None:
        """Let others have their turn, if the last one is some milliseconds ago."""
        if self._clock.monotonic_ms() - self._since >= TURN_MS:
            await self._pause(0)
            self._since = self._clock.monotonic_ms()

    async def _result(self, guard: Guard, text: str, context: Sequence[str]) -> GuardResult:
        findings, error, took = list[Finding](), "", 0.0
        began = self._clock.monotonic_ms()
        try:
            for known in pieces(guard, text, context) if guard.lookahead else _batches(guard, text, context):
                findings = known
                took += self._clock.monotonic_ms() - began
                await self.rest()
                began = self._clock.monotonic_ms()
        except Exception as failure:  # noqa: BLE001 a guard is a plug-in: whatever it raises follows the rule's onError
            findings, error = [], code_of(failure)
        return GuardResult(name=guard.name, version=guard.version, findings=tuple(findings), error=error, ms=took)

    async def _calls(self, facts: Facts) -> AsyncIterator[str]:
        for message in facts.request.messages:
            for call in message.tool_calls:
                yield written(call)
                await self.rest()


def _batches(guard: Guard, text: str, context: Sequence[str]) -> Iterator[list[Finding]]:
    """Scan a whole text beside one batch of evidence after another: what one of them supports is no finding."""
    batches = _batched(context) if guard.context is Context.EVIDENCE else iter([context])
    left = guard.scan(text, next(batches, ()))
    yield left
    for batch in batches if left else ():
        unsupported = set(guard.scan(text, batch))
        left = [finding for finding in left if finding in unsupported]
        yield left


def _batched(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts together until they are too long; longer ones are cut."""
    batch, size = list[str](), 0
    for text in texts:
        for part in _parts(text):
            if batch and size + len(part) > BATCH:
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += len(part)
    if batch:
        yield batch


def _parts(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > BATCH:
        places = ((text.rfind(cut, start + BATCH // 2, start + BATCH), len(cut)) for cut in CUTS)
        end = next((at + size for at, size in places if at >= 0), start + BATCH)
        yield text[start:end]
        start = end
    yield text[start:]


def _text(context: Context, phase: Phase, facts: Facts) -> str:
    if phase is Phase.TOOL_CALL and facts.tool:
        return written(facts.tool) if context is Context.CALLS else facts.tool.arguments
    if phase is Phase.TOOL_RESULT and facts.result:
        return facts.result.text
    if phase is Phase.RESPONSE and facts.response:
        return facts.response.text
    return user_text(facts.request)


def _context(context: Context, phase: Phase, facts: Facts, results: Mapping[str, GuardResult]) -> list[str]:
    if context is Context.SIGNALS:
        return [
            f"{result.name} {found.label} {found.score}" for result in results.values() for found in result.findings
        ]
    if context is Context.EVIDENCE:
        return [message.text for message in facts.request.messages if message.role in ("tool", "user")]
    if context is Context.SAID and phase is Phase.REQUEST:
        return [message.text for message in facts.request.messages if message.role == "user"][:-1]
    return []


def written(call: ToolCall) -> str:
    """Return a call as its name and its arguments as canonical JSON; what is no JSON stays as it is."""
    return f"{call.name} {canonical(call.arguments)}"


def rewritten(arguments: str, said: Mapping[str, Json]) -> str:
    """Return a call's arguments as canonical JSON, with what a rule says in the place of some of them."""
    return canonical(json.dumps({**json.loads(arguments), **said}))
