"""Owns the question which conversation a call belongs to, and what calls that ran side by side know of it together.

In: headers, metadata and the message history; sessions. Out: names and digests by which a session is found; one
session. Never: a store.

A call without a name goes on with the conversation whose history it brings along. Every reply leaves digests of what
the next call will show of it, all salted with the principal, agent and tenant, so that two callers can never be joined:

- its *end* covers all: every message, the system prompts among them, and whom the request names as its user. Where
  several conversations stand at one end, nothing tells them apart, and nothing need: each goes on once.
- its *marks* cover less. One is of all messages without system prompts, which change with the clock, with what was
  retrieved and from agent to agent. The other is of the reply's tool calls, whose ids hardly ever come twice, or of how
  it begins and the few messages before: all that is left of a history cut short, by an agent that puts something under
  each reply. A mark tells a conversation only as long as no other has left it, and a mere `hi` leaves none, unless it
  brought in a human.

A `prompt_cache_key` names no conversation: many agents send one for all of theirs. But calls that have one leave their
marks, and that of all messages in any case, once more together with it. These are asked last, and tell a conversation
only if no other has left them and it has not gone on since: then both have said the same under one key.

Where nothing tells, the call begins a conversation of its own: one that is split loses what it had; one that is taken
for another's gets what was never its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
from msgspec.structs import replace

from proxy.openai_json import canonical
from proxy.terms import Caller, Issued, Message, RawRequest, Reply, Request, Result, Session, Stand

HEADER = "x-handrail-session"
METADATA_KEYS = ("session_id", "conversation_id", "thread_id")
USER_KEYS = ("user_id", "customer_id")
CUSTOMER_DIGITS = 32
SETTING = frozenset(("system", "developer"))
"""Roles that set the scene of a conversation and are not part of it."""
LOOK_BACK = 8
"""How many assistant messages back a history is looked up."""
NEWEST = 3
"""How many messages before a reply tell a conversation whose older ones are gone: one question is asked too often."""
BEGINNING = 24
"""How many characters of a reply tell, after these, that it is the one that was given."""
OPENING = 16
"""Where users have said less than so many characters and nobody is named, anybody may have said it: no mark is left."""


REMEMBERED_CALLS = 64
REMEMBERED_TOOLS = 128
"""As many as one request can offer (OpenAI API reference)."""


def claimed(raw: RawRequest, request: Request, caller: Caller) -> tuple[str, str]:
    """Return (session id, how it was claimed), or two empty strings when the call names no session.

    The claim is hashed with who makes it: a caller can only ever name sessions of its own.
    """
    name, link = raw.headers.get(HEADER, ""), "header"
    if not name:
        name = next((request.metadata[key] for key in METADATA_KEYS if request.metadata.get(key)), "")
        link = "metadata"
    if not name:
        return "", ""
    return f"se_{_digest(_salted(caller, name)).hexdigest()}", link


def reply_mark(caller: Caller, reply_id: str) -> str:
    """Return the mark that a reply leaves by its provider's name for it; of another caller's it is another."""
    return _digest(_salted(caller, f"reply {reply_id}")).hexdigest()


def named(request: Request) -> str:
    """Return whom a call names as its user, nothing where it names nobody."""
    return request.user or next((request.metadata[key] for key in USER_KEYS if request.metadata.get(key)), "")


def user(request: Request, caller: Caller) -> str:
    """Return the digest of whom a caller names as its user, so that no two callers' users are one; else nothing."""
    return user_of(named(request), caller)


def user_of(name: str, caller: Caller) -> str:
    """Return the digest of a user by the name that a principal gives; nothing of nobody."""
    said = _sized(caller.principal, caller.tenant, name).encode("utf-8", "surrogatepass")
    return _digest(said).hexdigest() if name else ""


