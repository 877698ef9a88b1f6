"""Owns the proof of proxy/app/asking.py: all tiers are asked, and one that is away is no empty answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping

import msgspec

from proxy.app.asking import erase, gather, search
from proxy.errors import Overloaded
from proxy.ports import Tier
from proxy.terms import Link, Row, Selection, Table
from tests.stores.samples import exchange


def call(name: str, session: str, version: int = 1) -> Row:
    """Make the row of a call."""
    body = msgspec.json.encode(exchange(name, session=session))
    return Row(table=Table.EXCHANGES, id=name, version=version, at_ms=1, session_id=session, body=body)


def link(customer: str, session: str) -> Row:
    """Make the row of a link."""
    noun = Link(customer=customer, session_id=session, channel="a", first_ms=1, last_ms=1)
    name, body = f"{customer}:{session}", msgspec.json.encode(noun)
    return Row(table=Table.LINKS, id=name, version=1, at_ms=1, session_id=session, customer=customer, body=body)


class Listed:
    """A tier of some rows; one that is away has none to give."""

    def __init__(self, name: str, *rows: Row, away: bool = False) -> None:
        self.name = name
        self.held = list(rows)
        self._away = away

    async def rows(self, which: Selection) -> AsyncIterator[Row]:
        """Yield the rows of these conversations, and those that say themselves that they are of these customers."""
        self._reach()
        for row in self.held:
            if row.session_id in which.sessions or row.customer in which.customers:
                yield row

    async def purge(self, table: Table, before_ms: int, *, dry_run: bool) -> int:
        """Delete nothing: nobody asks here."""
        return 0

    async def erase(self, which: Selection) -> Mapping[Table, int]:
        """Delete the rows of these conversations."""
        self._reach()
        gone = [row for row in self.held if row.session_id in which.sessions]
        self.held = [row for row in self.held if row not in gone]
        return {Table.EXCHANGES: len(gone)}

    async def search(self, needles: Collection[str]) -> Mapping[str, int]:
        """Count the rows with each needle."""
        self._reach()
        return {needle: sum(needle.encode() in msgspec.json.encode(row) for row in self.held) for needle in needles}

    def _reach(self) -> None:
        if self._away:
            raise Overloaded(f"{self.name} is away.")


def tiers() -> dict[str, Tier]:
    """Make three tiers: a link in one leads to calls in another, whose newest version is in the first."""
    warm = Listed("warm", link("cu_1", "s"), call("ex_1", "s"), call("ex_2", "t"))
    every: tuple[Tier, ...] = (Listed("local", call("ex_1", "s", 2)), warm, Listed("cold", away=True))
    return {tier.name: tier for tier in every}


async def test_a_link_in_one_tier_leads_to_rows_of_all() -> None:
    """What only one tier knows is asked of the others too; of each row the newest counts."""
    found = await gather(tiers(), Selection(customers=frozenset({"cu_1"})))

    assert (frozenset({"s"}), {"cold": "cold is away."}) == (found.which.sessions, found.away)
    assert {"local": ["ex_1"], "warm": ["cu_1:s", "ex_1"]} == {
        name: [row.id for row in rows] for name, rows in found.rows.items()
    }
    assert [("cu_1:s", 1), ("ex_1", 2)] == [(row.id, row.version) for row in found.newest]


async def test_a_tier_that_is_away_keeps_no_other_from_being_erased() -> None:
    """It is named, for whoever has to do it again."""
    every = tiers()
    gone, away = await erase(every, Selection(sessions=frozenset({"s"})))
    left, unsearched = await search(every, ["ex_1", "ex_2"])

    assert ({"local": {Table.EXCHANGES: 1}, "warm": {Table.EXCHANGES: 2}}, {"cold": "cold is away."}) == (gone, away)
    assert ({"local": {"ex_1": 0, "ex_2": 0}, "warm": {"ex_1": 0, "ex_2": 1}}, away) == (left, unsearched)
