"""Owns the question whether anything of one tenant has come to another: what was heard, held against who made it.

In: calls, bodies that the provider got, records, packets, counters. Out: each thing that is not its tenant's own, in
words. Never: a call of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from bench.security.echoing import PLACEHOLDER, cost_nanousd
from bench.security.tenants import USER, Call, spoken
from proxy.conversation import user_of
from proxy.policy.charges import told
from proxy.terms import Caller, Exchange, Level, Totals

CANARY = re.compile(rb"cn(\d\d)x[0-9a-f]{16}")
REPLY_ID = re.compile(rb'"id": ?"(echo-\d+)"')
QUOTED = re.compile(rb"<<.*?>>")
NANO = 10**9


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is stored or shown of a call."""

    what: str
    record: str
    session_id: str
    data: bytes


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a run."""

    calls: list[Call]
    sent: list[bytes]
    exchanges: list[Exchange]
    contents: list[Content]
    totals: Mapping[tuple[str, str], Totals]

    @property
    def makers(self) -> dict[str, int]:
        """Return who made the call of each record."""
        return {call.reply.decision: call.tenant for call in self.calls}

    @property
    def sessions(self) -> dict[str, set[int]]:
        """Return the tenants that are in each conversation."""
        makers, found = self.makers, defaultdict[str, set[int]](set)
        for exchange in self.exchanges:
            if exchange.id in makers:
                found[exchange.session.id].add(makers[exchange.id])
        return found


def principal(tenant: int) -> str:
    """Return who a tenant is."""
    return f"key:t{tenant:02}"


def agent(tenant: int) -> str:
    """Return the agent of a tenant, which it has in common with another."""
    return f"a{tenant // 2:02}"


def owners(data: bytes) -> set[int]:
    """Return the tenants whose canaries are in something."""
    return {int(found) for found in CANARY.findall(data)}


def reply_ids(call: Call) -> list[str]:
    """Return the ids of the provider's replies that a call got."""
    return sorted({found.decode() for found in REPLY_ID.findall(call.reply.body)})


# --- what must not be ------------------------------------------------------------------------------------------------


def in_replies(heard: Heard) -> Iterator[str]:
    """Yield the replies with a canary of another tenant, or that two tenants got."""
    getters = defaultdict[str, set[int]](set)
    for call in heard.calls:
        text = spoken(call.reply.body) if call.reply.status == 200 else ""
        others = owners(call.reply.body + call.reply.head.encode() + text.encode()) - {call.tenant}
        yield from (f"tenant {call.tenant} got a canary of {other} ({call.what})" for other in others)
        for reply_id in reply_ids(call):
            getters[reply_id].add(call.tenant)
    yield from (f"{reply_id} came to {sorted(got)}" for reply_id, got in getters.items() if len(got) > 1)


def otherwise(heard: Heard) -> Iterator[str]:
    """Yield the calls that did not get what was their own: another's approval, hand-off or answer, or not its own."""
    for call in heard.calls:
        head = call.reply.head.lower()
        got = {
            "status": call.reply.status == 200,
            "owned by a human": ("x-handrail-escalation" in head) == call.owned,
            "tool call let through": (b'"call_1"' in call.reply.body) == call.called,
            "answer said again": ("x-handrail-idempotent-replay" in head) == call.repeated,
            "text": call.reply.status != 200 or all(part in spoken(call.reply.body) for part in call.has),
        }
        yield from (
            f"tenant {call.tenant}, {call.what}: {name} is not its own" for name, fine in got.items() if not fine
        )


def upstream(heard: Heard) -> Iterator[str]:
    """Yield the requests to the provider with canaries of several tenants, and placeholders that several have."""
    seen = defaultdict[bytes, set[int]](set)
    for number, body in enumerate(heard.sent):
        found = owners(body)
        if len(found) > 1:
            yield f"request {number} has canaries of {sorted(found)}"
        for placeholder in PLACEHOLDER.findall(QUOTED.sub(b"", body)):
            seen[placeholder] |= found
    yield from (
        f"{mark.decode()} stands for values of {sorted(found)}" for mark, found in seen.items() if len(found) > 1
    )


