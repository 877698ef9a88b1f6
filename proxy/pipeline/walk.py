"""Owns the state of one walk, and the small steps that `handle` is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from proxy import conversation, handoff, recording, routing, tracing
from proxy.errors import BudgetExceeded, Denied, HandrailError, UpstreamError
from proxy.pipeline.books import UNBILLED, Books
from proxy.pipeline.house import House
from proxy.pipeline.humans import Humans, leveled
from proxy.pipeline.keeping import kept, of_texts, wanted
from proxy.pipeline.notes import Notes
from proxy.pipeline.passage import Passage, ended, spoken
from proxy.pipeline.quotas import Quotas
from proxy.pipeline.scanning import Scanner
from proxy.pipeline.trial import Trial
from proxy.policy import PolicySet, Shared, Sought
from proxy.ports import Client, UpstreamReply
from proxy.redaction import Vault
from proxy.snapshot import Bundle
from proxy.stretches import ARGUMENTS, ENDLESS, Channel, apart
from proxy.terms import (
    Caller,
    Candidate,
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
    Message,
    OnDeny,
    Phase,
    Place,
    RawRequest,
    Reply,
    Request,
    Session,
    Span,
    State,
    Target,
    ToolCall,
    Usage,
    Verdict,
    Way,
)

Part: TypeAlias = Head | Delta | End | Fault
T = TypeVar("T")

WITHHELD = (Verdict.DENY, Verdict.REQUIRE_APPROVAL, Verdict.REPLACE)
"""What becomes of calls that do not leave."""
PASSED_HEADERS = ("retry-after", "retry-after-ms", "x-request-id", "x-handrail-simulated")
DRAFT_HEADER = "x-handrail-draft"
"""On replies of an agent that may only assist: a human has to look at them."""
PASSED_PREFIXES = ("openai-", "x-ratelimit-")
STEPS_AT_ONCE = 32
"""Steps of a text that are judged without a break: some milliseconds."""
JUDGING = (Phase.CHUNK, Phase.TOOL_CALL, Phase.RESPONSE)
"""The phases that judge replies."""


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
        self.begun = False
        self.asks_again = False
        """The model was told of its calls, and is to answer once more."""
        self.explained = False
        self.ended = False
        self.verdict = Verdict.ALLOW
        self.usage: Usage | None = None
        self.reply_headers: Headers = {}
        self.policies: PolicySet = self.snapshot.policies
        self.caller: Caller
        self.request: Request
        self.facts: Facts
        self.history: conversation.History
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

    # --- request side -----------------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Identify, decode, and find the conversation and the policies that apply."""
        raw, draft = self.raw, self.draft
        draft.trace = tracing.context(raw.headers.get("traceparent", ""), draft.id)
        draft.prices_digest = self.snapshot.prices_digest
        draft.policy_digest = self.policies.digest
        draft.caller = self.caller = caller = self.snapshot.identify(raw, draft.at_ms)
        self.request = request = self.dialect.decode(raw)
        self.books.take(request)
        draft.stream, draft.model_asked = request.stream, request.model
        draft.input_digest = recording.digest(raw.body)
        self.policies = self.policies.narrow(caller.agent, request.model, caller.tenant)
        self._try(self.snapshot.candidate, caller)
        draft.computed = self._read(lambda policies: policies.computed)
        user = conversation.user(request, caller)
        self.history = conversation.History(caller, request.messages, user)
        draft.session = await self._session()
        self.facts = Facts(
            at_ms=draft.at_ms,
            caller=self._leveled(draft.session.labels),
            request=request,
            session=draft.session,
            headers=self._visible(),
            results=conversation.results(request.messages, draft.session, draft.at_ms),
            labels=draft.session.labels,
            user=user,
        )
        self.entered = True
        self.notes.issued = self.quotas.hear(self.snapshot.policies, self.facts)
        if self.policies.pins_tools:
            self.notes.offer(request.tools)
        await self.quotas.read(self.policies)
        self.facts = replace(self.facts, totals=self.quotas.totals)
        self.vault = Vault(self.house.vault_key, draft.session.id)
        if draft.session.escalation:
            raise Denied(self.humans.owned(draft.session))
        if read := self._read(lambda policies: policies.spend_read):
            asked = self.snapshot.table.asked(request.model)[0]
            self.facts = replace(self.facts, spend=await self.books.spend(asked, self.policies, self.facts, read))

    def _try(self, bundle: Bundle | None, caller: Caller) -> None:
        """Begin to try a candidate out, if there is one."""
        if bundle:
            policies = bundle.policies.narrow(caller.agent, self.request.model, caller.tenant)
            scanner = Scanner(bundle.guards, self.snapshot.search, self.house.clock, self.house.pause)
            self.trial = Trial(replace(bundle, policies=policies), self.snapshot.guards, scanner)

    def _read(self, what: Callable[[PolicySet], frozenset[str]]) -> frozenset[str]:
        """Return what rules read, those of a candidate as well."""
        return what(self.policies) | (what(self.trial.policies) if self.trial else frozenset())

    def _visible(self) -> Headers:
        """Return the headers that some rule reads; no rule compiles that reads a credential."""
        headers = self.raw.headers
        return {name: headers[name] for name in self._headers() if name in headers}

    def _headers(self) -> frozenset[str]:
        return self._read(lambda policies: policies.visible_headers)

    async def _session(self) -> Session:
        name, link = conversation.claimed(self.raw, self.request, self.draft.caller)
        if name:
            known = await self.house.sessions.load(name)
            return replace(known, link=link) if known else Session(id=name, link=link)
        place, link = await self._place()
        if place is None:
            return Session(id=self.house.ids.new("se"))
        known = await self.house.sessions.load(place.session_id) or Session(id=place.session_id)
        return replace(known, turn=place.turn + 1, link=link)

    async def _place(self) -> tuple[Place | None, str]:
        """Return where the conversation was that goes on with this call, and what told: all of its history, or less
        that only one conversation has left."""
        sessions, history = self.house.sessions, self.history
        if history.end and (place := await sessions.standing(history.end.whole)):
            return place, "prefix"
        for mark in history.marks:
            if places := await sessions.passed(mark, history.user):
                return (places[0] if len(places) == 1 else None), "trace"
        return None, ""

    # --- policy -----------------------------------------------------------------------------------------------------

    async def check(self, phase: Phase, *, subject: str = "", facts: Facts | None = None) -> Decision:
        """Run the guards that this phase's rules read, search what they look for, and decide as `decide` does."""
        facts, name = facts or self.facts, f"{self.draft.id}-{phase}{subject}"
        if not self._asks(phase):
            return Decision(id=name, phase=phase, verdict=Verdict.ALLOW)
        if self.policies.has(phase):
            await self.scanner.rest()
            facts = await self._guarded(phase, facts)
        question = self._timed(lambda: self.policies.ask(phase, facts, name, self.shared))
        self.draft.guard_ms += await self.scanner.settle(question)
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
            self.facts = replace(self.facts, labels=labels, caller=self._leveled(labels))
        if decision.level:
            self.notes.lower(decision.level)
        if decision.verdict is not Verdict.REQUIRE_APPROVAL:
            self._weigh(decision)
        return self._upheld(decision)

    def _upheld(self, decision: Decision) -> Decision:
        """Return the decision, or raise Denied where it lets nothing go on."""
        dropped_only = decision.phase is Phase.TOOL_CALL and decision.on_deny is not OnDeny.ERROR
        if decision.verdict is Verdict.ESCALATE or (decision.verdict is Verdict.DENY and not dropped_only):
            raise Denied(decision)
        return decision

    def _leveled(self, labels: Sequence[str]) -> Caller:
        """Return who calls at the level that it has in a conversation with these labels."""
        draft = self.draft
        draft.caller = leveled(self.caller, draft.session.level, self.policies.level(labels))
        return draft.caller

    def _asks(self, phase: Phase) -> bool:
        """Say whether anybody wants to know what policy says at a phase: its rules, or who looks at it afterwards."""
        tried = self.trial is not None and self.trial.policies.has(phase)
        return self.policies.has(phase) or self.policies.records or tried

    def _weigh(self, decision: Decision) -> None:
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

    async def check_results(self) -> None:
        """Judge every tool result of the request, each time: the history is the agent's own claim."""
        if not self._asks(Phase.TOOL_RESULT):
            return
        for result in self.facts.results:
            facts = replace(self.facts, result=result)
            decision = await self.check(Phase.TOOL_RESULT, subject=str(result.message), facts=facts)
            if decision.spans:
                self.covers[result.message] = self.vault.covers(decision.spans, result.text)

    # --- routing ----------------------------------------------------------------------------------------------------

    async def choose(self, decision: Decision) -> None:
        """Strip the tools that policy strips, then pick the targets."""
        if decision.strip:
            self.request = self.dialect.strip_tools(self.request, decision.strip)
            self.books.take(self.request)
            self.facts = replace(self.facts, request=self.request)
        await self._cover(decision)
        if decision.rewrites:
            self.request = self.dialect.with_settings(self.request, decision.rewrites)
            self.books.take(self.request)
        self.books.limits = self.policies.limits(self.facts)
        self.draft.route = routing.choose(
            self.snapshot.table,
            self.request,
            decision.way or self._way(),
            quote=self.books.quote,
            healthy=lambda alias: self.house.health.healthy(alias, self.draft.at_ms),
            input_tokens=len(self.raw.body) // 4,
        )

    def _way(self) -> Way | None:
        """Ask the rules that know where the call can go, where no rule has routed it yet."""
        if not self._asks(Phase.ROUTE):
            return None
        candidates = tuple(map(self._candidate, self.snapshot.table.targets.values()))
        return self.decide(Phase.ROUTE, replace(self.facts, candidates=candidates)).way

    def _candidate(self, target: Target) -> Candidate:
        health = self.house.health
        into, out = self.books.rates(target)
        return Candidate(
            target=target,
            input_nanousd=into,
            output_nanousd=out,
            healthy=health.healthy(target.alias, self.draft.at_ms),
            p50_ms=health.median_ms(target.alias),
        )

    async def _cover(self, decision: Decision) -> None:
        """Take out of the request what policy says. The facts keep what was there: placeholders are put back before
        any rule judges the reply."""
        spans: dict[int, list[Span]] = {}
        for span in decision.spans:
            spans.setdefault(int(span.place), []).append(span)
        messages = self.request.messages
        for number, found in spans.items():
            await self.scanner.rest()
            # What a result was judged by is taken out first; it and the request's own rules see the same text.
            covers = [*self.covers.get(number, ()), *self.vault.covers(found, messages[number].text)]
            self.covers[number] = apart(covers)
        if self.covers:
            changed: dict[tuple[int, int], str] = {}
            for place, call in _calls(messages):
                hidden = self.vault.hide_arguments(call.arguments)
                changed |= {} if hidden == call.arguments else {place: hidden}
                await self.scanner.rest()
            await self.scanner.rest()
            self.request = self.dialect.with_texts(self.request, self.covers, changed)
            if self.vault.values:
                self.request = self.dialect.with_reasoning(self.request, self.vault.hide)
            self.books.take(self.request)

    def targets(self) -> Sequence[Target]:
        """Return the targets to try, capped by `limits.max_attempts`."""
        route = self.draft.route
        return route.targets[: self.snapshot.limits.max_attempts] if route else ()

    def bounded(self, target: Target) -> Request:
        """Return the request with an output limit where spend limits apply: what has no bound cannot be held for."""
        if self.request.max_output_tokens is not None or not self.books.limits:
            return self.request
        return self.dialect.with_max_output(self.request, self.books.most_output(target))

    # --- reply side -------------------------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether a reply waits until it is judged: for its own rules, or since the model may have to speak again."""
        return self.policies.holds_response or (self.policies.explains and bool(self.request.tools))

    def starts(self) -> Passage:
        """Begin an attempt: what the one before used, said and ended with is not its own."""
        self.usage, self.ended, self.asks_again = None, False, False
        now_ms = self.house.clock.monotonic_ms
        self.passage = Passage(
            self.policies,
            self.vault,
            self.draft,
            hold=self.holds,
            now_ms=now_ms,
            at_once=STEPS_AT_ONCE,
            shared=self.shared,
        )
        return self.passage

    def hears(self, reply: UpstreamReply) -> None:
        """Keep what the provider's head says; only a reply with status 2xx is billed."""
        self.reply_headers = {
            name: value
            for name, value in reply.headers.items()
            if name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)
        }
        self.draft.simulated = "x-handrail-simulated" in reply.headers
        self.usage = None if 200 <= reply.status < 300 else UNBILLED

    def passes(self, passage: Passage, deltas: Sequence[Delta]) -> Iterator[Part]:
        """Take notes of deltas on their way; yield those that may leave."""
        if deltas and not self.draft.ttft_ms:
            self.draft.ttft_ms = self.house.clock.monotonic_ms() - self.draft.began
        for delta in deltas:
            # No call has no tokens at all: who says so has not counted, and the call is not free.
            if delta.usage is not None and delta.usage.input_tokens + delta.usage.output_tokens:
                self.usage = delta.usage
            if delta.model:
                self.draft.model_served = delta.model
            self.ended = self.ended or delta.final
        yield from self.release(passage.feed(deltas, self.facts))
        if passage.gate.held_bytes > self.snapshot.limits.max_reply_bytes:
            raise UpstreamError("The provider's reply is too large to be judged.", code="too_large", retryable=False)

    async def goes_on(self, passage: Passage, last: bool = False) -> AsyncIterator[Part]:
        """Judge the rest of a long text, while others have their turn in between."""
        while passage.behind:
            await self.scanner.rest()
            for part in self.release(passage.go_on(self.facts, last)):
                yield part

    async def _ends(self, passage: Passage) -> AsyncIterator[Part]:
        """Let go what has waited for more, now that nothing more comes."""
        for part in self.release(passage.close(self.facts)):
            yield part
        async for part in self.goes_on(passage, last=True):
            yield part

    def release(self, parts: Iterable[Delta | End]) -> Iterator[Part]:
        """Give parts their bytes, the head before the first of them; hide usage that the client did not ask for."""
        for part in parts:
            if isinstance(part, Delta) and part.usage_only and not self.request.usage_asked:
                continue
            if not self.begun:
                yield self._head(200)
            if isinstance(part, Delta) and not part.frame:
                yield replace(part, frame=self.dialect.encode(part, self.request))
            else:
                yield part

    def _head(self, status: int, headers: Headers | None = None) -> Head:
        self.begun = True
        for decision in self.draft.texts.values():
            self._weigh(decision)
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

    async def judge(self, passage: Passage, end: End | Fault) -> AsyncIterator[Part]:
        """Decide on the tool calls and the message, then let what was held go, or say something else in its place."""
        gate = passage.gate
        if isinstance(end, Fault):
            if self.begun:
                async for part in self._ends(passage):
                    yield part
                self.draft.ends(State.FAULT, end.status, end.code)
                end = replace(end, frame=end.frame or self.dialect.fault_frame(end, self.request))
            yield end
            return
        if not gate.clear and any(map(self.policies.has, JUDGING)):
            raise UpstreamError("The provider's reply can be read in more ways than one.", code="reply_ambiguous")
        async for part in self._ends(passage):
            yield part
        drop: dict[tuple[int, int], str] = {}
        covers: dict[Channel, list[Cover]] = {}
        replies = []
        for reply in gate.replies():
            kept = await self._judge_calls(reply, passage, drop, covers)
            if self.asks_again:
                return
            facts = replace(self.facts, response=kept)
            decision = await self.check(Phase.RESPONSE, subject=str(reply.choice), facts=facts)
            covers |= (found := passage.covers(decision, kept))
            replies.append(spoken(kept, found))
        passage.waited(self.house.clock.monotonic_ms())
        self._completes(replies)
        for part in self.release(gate.release(drop, covers)):
            yield part
        yield end

    async def _judge_calls(
        self,
        reply: Reply,
        passage: Passage,
        drop: dict[tuple[int, int], str],
        covers: dict[Channel, list[Cover]],
    ) -> Reply:
        kept, said, told = [], "", dict[str, str]()
        for call in reply.tool_calls:
            facts = replace(self.facts, tool=call, response=reply, totals=self.quotas.totals)
            decision = await self.check(Phase.TOOL_CALL, subject=f"{reply.choice}.{call.index}", facts=facts)
            # Humans approve what leaves: with what rules say in it, and without what they take out.
            leaving = replace(call, arguments=passage.arguments(decision, call))
            if decision.escalation:
                await self._hand_over(decision, facts)
            else:
                decision = await self._let_through(decision, leaving)
            if decision.verdict in WITHHELD:
                drop[reply.choice, call.index] = decision.message
                said = said or decision.message
                if decision.verdict is Verdict.DENY and decision.on_deny is OnDeny.EXPLAIN:
                    told[call.id] = decision.message
                continue
            if leaving != call:
                covers[reply.choice, ARGUMENTS, call.index] = [Cover(start=0, end=ENDLESS, text=leaving.arguments)]
            kept.append(leaving)
        self.facts = replace(self.facts, totals=self.quotas.totals)
        if told and len(told) == len(reply.tool_calls):
            self._explain(passage, reply, told)
        if len(kept) == len(reply.tool_calls):
            return replace(reply, tool_calls=tuple(kept))
        if kept:
            return replace(reply, tool_calls=tuple(kept))
        return replace(reply, tool_calls=(), finish_reason="stop", text=reply.text + said)

    def _explain(self, passage: Passage, reply: Reply, told: Mapping[str, str]) -> None:
        """Tell the model why its calls were denied, and let it answer once more: what it says then is the reply. Where
        that cannot be done, or was done before, the denial is said as any other."""
        if self.explained or self.begun or len(passage.gate.heard()) > 1:
            return
        # The provider gets back what it said: placeholders, not the values that were put in their place.
        vault = self.vault
        calls = (replace(call, arguments=vault.hide_arguments(call.arguments)) for call in reply.tool_calls)
        hidden = replace(reply, text=vault.hide(reply.text), tool_calls=tuple(calls))
        results = {
            call_id: f"This call was not carried out. {vault.hide(message)}" for call_id, message in told.items()
        }
        if request := self.dialect.with_turn(self.request, hidden, results):
            self.request, self.explained, self.asks_again = request, True, True
            self.books.take(request)

    async def _let_through(self, decision: Decision, call: ToolCall, approved: bool = False) -> Decision:
        """Return the decision as humans and totals leave it: whoever has to approve is asked once, and only what may
        leave is added to totals."""
        if decision.verdict is Verdict.REQUIRE_APPROVAL:
            decision = await self.humans.asked(decision, call, self.facts)
            approved = decision.verdict is Verdict.ALLOW
            self._weigh(decision)
        if decision.verdict in WITHHELD:
            return decision
        after = await self.quotas.take(decision, call, approved)
        if after.verdict is Verdict.REQUIRE_APPROVAL:
            return await self._let_through(after, call)
        self._weigh(after)
        return self._upheld(after)

    def _completes(self, replies: Sequence[Reply]) -> None:
        self.draft.ends(State.COMPLETE, 200)
        self.draft.tool_calls = [call.name for reply in replies for call in reply.tool_calls]
        if replies:
            self.draft.finish_reason = replies[0].finish_reason
            self.end = self.history.extended(replies[0])
        if not self.client.gone:
            self.quotas.leave()
        self.notes.issue((call, self.quotas.booked(call)) for reply in replies for call in reply.tool_calls)

    # --- endings ----------------------------------------------------------------------------------------------------

    def pass_fault(self, fault: Fault) -> Iterator[Part]:
        """Answer with the provider's failure: its own error body where it has one."""
        self.draft.ends(State.FAULT, fault.status, fault.code)
        error = UpstreamError(fault.message, status=fault.status, code=fault.code)
        yield self._head(fault.status, fault.headers)
        yield Delta(frame=fault.body or self.dialect.error_body(error))

    async def fail(self, error: HandrailError) -> AsyncIterator[Part]:
        """Answer with an error object, or with the policy's safe text where it says so; first a human gets the packet,
        where there is to be one: nobody is told of a human who knows nothing."""
        if isinstance(error, Denied) and error.decision.escalation:
            try:
                await self._hand_over(error.decision, self.facts)
            except HandrailError as trouble:
                error = trouble
        for part in self._failed(error):
            yield part

    async def _hand_over(self, decision: Decision, facts: Facts) -> None:
        found, _ = await self.scanner.search(map(Sought, handoff.looked_at(facts.request)))
        # What cannot be searched identifies nothing: the packet says what it lacks.
        await self.humans.hand_over(decision, facts, lambda text: found[Sought(text)].findings)

    def _failed(self, error: HandrailError) -> Iterator[Part]:
        if isinstance(error, Denied | BudgetExceeded):
            self.verdict = error.decision.verdict if isinstance(error, Denied) else Verdict.DENY
            self.draft.ends(State.DENIED, error.status, error.code)
        else:
            self.draft.ends(State.FAULT, error.status, error.code)
        if isinstance(error, Denied) and error.decision.on_deny is OnDeny.REPLY:
            yield from self._refuse(error.decision)
        elif self.begun:
            fault = Fault(status=error.status, type=error.type, code=error.code, message=error.message)
            yield replace(fault, frame=self.dialect.fault_frame(fault, self.request))
        else:
            yield self._head(error.status, error.headers)
            yield Delta(frame=self.dialect.error_body(error))

    def _refuse(self, decision: Decision) -> Iterator[Part]:
        self.draft.ends(State.DENIED, 200)
        self.draft.finish_reason = "content_filter"
        reply = Reply(text=decision.message, finish_reason="content_filter", model=self.request.model)
        left, said = (self.passage.left, self.passage.said) if self.passage else ((), "")
        if not self.begun and not left and (call := self.humans.by_tool(decision, self.request)):
            reply = replace(reply, text="", finish_reason="tool_calls", tool_calls=(call,))
            self.draft.finish_reason = reply.finish_reason
        owned = decision.verdict is Verdict.ESCALATE
        self.end = self.history.extended(replace(reply, text=said + reply.text), owned=owned)
        if left:
            yield from self.release([*(ended(delta, reply) for delta in left), End()])
            return
        say = self.dialect.cut if self.begun else self.dialect.compose
        usage = self.usage or (self.draft.attempts[-1].usage if self.begun else UNBILLED)
        yield from self.release(say(reply, self.request, reply_id=self.draft.id, at_ms=self.draft.at_ms, usage=usage))

    async def rehearse(self) -> None:
        """Ask a candidate what it would have decided; the reply is complete."""
        if self.trial and self.entered:
            self.draft.candidate += await self.trial.others(self._asked())
            self.draft.candidate_digest = self.trial.policies.digest

    def leave(self) -> None:
        """Queue the record and every settlement; never awaits, so that nothing can interrupt it."""
        if self.client.gone and self.draft.state is not State.DENIED:
            self.draft.ends(State.CLIENT_GONE, 499, self.draft.error)
        elif not self.draft.status:
            # Nothing has ended it and the client is still there: Handrail itself gave it up, as at shutdown.
            self.draft.ends(State.FAULT, 503, "abandoned")
        needed = dict.fromkeys(name for phase in Phase for name in self.policies.guards_needed(phase))
        exchange = self.draft.exchange(self.house.clock.monotonic_ms(), needed)
        if self.entered and self._asks(Phase.POST):
            last = self.decide(Phase.POST, replace(self.facts, outcome=recording.outcome(exchange)))
            if self.trial and self.draft.candidate_digest:
                others = self.trial.other(self.checks[-1], self.checks[-1].facts)
                exchange = replace(exchange, candidate=(*exchange.candidate, *others))
            if self.policies.has(Phase.POST):
                exchange = replace(exchange, decisions=(*exchange.decisions, last))
        if self.draft.caller.principal:
            # What nobody authenticated for is counted, not recorded: strangers must not fill the disk.
            self.house.records.finish(exchange)
            self.notes.remember()
        if self.entered:
            self.house.sessions.stand(self.history.stand(self.draft.session, self.end), self.draft.at_ms)
        self.quotas.close()
        self.books.settle()
        self.house.observe(exchange)
        if self.entered and self.policies.records and wanted(checks := self._asked()):
            self.house.records.keep(kept(self.draft, checks, self.vault, self._headers()))

    def _asked(self) -> list[Checked]:
        """Return all that was asked of policy; the texts of a reply as they were judged step by step, each whole."""
        replies = self.passage.gate.heard() if self.passage else ()
        return [*self.checks, *of_texts(self.draft, self.facts, replies)]


def _calls(messages: Sequence[Message]) -> Iterator[tuple[tuple[int, int], ToolCall]]:
    """Yield every tool call of a history, by the numbers of its message and of the call in it."""
    for number, message in enumerate(messages):
        yield from (((number, place), call) for place, call in enumerate(message.tool_calls))
