"""Owns the request side of a walk: who calls and in which conversation, what policy makes of it, and where it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from proxy import conversation, recording, routing, tracing
from proxy.errors import BadRequest, Denied, Forbidden
from proxy.pipeline import once
from proxy.pipeline.once import Answer
from proxy.pipeline.scanning import Scanner
from proxy.pipeline.trial import Trial
from proxy.pipeline.walk import Walk
from proxy.policy import PolicySet
from proxy.redaction import Vault
from proxy.snapshot import Bundle
from proxy.stretches import apart
from proxy.terms import (
    Caller,
    Candidate,
    Decision,
    Facts,
    Headers,
    Message,
    Phase,
    Place,
    Request,
    Session,
    Span,
    Target,
    ToolCall,
    Way,
)

LARGE = 64 * 1024
"""Bytes of a body that is read in a turn of its own: some milliseconds for each MiB."""


def identify(walk: Walk) -> Answer | None:
    """Find out who calls; return what was answered if the call was made before."""
    raw, draft = walk.raw, walk.draft
    draft.trace = tracing.context(raw.headers.get("traceparent", ""), draft.id)
    draft.prices_digest = walk.snapshot.prices_digest
    draft.policy_digest = walk.policies.digest
    draft.caller = walk.caller = walk.snapshot.identify(raw, draft.at_ms)
    if once.HEADER not in raw.headers:
        return None
    room = walk.snapshot.limits.replay_bytes
    walk.once = once.Once(walk.house.answers, walk.caller.principal, raw.headers[once.HEADER], room)
    return walk.once.claim(recording.digest(raw.path.encode() + raw.body), draft.policy_digest, draft.at_ms)


async def enter(walk: Walk) -> None:
    """Decode, and find the conversation and the policies that apply."""
    raw, draft, caller = walk.raw, walk.draft, walk.caller
    if len(raw.body) > LARGE:
        await walk.house.pause(0)
    walk.request = request = walk.dialect.decode(raw)
    walk.writer = walk.dialect.writer(request, reply_id=draft.id, at_ms=draft.at_ms)
    await walk.scanner.rest()
    walk.books.take(request)
    draft.stream, draft.model_asked = request.stream, request.model
    draft.input_digest = recording.digest(raw.body)
    if caller.models and request.model not in caller.models:
        raise Forbidden("You may not ask for this model.", code="model_not_allowed", param="model")
    walk.policies = walk.policies.narrow(caller.agent, request.model, caller.tenant)
    _try(walk, walk.snapshot.candidate, caller)
    draft.computed = _read(walk, lambda policies: policies.computed)
    user = conversation.user(request, caller)
    draft.customer = conversation.customer(conversation.named(request), caller.tenant, walk.house.customer_key)
    walk.history = conversation.History(caller, (), user, _cache_key(request))
    for _ in walk.history.read(request.messages):
        await walk.scanner.rest()
    draft.session = await _session(walk)
    walk.facts = Facts(
        at_ms=draft.at_ms,
        caller=walk.leveled(draft.session.labels),
        request=request,
        session=draft.session,
        headers=_visible(walk),
        results=conversation.results(request.messages, draft.session, draft.at_ms),
        labels=draft.session.labels,
        user=user,
    )
    walk.entered = True
    if request.stream:
        # Of what is not streamed nothing is seen before its end: only its end can tell what it cost.
        walk.client.leaving(walk.policies.on_disconnect(walk.facts))
    walk.notes.issued = walk.quotas.hear(walk.snapshot.policies, walk.facts)
    if walk.policies.pins_tools:
        walk.notes.offer(request.tools)
    await walk.quotas.read(walk.policies)
    walk.facts = replace(walk.facts, totals=walk.quotas.totals)
    walk.vault = Vault(walk.house.vault_key, draft.session.id)
    if draft.session.escalation:
        raise Denied(walk.humans.owned(draft.session))
    if read := _read(walk, lambda policies: policies.spend_read):
        asked = walk.snapshot.table.asked(request.model)[0]
        walk.facts = replace(walk.facts, spend=await walk.books.spend(asked, walk.policies, walk.facts, read))


def _try(walk: Walk, bundle: Bundle | None, caller: Caller) -> None:
    """Begin to try a candidate out, if there is one."""
    if bundle:
        policies = bundle.policies.narrow(caller.agent, walk.request.model, caller.tenant)
        scanner = Scanner(bundle.guards, walk.snapshot.search, walk.house.clock, walk.house.pause)
        walk.trial = Trial(replace(bundle, policies=policies), walk.snapshot.guards, scanner)


def _read(walk: Walk, what: Callable[[PolicySet], frozenset[str]]) -> frozenset[str]:
    """Return what rules read, those of a candidate as well."""
    return what(walk.policies) | (what(walk.trial.policies) if walk.trial else frozenset())


def _visible(walk: Walk) -> Headers:
    """Return the headers that some rule reads; no rule compiles that reads a credential."""
    sent = walk.raw.headers
    return {name: sent[name] for name in headers(walk) if name in sent}


def headers(walk: Walk) -> frozenset[str]:
    """Return the names of those headers."""
    return _read(walk, lambda policies: policies.visible_headers)


async def _session(walk: Walk) -> Session:
    previous = await _previous(walk)
    name, link = conversation.claimed(walk.raw, walk.request, walk.draft.caller)
    if name:
        known = await walk.house.sessions.load(name)
        return replace(known, link=link) if known else Session(id=name, link=link)
    place, link = (previous, "previous") if previous else await _place(walk)
    if place is None:
        return Session(id=walk.house.ids.new("se"))
    known = await walk.house.sessions.load(place.session_id) or Session(id=place.session_id)
    return replace(known, turn=place.turn + 1, link=link)


async def _previous(walk: Walk) -> Place | None:
    """Return where the reply was given that the call names to go on from. Its history is the provider's, who knows only
    one caller, Handrail: whoever names a reply must be who got it."""
    request = walk.request
    if not request.previous:
        return None
    mark = conversation.reply_mark(walk.draft.caller, request.previous)
    places = await walk.house.sessions.passed(mark, walk.history.user)
    if not places:
        message = f"No reply {request.previous!r} was given to you, or not for this user."
        raise BadRequest(message, code="previous_response_not_found", param="previous_response_id")
    return places[0]


def _cache_key(request: Request) -> str:
    key = request.body.get("prompt_cache_key")
    return key if isinstance(key, str) else ""


async def _place(walk: Walk) -> tuple[Place | None, str]:
    """Return where the conversation was that goes on with this call, and what told: all of its history, or less
    that only one conversation has left."""
    sessions, history = walk.house.sessions, walk.history
    if history.end and (place := await sessions.standing(history.end.whole)):
        return place, "prefix"
    for mark in history.marks:
        if places := await sessions.passed(mark, history.user):
            if len(places) == 1:
                return places[0], "trace"
            break
    for mark in history.end.keyed if history.end else ():
        places = await sessions.passed(mark, history.user)
        if len(places) == 1 and await _stands(walk, places[0]):
            return places[0], "key"
    return None, ""


async def _stands(walk: Walk, place: Place) -> bool:
    """Say whether a conversation has not gone on from a place where it was."""
    known = await walk.house.sessions.load(place.session_id)
    return known is not None and known.turn == place.turn + 1


async def check_results(walk: Walk) -> None:
    """Judge every tool result of the request, each time: the history is the agent's own claim."""
    if not walk.asks(Phase.TOOL_RESULT):
        return
    for result in walk.facts.results:
        facts = replace(walk.facts, result=result)
        decision = await walk.check(Phase.TOOL_RESULT, subject=str(result.message), facts=facts)
        if decision.spans:
            walk.covers[result.message] = walk.vault.covers(decision.spans, result.text)


