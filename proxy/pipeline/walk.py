"""Owns what each stage of one call leaves for the next, and the way that all of them ask policy and write parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from proxy import conversation, handoff, recording
from proxy.errors import Denied
from proxy.pipeline.books import Books
from proxy.pipeline.house import House
from proxy.pipeline.humans import Humans, leveled
from proxy.pipeline.notes import Notes
from proxy.pipeline.once import Once
from proxy.pipeline.passage import Passage
from proxy.pipeline.quotas import Quotas
from proxy.pipeline.scanning import Scanner
from proxy.pipeline.trial import Trial
from proxy.policy import PolicySet, Shared, Sought
from proxy.ports import Client, Writer
from proxy.redaction import Vault
from proxy.terms import (
    Caller,
    Checked,
    Cover,
    Decision,
    Delta,
    End,
    Facts,
    Fault,
    Head,
    Headers,
    Level,
    OnDeny,
    Phase,
    RawRequest,
    Request,
    Usage,
    Verdict,
)

Part: TypeAlias = Head | Delta | End | Fault
T = TypeVar("T")

DRAFT_HEADER = "x-handrail-draft"
"""On replies of an agent that may only assist: a human has to look at them."""


class Walk:
    """What each stage of one call left for the next."""

    def __init__(self, house: House, raw: RawRequest, client: Client) -> None:
        self.house = house
        self.client = client
        self.snapshot = house.snapshot
        self.raw = raw
        self.draft = recording.Draft(house.ids.new("ex"), raw.path, house.clock.wall_ms(), house.clock.monotonic_ms())
        self.books = Books(house, self.snapshot, self.draft, len(raw.body))
        self.humans = Humans(house, self.draft)
        self.scanner = Scanner(self.snapshot.guards, self.snapshot.search, house.clock, house.pause)
        self.quotas = Quotas(house, self.draft)
        self.notes = Notes(house, self.draft)
        self.shared = Shared()
        self.dialect = self.snapshot.dialects[raw.path]
        self.entered = False
        """It is known who calls, and what for."""
        self.writer: Writer
        """What gives the reply its bytes."""
        self.native = True
        """The provider speaks the client's dialect; else it is given, and gives, chat completions."""
        self.reply_id = ""
        """The provider's name of the reply, where a call may go on from it by that."""
        self.begun = False
        self.asks_again = False
        """The model was told of its calls, and is to answer once more."""
        self.explained = False
        self.ended = False
        self.verdict = Verdict.ALLOW
        self.usage: Usage | None = None
        self.reply_headers: dict[str, str] = {}
        self.policies: PolicySet = self.snapshot.policies
        self.caller: Caller
        self.request: Request
        self.facts: Facts
        self.history: conversation.History
        self.once: Once | None = None
        """The call may have been made before, and may be made again."""
        self.end: conversation.End | None = None
        """How the conversation ends with the reply."""
        self.vault: Vault
        self.passage: Passage | None = None
        """The way of the newest attempt's reply."""
        self.trial: Trial | None = None
        """What asks a candidate."""
        self.checks: list[Checked] = []
        """What was asked of policy along the way, for those that look at it once the reply has left."""
        self.covers: dict[int, list[Cover]] = {}
        """What is taken out of the request, by message."""

    async def check(self, phase: Phase, *, subject: str = "", facts: Facts | None = None) -> Decision:
        """Run the guards that this phase's rules read, search what they look for, and decide as `decide` does."""
        facts, name = facts or self.facts, f"{self.draft.id}-{phase}{subject}"
        if not self.asks(phase):
            return Decision(id=name, phase=phase, verdict=Verdict.ALLOW)
        if self.policies.has(phase):
            await self.scanner.rest()
            facts = await self._guarded(phase, facts)
        question = self._timed(lambda: self.policies.ask(phase, facts, name, self.shared))
        asked_ms, searched_ms = await self.scanner.settle(question)
        self.draft.policy_ms += asked_ms
        self.draft.guard_ms += searched_ms
        await self.scanner.rest()
        return self._decided(facts, self._timed(question.decision))

    def decide(self, phase: Phase, facts: Facts) -> Decision:
        """Ask policy, in a phase whose rules search nothing, and put the decision on record.

        Raises Denied where nothing may go on. A tool call that is denied or has to wait is only taken out of the reply,
        unless its rule says `onDeny: error`.
        """
        name = f"{self.draft.id}-{phase}"
        decision = self._timed(lambda: self.policies.decide(phase, facts, name, shared=self.shared))
        return self._decided(facts, decision)

    def _timed(self, work: Callable[[], T]) -> T:
        """Do what policy does, and note how long it took."""
        began = self.house.clock.monotonic_ms()
        done = work()
        self.draft.policy_ms += self.house.clock.monotonic_ms() - began
        return done

    def _decided(self, facts: Facts, decision: Decision) -> Decision:
        phase = decision.phase
        self.checks.append(Checked(facts=facts, decision=decision))
        if self.policies.has(phase):
            self.draft.decisions.append(decision)
        if decision.labels:
            labels = self.notes.label(decision.labels)
            self.facts = replace(self.facts, labels=labels, caller=self.leveled(labels))
        if decision.level:
            self.notes.lower(decision.level)
        if decision.verdict is not Verdict.REQUIRE_APPROVAL:
            self.weigh(decision)
        return self.upheld(decision)

    def upheld(self, decision: Decision) -> Decision:
        """Return the decision, or raise Denied where it lets nothing go on."""
        dropped_only = decision.phase is Phase.TOOL_CALL and decision.on_deny is not OnDeny.ERROR
        if decision.verdict is Verdict.ESCALATE or (decision.verdict is Verdict.DENY and not dropped_only):
            raise Denied(decision)
        return decision

    def leveled(self, labels: Sequence[str]) -> Caller:
        """Return who calls at the level that it has in a conversation with these labels."""
        draft = self.draft
        draft.caller = leveled(self.caller, draft.session.level, self.policies.level(labels))
        return draft.caller

    def asks(self, phase: Phase) -> bool:
        """Say whether anybody wants to know what policy says at a phase: its rules, or who looks at it afterwards."""
        tried = self.trial is not None and self.trial.policies.has(phase)
        return self.policies.has(phase) or self.policies.records or tried

    def weigh(self, decision: Decision) -> None:
        """Let a decision's verdict be that of the reply, if it is the heaviest so far."""
        if decision.verdict.weight > self.verdict.weight:
            self.verdict = decision.verdict

    async def _guarded(self, phase: Phase, facts: Facts) -> Facts:
        names = self.policies.guards_needed(phase)
        if not names:
            return facts
        results = await self.scanner.scan(names, phase, facts)
        self.draft.guards.update(results)
        self.draft.guard_ms += sum(result.ms for result in results.values())
        return replace(facts, guards=results)

    async def hand_over(self, decision: Decision, facts: Facts) -> None:
        """Give a human the conversation, with a packet of what identifies its customer."""
        found, _ = await self.scanner.search(map(Sought, handoff.looked_at(facts.request)))
        # What cannot be searched identifies nothing: the packet says what it lacks.
        await self.humans.hand_over(decision, facts, lambda text: found[Sought(text)].findings)

    def noted(self, part: Part) -> Part:
        """Take note of a part that leaves, if it may be asked for again."""
        if self.once:
            self.once.note(part)
        return part

    def release(self, parts: Iterable[Delta | End], *, written: bool = False) -> Iterator[Part]:
        """Give parts their bytes, unless they have them, and the head before the first of them; hide usage that the
        client did not ask for."""
        for part in parts:
            if isinstance(part, Delta) and part.usage_only and not self.request.usage_asked:
                continue
            if not self.begun:
                yield self.head(200)
            if isinstance(part, Delta) and not written:
                frame = self.writer.write(part, native=self.native)
                yield part if frame is part.frame else replace(part, frame=frame)
            else:
                yield part

    def head(self, status: int, headers: Headers | None = None) -> Head:
        """Begin the reply; return its head, which says what policy has decided by now."""
        self.begun = True
        for decision in self.draft.texts.values():
            self.weigh(decision)
        streamed = self.draft.stream and status == 200
        return Head(
            status=status,
            headers={
                **self.reply_headers,
                **(headers or {}),
                "content-type": "text/event-stream; charset=utf-8" if streamed else "application/json",
                "x-handrail-decision": f"{self.draft.id}-{Phase.REQUEST}",
                "x-handrail-policy": self.snapshot.policies.digest,
                "x-handrail-verdict": self.verdict,
                **self.humans.headers,
                **({DRAFT_HEADER: "true"} if self.entered and self.facts.caller.level is Level.ASSIST else {}),
            },
        )
