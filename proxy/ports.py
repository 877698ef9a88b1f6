"""Owns the Protocols of the outside world and of the plug-in shelves.

In: nouns. Out: the shapes that doors and plug-ins implement. Never: an implementation.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from proxy.errors import HandrailError
from proxy.terms import (
    Cover,
    Delivery,
    Delta,
    End,
    Exchange,
    Fault,
    Finding,
    Handoff,
    Headers,
    Held,
    HeldState,
    Json,
    Kept,
    OnDisconnect,
    Place,
    RawRequest,
    Reply,
    Request,
    Reservation,
    Row,
    Selection,
    Session,
    Settlement,
    Stand,
    Table,
    Target,
    Totals,
    UpstreamCall,
    Usage,
    Waiting,
)


class Clock(Protocol):
    """Time, read at the doors and passed on as values."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""

    def monotonic_ms(self) -> float:
        """Return milliseconds of a clock that never jumps, for durations."""


class Ids(Protocol):
    """Source of unique names."""

    def new(self, prefix: str) -> str:
        """Return `prefix_` and 32 hexadecimal digits, of which 20 at least are random: never the same twice."""


class UpstreamReply(Protocol):
    """A provider's reply whose head has arrived."""

    @property
    def status(self) -> int:
        """Return the HTTP status."""

    @property
    def headers(self) -> Headers:
        """Return the headers, lower-cased."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raise UpstreamError when it is cut, stalls or breaks the protocol."""


class Upstream(Protocol):
    """The connection to providers."""

    def send(self, call: UpstreamCall) -> AbstractAsyncContextManager[UpstreamReply]:
        """Send one call; entering raises UpstreamError when no head arrives in time; leaving always closes."""


class BudgetStore(Protocol):
    """Holds and totals, atomic across every process that shares the store."""

    async def reserve(self, reservation: Reservation, at_ms: int) -> None:
        """Hold the amount under every limit or under none; raise BudgetExceeded naming the first that has no room.
        What is `booked` is not held but used."""

    def settle(self, settlement: Settlement, at_ms: int) -> None:
        """Release the hold and add what was used, exactly once per reservation id; queued, never awaited."""

    async def totals(self, counters: Sequence[tuple[str, str]]) -> list[Totals]:
        """Return the totals of (scope, window) pairs, zeros where nothing was spent."""


class RecordSink(Protocol):
    """Where exchanges are written."""

    async def dispatch(self, exchange: Exchange) -> None:
        """Write the exchange with its newest attempt DISPATCHED; returns only when `write()` has returned."""

    def finish(self, exchange: Exchange) -> None:
        """Write the finished exchange over the dispatched one; queued, never awaited."""

    def keep(self, kept: Kept) -> None:
        """Write what policy knew along a call, as much as an entry may have; queued, never awaited."""


class SessionStore(Protocol):
    """Which conversation a history belongs to."""

    async def standing(self, end: str) -> Place | None:
        """Return where a conversation stands that has not gone on from this end. Of several their histories are the
        same: return the newest, and never again before it stands here anew."""

    async def passed(self, mark: str, user: str) -> list[Place]:
        """Return where conversations left this mark in calls of this user or of nobody named; of more than two, two."""

    def stand(self, stand: Stand, at_ms: int) -> None:
        """Write where a call leaves its conversation: it stands nowhere else; queued, never awaited."""

    async def load(self, session_id: str) -> Session | None:
        """Return a session by its id; its `escalation` is the id of its open hand-off."""

    def save(self, session: Session, at_ms: int) -> None:
        """Add what one call knows of a session beyond its records to what others have saved, as
        `conversation.together` does; queued, never awaited."""


class AuditLog(Protocol):
    """The log that shows when it was changed. What writes an entry is given the entry's salt."""

    def note(self, write: Callable[[bytes], dict[str, Json]]) -> None:
        """Put down an entry; queued, never awaited, never refused."""

    def ensure(self, write: Callable[[bytes], dict[str, Json]]) -> Awaitable[None]:
        """Put down an entry now, and return what to wait for: where the log is required, that it is on disk. Raise
        Overloaded, now or there, when it cannot be."""


