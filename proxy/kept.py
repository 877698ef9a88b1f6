"""Owns how what was kept of a call is written: what several checks share stands there once, and an entry has a bound.

In: Kept. Out: bytes, and Kept again. Never: I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.terms import Checked, Decision, Facts, Kept, Reply, Request, Result

MOST_BYTES = 2**20
"""Of one entry: a longer one is kept as a note that it was too large."""
_NOTHING = Request(dialect="", model="", messages=(), body={}, raw=b"")


class _Shared:
    """Values in the order in which they first came, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[int, int] = {}

    def place(self, value: object) -> int:
        """Return where a value stands: the very same object, not an equal one."""
        if id(value) not in self._places:
            self._places[id(value)] = len(self.values)
            self.values.append(value)
        return self._places[id(value)]


class _Row(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One check, with the places of what it shares with others."""

    request: int
    results: int
    response: int
    facts: Facts
    decision: Decision


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    kept: Kept
    requests: tuple[Request, ...] = ()
    results: tuple[tuple[Result, ...], ...] = ()
    responses: tuple[Reply | None, ...] = ()
    rows: tuple[_Row, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Entry).decode


def packed(kept: Kept) -> bytes:
    """Return an entry as it is written; one that is too large says so, and has nothing else."""
    requests, results, responses = _Shared(), _Shared(), _Shared()
    rows = tuple(
        _Row(
            request=requests.place(check.facts.request),
            results=results.place(check.facts.results),
            response=responses.place(check.facts.response),
            facts=replace(check.facts, request=_NOTHING, results=(), response=None),
            decision=check.decision,
        )
        for check in kept.checks
    )
    head = replace(kept, checks=())
    whole = _Entry(
        kept=head,
        requests=tuple(requests.values),
        results=tuple(results.values),
        responses=tuple(responses.values),
        rows=rows,
    )
    entry = _encode(whole)
    return entry if len(entry) <= MOST_BYTES else _encode(_Entry(kept=replace(head, too_large=len(entry))))


def unpacked(entry: bytes | str) -> Kept:
    """Return what was kept."""
    read = _decode(entry)
    return replace(read.kept, checks=tuple(_check(read, row) for row in read.rows))


def _check(read: _Entry, row: _Row) -> Checked:
    facts = replace(
        row.facts,
        request=read.requests[row.request],
        results=read.results[row.results],
        response=read.responses[row.response],
    )
    return Checked(facts=facts, decision=row.decision)
