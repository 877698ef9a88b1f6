"""Owns what is kept of a call because a rule asked for it: its checks, with marks where rules took something out.

What was taken out once stands nowhere: not in other messages, not in tool arguments or the reply, where values are put
back for the agent alone. What no rule takes out is kept as it was said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from proxy.kept import MOST_BYTES
from proxy.pipeline.scanning import rewritten
from proxy.recording import Draft
from proxy.redaction import Marks, Vault
from proxy.stretches import SPOKEN, apart, covered, reworded
from proxy.terms import (
    Checked,
    Chunk,
    Cover,
    Decision,
    Facts,
    How,
    Kept,
    Message,
    Obligation,
    Phase,
    Reply,
    Request,
    Result,
    ToolCall,
    Verdict,
)

T = TypeVar("T")

MOST_WORK = 2**25
"""Characters that are looked through for what rules took out, each once for each find: some 30 ms of the loop."""


def wanted(checks: Sequence[Checked]) -> bool:
    """Say whether a rule asked to keep what was known along this call."""
    return any(Obligation.RECORD in check.decision.obligations for check in checks)


def kept(draft: Draft, checks: Sequence[Checked], vault: Vault, headers: Collection[str]) -> Kept:
    """Return what is kept of a call; `headers` are those that rules could read."""
    head = Kept(
        exchange_id=draft.id, at_ms=draft.at_ms, policy_digest=draft.policy_digest, headers=tuple(sorted(headers))
    )
    size, spans = _size(checks), sum(len(check.decision.spans) for check in checks)
    if size > MOST_BYTES or size * spans > MOST_WORK:
        return replace(head, too_large=size)
    marks = _Marks(checks, vault)
    return replace(head, checks=tuple(marks.checked(check) for check in checks))


def _size(checks: Sequence[Checked]) -> int:
    """Return how many characters of text there are in all, what is shared counted once."""
    shared = {id(value): value for check in checks for value in (check.facts.request, check.facts.response) if value}
    calls = [check.facts.tool for check in checks if check.facts.tool]
    texts = [one.text for check in checks for one in (check.facts.result, check.facts.chunk) if one]
    return sum(map(len, texts)) + sum(len(call.arguments) for call in calls) + sum(map(_length, shared.values()))


def _length(value: Request | Reply) -> int:
    said = value.messages if isinstance(value, Request) else (value,)
    return sum(len(one.text) + sum(len(call.arguments) for call in one.tool_calls) for one in said)


def of_texts(draft: Draft, facts: Facts, replies: Sequence[Reply]) -> Iterator[Checked]:
    """Yield the check of each text of a reply as one step: rules say the same of it however it is cut into steps."""
    for reply in replies:
        for field in SPOKEN:
            if text := getattr(reply, field):
                chunk = Chunk(text=text, choice=reply.choice, field=field, end=len(text))
                subject = f"{reply.choice}.{field}"
                nothing = Decision(
                    id=f"{draft.id}-{Phase.CHUNK}{subject}", phase=Phase.CHUNK, verdict=Verdict.ALLOW, subject=subject
                )
                yield Checked(facts=replace(facts, chunk=chunk), decision=draft.texts.get(subject, nothing))


class _Marks:
    """What was taken out along a call, and what stands in its place."""

    def __init__(self, checks: Sequence[Checked], vault: Vault) -> None:
        self._hider = Marks()
        self._covers: dict[int, list[Cover]] = {}
        self._made: dict[int, Any] = {}
        for check in checks:
            self._take(check, vault)

    def _take(self, check: Checked, vault: Vault) -> None:
        facts, decision = check.facts, check.decision
        for span in decision.spans:
            number, text = _subject(facts, decision, span.place)
            # What is left out without a trace has one here: who reads this has to see that something stood there.
            how = How.MASK if span.how is How.OMIT else span.how
            covers = vault.covers((replace(span, how=how),), text)
            for cover in covers:
                self._hider.add(text[cover.start : cover.end], cover.text)
            if number is not None:
                self._covers.setdefault(number, []).extend(covers)

    def checked(self, check: Checked) -> Checked:
        """Return a check as it is kept. What several checks share stays the same object in all of them."""
        facts, decision = check.facts, check.decision
        clean = replace(
            facts,
            request=self._once(facts.request, self._request),
            results=self._once(facts.results, lambda results: tuple(map(self._result, results))),
            headers={name: self._text(value) for name, value in facts.headers.items()},
            result=facts.result and self._result(facts.result),
            chunk=facts.chunk and self._chunk(facts.chunk),
            tool=facts.tool and self._call(facts.tool),
            response=facts.response and self._once(facts.response, self._reply),
        )
        return Checked(facts=clean, decision=self._decision(decision))

    def _decision(self, decision: Decision) -> Decision:
        return replace(
            decision,
            message=self._text(decision.message),
            rules=tuple(replace(hit, message=self._text(hit.message)) for hit in decision.rules),
            charges=tuple(replace(one, limit=replace(one.limit, message="")) for one in decision.charges),
            rewrites=dict.fromkeys(decision.rewrites),
        )

    def _once(self, value: T, make: Callable[[T], T]) -> T:
        if id(value) not in self._made:
            self._made[id(value)] = make(value)
        return cast(T, self._made[id(value)])

    def _request(self, request: Request) -> Request:
        messages = tuple(self._message(number, message) for number, message in enumerate(request.messages))
        metadata = {name: self._text(value) for name, value in request.metadata.items()}
        return replace(request, messages=messages, metadata=metadata, user="", body={}, raw=b"")

    def _message(self, number: int, message: Message) -> Message:
        text = covered(message.text, apart(self._covers.get(number, ())))
        return replace(message, text=self._text(text), tool_calls=tuple(map(self._call, message.tool_calls)))

    def _result(self, result: Result) -> Result:
        text = covered(result.text, apart(self._covers.get(result.message, ())))
        return replace(result, text=self._text(text))

    def _chunk(self, chunk: Chunk) -> Chunk:
        text = self._text(chunk.text)
        return replace(chunk, text=text, end=len(text))

    def _reply(self, reply: Reply) -> Reply:
        said = {name: self._text(getattr(reply, name)) for name in SPOKEN}
        return replace(reply, tool_calls=tuple(map(self._call, reply.tool_calls)), **said)

    def _call(self, call: ToolCall) -> ToolCall:
        return replace(call, arguments=self._text(call.arguments))

    def _text(self, text: str) -> str:
        return self._hider.hidden(text)


def _subject(facts: Facts, decision: Decision, place: str) -> tuple[int | None, str]:
    """Return the text that a span is in, with the number of its message if it is one of the request's."""
    if facts.result:
        return facts.result.message, facts.result.text
    if facts.chunk:
        return None, facts.chunk.text
    if facts.tool:
        return None, _strings(facts.tool, decision)[place]
    if facts.response:
        told = decision.rewrites.get("text")
        field = place or "text"
        return None, getattr(facts.response, field) if told is None or field != "text" else told
    return int(place), facts.request.messages[int(place)].text


def _strings(call: ToolCall, decision: Decision) -> dict[str, str]:
    """Return every string in the arguments of a call, as rules have rewritten them, by its JSON pointer."""
    found: dict[str, str] = {}
    arguments = rewritten(call.arguments, decision.rewrites) if decision.rewrites else call.arguments
    reworded(json.loads(arguments), found.setdefault)
    return found
