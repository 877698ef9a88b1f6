"""Owns the question which conversation a call belongs to, and what calls that ran side by side know of it together.

In: headers, metadata and the message history; sessions. Out: names and digests by which a session is found; one
session. Never: a store.

A history is known again by a digest chain: the digest after each assistant message covers everything up to it, salted
with the principal and agent so that two callers can never be joined. The digest of the newest assistant message in a
request is the one that the previous exchange of the same conversation ended in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from msgspec.structs import replace

from proxy.openai_json import canonical
from proxy.terms import Caller, Issued, Message, RawRequest, Reply, Request, Result, Session

HEADER = "x-handrail-session"
METADATA_KEYS = ("session_id", "conversation_id", "thread_id")
LOOK_BACK = 8
"""How many assistant messages back a history is looked up."""


REMEMBERED_CALLS = 64
REMEMBERED_TOOLS = 128
"""As many as one request can offer (OpenAI API reference)."""


def claimed(raw: RawRequest, request: Request, caller: Caller) -> tuple[str, str]:
    """Return (session id, how it was claimed), or two empty strings when the call names no session.

    The claim is hashed with the principal: a caller can only ever name sessions of its own.
    """
    name, link = raw.headers.get(HEADER, ""), "header"
    if not name:
        name = next((request.metadata[key] for key in METADATA_KEYS if request.metadata.get(key)), "")
        link = "metadata"
    if not name:
        return "", ""
    digest = hashlib.blake2b(f"{caller.principal}\0{caller.agent}\0{name}".encode(), digest_size=16)
    return f"se_{digest.hexdigest()}", link


def user(request: Request, caller: Caller) -> str:
    """Return the digest of whom a caller names as its user, so that no two callers' users are one; else nothing."""
    named = request.user.encode()
    return hashlib.blake2b(b"\0".join((caller.principal.encode(), named)), digest_size=16).hexdigest() if named else ""


class History:
    """The digest chain of one request's messages, to be extended by the reply."""

    def __init__(self, caller: Caller, messages: Iterable[Message]) -> None:
        self._hash = hashlib.blake2b(f"{caller.principal}\0{caller.agent}".encode(), digest_size=16)
        found: list[str] = []
        for message in messages:
            self._hash.update(_canonical(message))
            if message.role == "assistant":
                found.append(self._hash.hexdigest())
        self.prefixes: tuple[str, ...] = tuple(found[: -LOOK_BACK - 1 : -1])
        """Digests at assistant messages, longest history first."""

    def extended(self, reply: Reply) -> str:
        """Return the digest that the next request of this conversation will start with."""
        end = self._hash.copy()
        end.update(_canonical(Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls)))
        return end.hexdigest()


def results(messages: Sequence[Message], session: Session, at_ms: int) -> tuple[Result, ...]:
    """Return every tool result of a history. One is verified if it answers, once, the one call of its id that Handrail
    let through: that shows that the call was made, not that its result is true."""
    return tuple(_results(messages, session, at_ms)) if any(message.role == "tool" for message in messages) else ()


def _results(messages: Sequence[Message], session: Session, at_ms: int) -> Iterator[Result]:
    called = {call.id: call.name for message in messages for call in message.tool_calls}
    answers = Counter(message.tool_call_id for message in messages if message.role == "tool")
    issued = {(call.id, call.tool): call.at_ms for call in session.issued}
    calls = Counter(call.id for call in session.issued)
    newest = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=-1)
    for number, message in enumerate(messages):
        if message.role == "tool":
            call_id, tool = message.tool_call_id, called.get(message.tool_call_id, "")
            verified = (call_id, tool) in issued and calls[call_id] == answers[call_id] == 1
            yield Result(
                tool=tool,
                call_id=call_id,
                text=message.text,
                message=number,
                verified=verified,
                age_ms=max(0, at_ms - issued[call_id, tool]) if verified else 0,
                new=number > newest,
            )


def together(known: Session, newer: Session) -> Session:
    """Return what two calls know of their conversation, which may have run side by side: neither takes away what the
    other has added, the lower level stands, and what one has settled is settled."""
    levels = [level for level in (known.level, newer.level) if level]
    tools = {**known.tools, **newer.tools, **known.tools}
    return replace(
        newer,
        turn=max(known.turn, newer.turn),
        issued=_issued(known.issued, newer.issued),
        tools=dict(islice(tools.items(), REMEMBERED_TOOLS)),
        labels=tuple(dict.fromkeys((*known.labels, *newer.labels))),
        level=min(levels, key=lambda level: level.rank, default=None),
    )


def _issued(known: Sequence[Issued], newer: Sequence[Issued]) -> tuple[Issued, ...]:
    both = {_name(call) for call in known} & {_name(call) for call in newer}
    open_ids = {booked.id for call in known for booked in call.booked}
    calls = [call for call in known if _name(call) not in both]
    for call in newer:
        left = tuple(booked for booked in call.booked if booked.id in open_ids)
        calls.append(replace(call, booked=left) if _name(call) in both else call)
    return tuple(sorted(calls, key=lambda call: call.at_ms)[-REMEMBERED_CALLS:])


def _name(call: Issued) -> tuple[str, str, int]:
    return call.id, call.tool, call.at_ms


def _canonical(message: Message) -> bytes:
    # Lengths are written before texts, so that no two different messages have the same bytes.
    text = _sized(message.role, message.text, message.tool_call_id)
    for call in message.tool_calls:
        # Some agents read the arguments and write them anew, so that the same call comes back with other spaces.
        text += _sized(call.id, call.name, canonical(call.arguments))
    return f"{text}\n".encode()


def _sized(first: str, second: str, third: str) -> str:
    return f"{len(first)}:{first}{len(second)}:{second}{len(third)}:{third}"