def in_records(heard: Heard) -> Iterator[str]:
    """Yield the calls without a record of their own, conversations of several, and labels of another's."""
    makers, records = heard.makers, {exchange.id: exchange for exchange in heard.exchanges}
    for call in heard.calls:
        record = records.get(call.reply.decision)
        if record is None:
            yield f"tenant {call.tenant}, {call.what}: there is no record"
        else:
            yield from (f"{record.id} of tenant {call.tenant}: {wrong}" for wrong in _wrong(record, call))
    for record in heard.exchanges:
        # What is said again has the head of the first call: only the records tell that it is another one.
        if record.replay_of and record.caller.principal != principal(makers.get(record.replay_of, -1)):
            yield f"{record.id} of {record.caller.principal} repeats {record.replay_of}, which is another's"
    yield from (f"{name} is of {sorted(who)}" for name, who in heard.sessions.items() if len(who) > 1)


def _wrong(record: Exchange, call: Call) -> Iterator[str]:
    if record.caller.principal != principal(call.tenant) or record.caller.agent != agent(call.tenant):
        yield f"it is of {record.caller.principal}, {record.caller.agent}"
    labels = set(record.session.labels)
    if "marked" in labels and not call.marked:
        yield "another has marked it"
    if "verified" in labels and call.tenant % 2:
        yield "a result is verified whose call it never got"


def in_contents(heard: Heard) -> Iterator[str]:
    """Yield what is kept, waits or was handed over with content of another tenant."""
    makers, sessions = heard.makers, heard.sessions
    for content in heard.contents:
        maker = makers.get(content.record)
        if maker is None or sessions.get(content.session_id) != {maker}:
            yield f"{content.what} of {content.record}: nobody's, or of several"
        elif others := owners(content.data) - {maker}:
            yield f"{content.what} of {content.record}: canaries of {sorted(others)}"


def in_books(heard: Heard) -> Iterator[str]:
    """Yield the counters that are not what their own tenant's replies cost, and totals that are not its own calls."""
    wanted, calls = _billed(heard)
    for (scope, window), totals in sorted(heard.totals.items()):
        if totals.reserved_nanousd:
            yield f"{scope} {window}: {totals.reserved_nanousd} is held"
        if totals.nanousd != wanted[scope]:
            yield f"{scope} {window}: {totals.nanousd} instead of {wanted[scope]}"
    counted = {scope for scope, _ in heard.totals}
    yield from (f"{scope} was not counted" for scope in {*filter(None, wanted), *calls} - counted if wanted[scope])


def _billed(heard: Heard) -> tuple[Counter[str], set[str]]:
    """Return what each counter has to be, and the counters of tool calls."""
    sessions = {exchange.id: exchange.session.id for exchange in heard.exchanges}
    wanted, totals = Counter[str](), set[str]()
    for call in heard.calls:
        name = sessions.get(call.reply.decision, "")
        cost = 0 if call.repeated else sum(map(cost_nanousd, reply_ids(call)))
        for scope in scopes(call.tenant, name):
            wanted[scope] += cost
        if call.called:
            scope = told("desk/refund_usd", name, lambda *_: "")[0]
            wanted[scope] += NANO
            totals.add(scope)
    return wanted, totals


def digest(text: str) -> str:
    """Return what stands for a text in the books, and for a caller in rules."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def scopes(tenant: int, session_id: str) -> tuple[str, ...]:
    """Return the counters of a call, by name; the last is of all that this Handrail serves."""
    key = digest(digest(principal(tenant)))
    user = user_of(USER, Caller(agent=agent(tenant), level=Level.EXECUTE, principal=principal(tenant)))
    return f"conversation:{session_id}", f"agent:{agent(tenant)}", f"user:{user}", f"key:desk/caller:{key}", "tenant:"


Check: TypeAlias = Callable[[Heard], Iterable[str]]
CHECKS: Mapping[str, Check] = {
    "replies with anything of another tenant": in_replies,
    "calls that got another's approval, hand-off or answer, or not their own": otherwise,
    "requests to the provider that mix tenants": upstream,
    "records, conversations and labels that are another's": in_records,
    "kept calls, held actions and packets with anything of another": in_contents,
    "counters that are not their own tenant's bill": in_books,
}
