"""Owns the way of a reply's deltas through restorer and gate: its texts are judged step by step, what rules find is
covered, and what is judged may leave.

In: deltas, the facts of the call. Out: the same verdicts and texts however the deltas were sliced; on the draft one
decision for each text of which any rule said something. Never: a House, a clock of its own, or a byte.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from proxy.errors import Denied
from proxy.gate import Gate
from proxy.openai_json import canonical
from proxy.pipeline.scanning import rewritten
from proxy.policy import PolicySet, Shared
from proxy.recording import Draft
from proxy.redaction import Restorer, Vault
from proxy.stretches import ENDLESS, SPOKEN, Channel, covered, reworded
from proxy.terms import Chunk, Cover, Decision, Delta, Facts, Phase, Reply, Span, ToolCall, Verdict


class Passage:
    """The way of one attempt's reply."""

    def __init__(
        self,
        policies: PolicySet,
        vault: Vault,
        draft: Draft,
        *,
        hold: bool,
        now_ms: Callable[[], float],
        turn_ms: float = ENDLESS,
        shared: Shared | None = None,
    ) -> None:
        self._shared = shared or Shared()
        self.gate = Gate(hold=hold, reach=policies.reach)
        self.left: tuple[Delta, ...] = ()
        """What is left of an unstreamed reply that was cut."""
        self.said = ""
        """What the first choice had said when the reply was cut."""
        self.behind = False
        """More steps are due than are judged in a turn, so that others have theirs: `go_on` judges more of them."""
        self.slow = False
        """The newest turn took all of its time: what comes next should wait for a turn."""
        self._turn_ms = turn_ms
        self._turn_ends = 0.0
        self._restorer = Restorer(vault)
        self._sizes = deque[int]()
        """Bytes of what the restorer has: what it changes has no frame any more."""
        self._policies = policies
        self._vault = vault
        self._draft = draft
        self._now_ms = now_ms
        draft.texts.clear()

    def feed(self, deltas: Sequence[Delta], facts: Facts) -> Iterator[Delta]:
        """Take deltas and yield those that may leave; raise Denied where the reply ends by a rule's word."""
        now = self._begins_turn()
        for delta in deltas:
            self._sizes.append(len(delta.frame))
            for restored in self._restorer.feed(delta):
                self.gate.feed(restored, now, self._sizes.popleft())
                yield from self._leaving(facts) if self.gate.judges and not self.behind else self.gate.leaving()
        if self.gate.held_bytes:
            self.waited(now)

    def close(self, facts: Facts) -> Iterator[Delta]:
        """Yield what has waited for more to come, now that nothing does; raise Denied as `feed`."""
        now = self._begins_turn()
        for restored in self._restorer.close():
            self.gate.feed(restored, now, self._sizes.popleft())
        yield from self._leaving(facts, last=True)

    def go_on(self, facts: Facts, last: bool = False) -> Iterator[Delta]:
        """Judge more of the steps that are due; `last` as nothing more comes. Yield and raise as `feed`."""
        self._begins_turn()
        yield from self._leaving(facts, last)

    def _begins_turn(self) -> float:
        """Note until when may be judged without a break; return the time."""
        now = self._now_ms()
        self._turn_ends = now + self._turn_ms
        return now

    def waited(self, now: float) -> None:
        """Note for how long what still waits has waited."""
        self._draft.hold_ms = max(self._draft.hold_ms, now - self.gate.since(now))

    def _leaving(self, facts: Facts, last: bool = False) -> Iterator[Delta]:
        denied = self._judge(facts, last)
        if not denied:
            yield from self.gate.leaving()
            return
        left = self.gate.cut()
        self.said = next((reply.text for reply in self.gate.replies()), "")
        if self._draft.stream:
            yield from left
        else:
            self.left = tuple(left)
        raise Denied(denied)

    def _judge(self, facts: Facts, last: bool) -> Decision | None:
        """Judge the steps that are due, until the turn is over or one denies the reply; return what it says."""
        self.behind = False
        for chunk in self.gate.due(last):
            began = self._now_ms()
            if began >= self._turn_ends:
                self.behind = self.slow = True
                break
            decision = self._policies.decide(
                Phase.CHUNK,
                replace(facts, chunk=chunk),
                f"{self._draft.id}-{Phase.CHUNK}",
                shared=self._shared,
                paid=True,
            )
            ended = self._now_ms()
            self._draft.policy_ms += ended - began
            self.slow = ended >= self._turn_ends
            self.gate.cover(chunk, self._vault.covers(decision.spans, chunk.text))
            if decision.rules:
                self._note(chunk, decision)
            if decision.verdict is Verdict.DENY:
                return self._draft.texts[decision.subject]
        return None

    def _note(self, chunk: Chunk, decision: Decision) -> None:
        """Add what was said of a step to what was said of its text."""
        at, texts, subject = chunk.offset, self._draft.texts, decision.subject
        spans = tuple(replace(span, start=at + span.start, end=at + span.end) for span in decision.spans)
        new = replace(decision, id=f"{decision.id}{subject}", spans=spans)
        texts[subject] = merged(texts[subject], new) if subject in texts else new

    def covers(self, decision: Decision, reply: Reply) -> dict[Channel, list[Cover]]:
        """Return what covers the texts of a whole reply; a text that was rewritten covers all that was there."""
        told = {"text": str(decision.rewrites["text"])} if "text" in decision.rewrites else {}
        found = {}
        for field in SPOKEN:
            text = told.get(field, getattr(reply, field))
            covers = self._vault.covers([s for s in decision.spans if (s.place or "text") == field], text)
            if field in told:
                covers = [Cover(start=0, end=ENDLESS, text=covered(text, covers))]
            if covers:
                found[reply.choice, field, 0] = covers
        return found

    def arguments(self, decision: Decision, call: ToolCall) -> str:
        """Return a call's arguments with what rules say in them, and with what covers their strings: as they came where
        that changes nothing and no human reads them, else as canonical JSON."""
        arguments = rewritten(call.arguments, decision.rewrites) if decision.rewrites else call.arguments
        spans: dict[str, list[Span]] = {}
        for span in decision.spans:
            spans.setdefault(span.place, []).append(span)
        if not spans:
            # No tool reads in what a human has approved what he did not: it has one spelling.
            return canonical(arguments) if decision.verdict is Verdict.REQUIRE_APPROVAL else arguments

        def say(pointer: str, text: str) -> str:
            return covered(text, self._vault.covers(spans.get(pointer, ()), text))

        return canonical(json.dumps(reworded(json.loads(arguments), say)))


def merged(old: Decision, new: Decision) -> Decision:
    """Return what two decisions on one text come to: the heavier one, with all that both found."""
    heavier = new if new.verdict.weight > old.verdict.weight else old
    return replace(
        heavier,
        shadow_verdict=max(old.shadow_verdict, new.shadow_verdict, key=lambda verdict: verdict.weight),
        rules=tuple({(hit.id, hit.error): hit for hit in (*new.rules, *old.rules)}.values()),
        obligations=tuple(dict.fromkeys((*old.obligations, *new.obligations))),
        annotations={**new.annotations, **old.annotations},
        spans=tuple(sorted({*old.spans, *new.spans}, key=lambda span: span.start)),
    )


def spoken(reply: Reply, covers: dict[Channel, list[Cover]]) -> Reply:
    """Return a reply with what covers its texts."""
    return replace(reply, **{field: covered(getattr(reply, field), found) for (_, field, _), found in covers.items()})


def ended(delta: Delta, reply: Reply) -> Delta:
    """Return a whole reply that goes on with another one's text, and ends as that does."""
    pieces = (
        replace(piece, text=piece.text + reply.text, finish_reason=reply.finish_reason) for piece in delta.choices
    )
    return replace(delta, frame=b"", choices=tuple(pieces))