class Rulings(Protocol):
    """What humans see of what waits for them, and what they do about it."""

    async def decide(self, held_id: str, state: HeldState, by: str, note: str, at_ms: int) -> Held | None:
        """Approve or deny a pending action; return it as it stands then, None if there is no such action."""

    async def held(self, state: HeldState | None, limit: int) -> list[Held]:
        """Return actions, newest first; None: in whatever state."""

    async def handoffs(self, open_only: bool, limit: int) -> list[Handoff]:
        """Return packets, newest first."""

    async def close_handoff(self, handoff_id: str, by: str, at_ms: int) -> Handoff | None:
        """Give a conversation back to its agent; return the packet, None if there is no such packet."""


class Desk(Rulings, Protocol):
    """What waits for a human: held actions, and conversations that were handed over."""

    async def hold(self, held: Held) -> Held:
        """Put an action down, unless one with its key is pending or approved and not expired: then return that one."""

    async def use(self, key: str, at_ms: int) -> Held | None:
        """Return the newest action with this key as it stands at this time, EXPIRED included; an approved one is
        taken, and stands as USED from then on: whoever gets it back as APPROVED has it to himself."""

    async def hand_over(self, handoff: Handoff) -> Handoff:
        """Write the packet and queue its delivery; where the conversation has an open one, return that instead."""

    async def due(self, at_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, oldest first."""

    async def delivered(self, handoff_id: str, at_ms: int) -> None:
        """Take a delivery off the queue."""

    async def postpone(self, handoff_id: str, due_ms: int, error: str) -> None:
        """Note that a delivery failed, and when to try again."""


class Tier(Protocol):
    """One place where records are kept for long: every table of Handrail is in every tier."""

    name: str
    """`local`, `hot`, `warm` or `cold`."""

    def rows(self, which: Selection) -> AsyncIterator[Row]:
        """Yield the rows that are selected, of each id the newest, table by table, oldest first; raise Overloaded when
        the tier cannot be reached."""

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        """Delete the rows of what happened earlier, or with `dry_run` none; return how many they are."""

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        """Delete the rows that are selected, older versions as well, beyond recovery from the tier itself; return how
        many there were of each table."""

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        """Return in how many places of the tier each needle still occurs: in columns, in bodies, and as far as the
        tier's own files can be read, in those."""


class Shelf(Tier, Protocol):
    """A tier that rows are shipped to."""

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep rows, of each id the newest; what was written before may come again. Raise Overloaded when they are not
        all written: then any of them may be."""


class Spool(Protocol):
    """What waits on disk for one shelf, in the order in which it was written."""

    def turn(self) -> AbstractAsyncContextManager[bool]:
        """Say whether it is this process's turn to ship, as it is of one at a time, until the body ends."""

    async def waiting(self, limit: int) -> Waiting:
        """Return at most so many rows, as they are now; raise Overloaded when they cannot be read."""

    async def shipped(self, upto: int) -> None:
        """Note what the shelf has; raise Overloaded when that cannot be written: then it comes again."""

    async def pending(self) -> tuple[int, int]:
        """Return how many rows wait, and of when the oldest is in milliseconds since the Unix epoch, 0 without one."""


class Decoder(Protocol):
    """Turns one reply's bytes into deltas; one per attempt."""

    @property
    def over(self) -> bool:
        """Whether the reply has failed, whatever else comes: it need not be read on."""

    def feed(self, data: bytes) -> list[Delta]:
        """Take bytes in any slicing and return the events that are complete."""

    def close(self) -> tuple[list[Delta], End | Fault]:
        """Return what was still incomplete (an unstreamed reply is complete only now), and how the reply ended."""


class Provider(Protocol):
    """One wire format of one provider (a file in `providers/`)."""

    name: str
    dialects: frozenset[str]
    """The inbound dialects that it speaks itself; a request in any other comes to it as a chat completion."""

    def encode(self, request: Request, target: Target) -> UpstreamCall:
        """Return the HTTP call; raise BadRequest naming a field that the provider cannot express."""

    def decoder(self, request: Request, headers: Headers, at_ms: int) -> Decoder:
        """Return a decoder for a reply with status 2xx, which was asked for at this time."""

    def error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Return the fault for a reply with another status."""


class Guard(Protocol):
    """One detector (a file in `guards/`): pure, local, bounded."""

    name: str
    version: str
    labels: tuple[str, ...]
    """Every label that its findings can have."""
    context: Context
    """What it wants to know besides the text."""
    lookbehind: int
    """Characters before a match that decide whether it is one."""
    lookahead: int
    """The longest match in characters, and what after it decides; 0: it judges whole texts only."""

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return what was found in `text`; `context` is as `self.context` says, newest last."""


class Priced(Guard, Protocol):
    """A guard that policies can call as a function, and whose labels they can look for."""

    lookaheads: Mapping[str, int]
    """Of each label what `lookahead` is of them all."""

    def most_us(self, text: str) -> int:
        """Return the most microseconds of CPU that a scan takes, told without scanning."""


class Context(enum.StrEnum):
    """What a guard is given besides the text."""

    SAID = "said"
    """Earlier texts of the same speaker."""
    EVIDENCE = "evidence"
    """The texts of the conversation's tool results, and of the user."""
    CALLS = "calls"
    """The conversation's earlier tool calls, each as `name canonical-arguments`."""
    SIGNALS = "signals"
    """What the phase's other guards said, each as `name label score`."""


class Estimator(Protocol):
    """Token counts where the provider gave none."""

    def count(self, text: str) -> tuple[int, bool]:
        """Return tokens and whether a tokenizer counted them (else a byte estimate); never blocks for loading."""


class Client(Protocol):
    """The connection that a call came in on, as far as the hallway may know it."""

    gone: bool
    given_up: str
    """Why the call was ended after its client had left: a code; empty while it goes on."""

    def leaving(self, then: OnDisconnect) -> None:
        """Say what becomes of the call when its client leaves, or if it has left; until this is said it is drained."""


class Dialect(Protocol):
    """One inbound wire format (a file in `wire/`)."""

    def decode(self, raw: RawRequest) -> Request:
        """Return the request; raise BadRequest naming the field at fault."""

    def strip_tools(self, request: Request, names: Collection[str]) -> Request:
        """Return the request without these tools."""

    def with_texts(
        self, request: Request, texts: Mapping[int, Sequence[Cover]], arguments: Mapping[tuple[int, int], str]
    ) -> Request:
        """Return the request with stretches of its messages' texts covered, and with other arguments in calls of its
        history: by message index, and by (message index, place among its calls)."""

    def with_reasoning(self, request: Request, say: Callable[[str], str]) -> Request:
        """Return the request with what `say` makes of the reasoning that its history brings back."""

    def with_settings(self, request: Request, settings: Mapping[str, Json]) -> Request:
        """Return the request with `instructions` (a text), `max_tokens` or `temperature` as a rule says them."""

    def with_turn(self, request: Request, reply: Reply, results: Mapping[str, str]) -> Request | None:
        """Return the request with the model's message and, by call id, what became of its calls; None if it cannot be
        written."""

    def with_max_output(self, request: Request, tokens: int) -> Request:
        """Return the request with an output limit, where the client gave none."""

    def as_chat(self, request: Request) -> Request:
        """Return the request as a chat completion, for a provider that does not speak this dialect; raise BadRequest
        naming a field that chat completions cannot express."""

    def writer(self, request: Request, *, reply_id: str, at_ms: int) -> Writer:
        """Return what gives the reply to this request its bytes."""

    def error_body(self, error: HandrailError) -> bytes:
        """Return the error object of this dialect."""


class Writer(Protocol):
    """Gives one reply its bytes, as clients of a dialect read them: it sees all that leaves, in order."""

    def write(self, delta: Delta, *, native: bool) -> bytes:
        """Return the bytes of a delta: of one that is native to this dialect its frame, unless it was changed; any
        other is a chat completion's, and is said in this dialect."""

    def end(self) -> bytes:
        """Return what is to be said once nothing more comes."""

    def compose(self, reply: Reply, usage: Usage) -> list[Delta | End]:
        """Return a whole reply that Handrail makes itself, frames filled, streamed if the request is."""

    def cut(self, reply: Reply, usage: Usage) -> list[Delta | End]:
        """Return the end of a stream that has begun: the safe text, its finish reason, usage and end marker."""

    def fault(self, fault: Fault) -> bytes:
        """Return the bytes that tell a client mid-stream that the reply failed."""