def customer(name: str, tenant: str, key: bytes) -> str:
    """Return the digest of a customer, the same whichever caller of a tenant gives this name; nothing of nobody.

    Only links are made of it, never budgets or stitching: what a caller claims must not reach what is another's. It is
    keyed, for an e-mail address that is merely hashed can be guessed.
    """
    if not name:
        return ""
    said = _sized(tenant, name, "").encode("utf-8", "surrogatepass")
    return f"cu_{hmac.digest(key, said, hashlib.sha256).hex()[:CUSTOMER_DIGITS]}"


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversation is known by after a message of the assistant."""

    whole: str
    marks: tuple[str, ...]
    keyed: tuple[str, ...] = ()
    """Marks that only a call with the same `prompt_cache_key` can leave or find."""


class History:
    """The digests of one request's messages, to be extended by the reply."""

    def __init__(self, caller: Caller, messages: Sequence[Message], user: str = "", key: str = "") -> None:
        self.user = user
        self._key = key
        self._salt = _salted(caller)
        self._said = _digest(self._salt)
        self._setting = _digest(self._salt)
        self._newest: deque[bytes] = deque(maxlen=NEWEST)
        self._heard = 0
        """How much users have said, in characters."""
        self.end: End | None = None
        """Where the conversation stood when it got its newest reply."""
        self.marks: tuple[str, ...] = ()
        """Of where it has been, the most telling first."""
        for _ in self.read(messages):
            pass

    def extended(self, reply: Reply, *, owned: bool = False) -> End:
        """Return what the conversation is known by after this reply; one that a human owns is marked in any case."""
        return self._end(Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls), owned)

    def stand(self, session: Session, end: End | None) -> Stand:
        """Return where the call leaves its session: at its end, or without a reply where it was before."""
        stands, turn = (end, session.turn) if end else (self.end, session.turn - 1)
        return Stand(
            session_id=session.id,
            turn=turn,
            user=self.user,
            end=stands.whole if stands else "",
            marks=(*end.marks, *end.keyed) if end else (),
        )

    def read(self, messages: Sequence[Message]) -> Iterator[None]:
        """Take the messages of a request, one at a time: a history can be long."""
        replies = [number for number, message in enumerate(messages) if message.role == "assistant"][-LOOK_BACK - 1 :]
        older: list[str] = []
        for number, message in enumerate(messages):
            if replies and number == replies[-1]:
                self.end = self._end(message, True)
                self.marks = (*self.end.marks, *(() if message.tool_calls else reversed(older)))
            self._take(message)
            if message.tool_calls:
                # Nobody writes these anew: a conversation that does not know them is another one.
                older.clear()
            if number in replies and not self.end:
                older += [self._said.hexdigest()] if self._tells() else []
            yield

    def _take(self, message: Message) -> None:
        text = _canonical(message)
        if message.role in SETTING:
            self._setting.update(text)
            return
        self._said.update(text)
        self._newest.append(text)
        self._heard += len(message.text) if message.role == "user" else 0

    def _end(self, message: Message, sure: bool) -> End:
        """Return how the conversation would end with a message of the assistant."""
        said = self._said.copy()
        said.update(_canonical(message))
        all_said = said.hexdigest()
        whole = _digest(f"{all_said}{self._setting.hexdigest()}{self.user}".encode()).hexdigest()
        recent = self._recent(message)
        keyed = tuple(map(self._keyed, (all_said, *recent))) if self._key else ()
        return End(whole=whole, marks=(*((all_said,) if sure or self._tells() else ()), *recent), keyed=keyed)

    def _keyed(self, mark: str) -> str:
        return _digest(f"{mark}{self._key}".encode("utf-8", "surrogatepass")).hexdigest()

    def _recent(self, message: Message) -> tuple[str, ...]:
        """Return the mark of a message's calls, or of how it begins after the newest messages, if that is enough."""
        if message.tool_calls:
            parts = [b"calls", _canonical(replace(message, text=""))]
        elif self._tells() or len(self._newest) == NEWEST:
            parts = [b"begins", *self._newest, message.text.strip()[:BEGINNING].encode()]
        else:
            return ()
        return (_digest(self._salt + b"".join(parts)).hexdigest(),)

    def _tells(self) -> bool:
        """Say whether what was said so far is surely more than an opening."""
        return bool(self.user) or self._heard >= OPENING


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
    # Clients trim the replies that they keep.
    text = _sized(message.role, message.text.strip(), message.tool_call_id)
    for call in message.tool_calls:
        # Some agents read the arguments and write them anew, so that the same call comes back with other spaces.
        text += _sized(call.id, call.name, canonical(call.arguments))
    return f"{text}\n".encode()


def _salted(caller: Caller, text: str = "") -> bytes:
    """Return a text as it is this caller's alone. Handrails of several tenants may share a store, and each has its
    `local`."""
    return f"{_sized(caller.principal, caller.agent, caller.tenant)}{text}".encode("utf-8", "surrogatepass")


def _digest(data: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)


def _sized(first: str, second: str, third: str) -> str:
    return f"{len(first)}:{first}{len(second)}:{second}{len(third)}:{third}"