async def choose(walk: Walk, decision: Decision) -> None:
    """Strip the tools that policy strips, then pick the targets."""
    if decision.strip:
        walk.request = walk.dialect.strip_tools(walk.request, decision.strip)
        walk.books.take(walk.request)
        walk.facts = replace(walk.facts, request=walk.request)
    await _cover(walk, decision)
    if decision.rewrites:
        walk.request = walk.dialect.with_settings(walk.request, decision.rewrites)
        walk.books.take(walk.request)
    walk.books.limits = walk.policies.limits(walk.facts)
    walk.draft.route = routing.choose(
        walk.snapshot.table,
        walk.request,
        decision.way or _way(walk),
        quote=walk.books.quote,
        healthy=lambda alias: walk.house.health.healthy(alias, walk.draft.began),
        input_tokens=len(walk.raw.body) // 4,
    )


def _way(walk: Walk) -> Way | None:
    """Ask the rules that know where the call can go, where no rule has routed it yet."""
    if not walk.asks(Phase.ROUTE):
        return None
    candidates = tuple(map(partial(_candidate, walk), walk.snapshot.table.targets.values()))
    return walk.decide(Phase.ROUTE, replace(walk.facts, candidates=candidates)).way


def _candidate(walk: Walk, target: Target) -> Candidate:
    health = walk.house.health
    into, out = walk.books.rates(target)
    return Candidate(
        target=target,
        input_nanousd=into,
        output_nanousd=out,
        healthy=health.healthy(target.alias, walk.draft.began),
        p50_ms=health.median_ms(target.alias),
    )


