"""Owns the evidence that the checker judges: what stands in the books, in the shared ledger and on the provider's bill.

It is read with this module's own words from SQLite, Redis and JSON, with nothing of Handrail's: what shares code with
the books would repeat their mistakes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from bench.chaos.provider import Charge, Line

Pair: TypeAlias = tuple[str, str]
"""The name of a counter: scope and window."""


class Tokens(msgspec.Struct, frozen=True):
    """Of `usage` in a record, what is compared with the bill."""

    input_tokens: int = 0
    output_tokens: int = 0
    source: str = "provider"


class Money(msgspec.Struct, frozen=True):
    """`cost` in a record."""

    nanousd: int | None = None
    estimated: bool = False


class Try(msgspec.Struct, frozen=True):
    """One of `attempts` in a record."""

    reservation_id: str
    number: int
    state: str = "dispatched"
    held_nanousd: int = 0
    usage: Tokens = Tokens(source="none")
    cost: Money = Money()
    counters: tuple[Pair, ...] = ()

    @property
    def booked(self) -> int:
        """Return what the counters must have of it: what was held, where its cost was never learned."""
        return self.held_nanousd if self.cost.nanousd is None else self.cost.nanousd


class Record(msgspec.Struct, frozen=True):
    """What is read of the record of a call."""

    id: str
    state: str
    attempts: tuple[Try, ...] = ()
    cost: Money = Money()
    sent_digest: str = ""


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `counters`."""

    pair: Pair
    settled: int
    reserved: int
    tokens: int
    calls: int


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `attempts`: not settled yet."""

    reservation_id: str
    entry: str
    expires_ms: int
    held: int | None
    under: tuple[Pair, ...]
    cost: int | None


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """One SQLite file."""

    name: str
    records: tuple[Record, ...]
    """Finished calls."""
    flying: Mapping[str, tuple[int, Record]]
    """Calls in flight: until when their lease lasts, and the record so far."""
    counters: tuple[Counter, ...]
    open: tuple[Open, ...]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A counter in Redis."""

    spent: int
    held: int
    aside: int
    by_replica: Mapping[str, int]
    """What is spent, by who said so."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What replicas share in Redis."""

    counters: Mapping[str, Share]
    holds: Mapping[str, int]
    """How many holds each replica has."""
    aside: Mapping[str, int]
    """By counter, what is set aside for replicas."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a run."""

    books: tuple[Books, ...]
    bill: tuple[Charge, ...]
    at_ms: int
    """When the books were read."""
    caps: Mapping[Pair, int] = {}
    """The most that each limited counter may ever have, in nano-dollars."""
    ledger: Ledger | None = None
    once: frozenset[str] = frozenset()
    """Of calls that were sent several times under one idempotency key: what their `user` said."""
    seen_over: tuple[str, ...] = ()
    """What `over` found while the run went on."""


def read_books(path: Path) -> Books:
    """Read a SQLite file, all of one moment."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN")
        record = msgspec.json.Decoder(Record)
        pairs = msgspec.json.Decoder(tuple[Pair, ...])
        return Books(
            name=str(path),
            records=tuple(record.decode(body) for (body,) in connection.execute("SELECT body FROM exchanges")),
            flying={
                name: (expires_ms, record.decode(body))
                for name, expires_ms, body in connection.execute("SELECT exchange_id, expires_ms, body FROM dispatched")
            },
            counters=read_counters(connection),
            open=tuple(
                Open(reservation_id=name, entry=entry, expires_ms=at, held=held, under=pairs.decode(under), cost=cost)
                for name, entry, at, held, under, cost in connection.execute(
                    "SELECT reservation_id, entry, expires_ms, held_nanousd, held_under, cost_nanousd FROM attempts"
                )
            ),
        )


def read_counters(connection: sqlite3.Connection) -> tuple[Counter, ...]:
    """Read all counters."""
    rows = connection.execute("SELECT scope, window, settled_nanousd, reserved_nanousd, tokens, calls FROM counters")
    return tuple(
        Counter(pair=(scope, window), settled=settled, reserved=reserved, tokens=tokens, calls=calls)
        for scope, window, settled, reserved, tokens, calls in rows
    )


def read_bill(path: Path) -> tuple[Charge, ...]:
    """Read a provider's bill; a last line that was cut short belongs to a call that got no answer, and is none."""
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    lines = (msgspec.json.decode(line, type=Line) for line in whole.splitlines())
    return tuple(line for line in lines if isinstance(line, Charge))


def read_ledger(client: Any, name: str) -> Ledger:
    """Read a ledger by a connection of `redis`, whose replies are texts."""
    base = f"{{handrail:{name}}}"
    counters, holds, aside = {}, {}, dict[str, int]()
    for key in client.keys(base.replace("{", "\\{") + ":*"):
        kind, _, rest = key.removeprefix(f"{base}:").partition(":")
        if kind == "c":
            counters[rest] = _share(client.hgetall(key))
        elif kind == "holds":
            holds[rest] = client.hlen(key)
        elif kind == "slices":
            for counter, amount in client.hgetall(key).items():
                aside[counter] = aside.get(counter, 0) + int(amount)
    return Ledger(counters=counters, holds=holds, aside=aside)


def _share(fields: Mapping[str, str]) -> Share:
    return Share(
        spent=int(fields.get("n", 0)),
        held=int(fields.get("h", 0)),
        aside=int(fields.get("l", 0)),
        by_replica={name[2:]: int(value) for name, value in fields.items() if name.startswith("n:")},
    )


def in_redis(pair: Pair) -> str:
    """Return what the ledger calls a counter."""
    return f"{len(pair[0])}:{pair[0]}{pair[1]}"