async def _cover(walk: Walk, decision: Decision) -> None:
    """Take out of the request what policy says. The facts keep what was there: placeholders are put back before
    any rule judges the reply."""
    spans: dict[int, list[Span]] = {}
    for span in decision.spans:
        spans.setdefault(int(span.place), []).append(span)
    messages = walk.request.messages
    for number, found in spans.items():
        await walk.scanner.rest()
        # What a result was judged by is taken out first; it and the request's own rules see the same text.
        covers = [*walk.covers.get(number, ()), *walk.vault.covers(found, messages[number].text)]
        walk.covers[number] = apart(covers)
    if walk.covers:
        changed: dict[tuple[int, int], str] = {}
        for place, call in _calls(messages):
            hidden = walk.vault.hide_arguments(call.arguments)
            changed |= {} if hidden == call.arguments else {place: hidden}
            await walk.scanner.rest()
        await walk.scanner.rest()
        walk.request = walk.dialect.with_texts(walk.request, walk.covers, changed)
        if walk.vault.values:
            walk.request = walk.dialect.with_reasoning(walk.request, walk.vault.hide)
        walk.books.take(walk.request)


def targets(walk: Walk) -> Iterator[Target]:
    """Yield the targets to try, capped by `limits.max_attempts`; after the first only while its provider may get
    calls that have failed elsewhere, and only for a client that is still there."""
    house, route = walk.house, walk.draft.route
    if not route:
        return
    for number, target in enumerate(route.targets[: walk.snapshot.limits.max_attempts]):
        if number and walk.client.gone:
            return
        if not number or house.retries.take(target.provider, house.clock.monotonic_ms()):
            yield target
        else:
            route = walk.draft.route = replace(route, reason=f"{route.reason}; {target.alias} is spared retries")


def worded(walk: Walk, target: Target) -> Request:
    """Return the request as the target's provider is asked: in the client's dialect, or as a chat completion."""
    request = _bounded(walk, target)
    walk.native = request.dialect in walk.snapshot.providers[target.provider].dialects
    return request if walk.native else walk.dialect.as_chat(request)


def _bounded(walk: Walk, target: Target) -> Request:
    """Return the request with an output limit where spend limits apply: what has no bound cannot be held for, and what
    they have no room for must not be billed."""
    if walk.books.shortened:
        return walk.dialect.with_settings(walk.request, {"max_tokens": walk.books.shortened})
    if walk.request.max_output_tokens is not None or not walk.books.limits:
        return walk.request
    return walk.dialect.with_max_output(walk.request, walk.books.most_output(target))


def _calls(messages: Sequence[Message]) -> Iterator[tuple[tuple[int, int], ToolCall]]:
    """Yield every tool call of a history, by the numbers of its message and of the call in it."""
    for number, message in enumerate(messages):
        yield from (((number, place), call) for place, call in enumerate(message.tool_calls))
